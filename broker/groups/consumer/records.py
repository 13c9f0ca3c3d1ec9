"""The records of a KIP-848 group, with Kafka's own keys and values: a key type for each part of the state."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Final, TypeAlias
from uuid import UUID

from ottla.broker.coordination import BadRecord, Reader, Writer
from ottla.broker.groups.consumer.states import MemberState
from ottla.broker.groups.newcomers import size_of

Partitions: TypeAlias = frozenset[tuple[UUID, int]]
"""Partitions by topic id."""

NOTHING: Final[Partitions] = frozenset()

STABLE: Final = MemberState.STABLE
UNREVOKED: Final = MemberState.UNREVOKED_PARTITIONS
UNRELEASED: Final = MemberState.UNRELEASED_PARTITIONS


@dataclass(frozen=True, slots=True)
class EpochKey:
    """Type 3: the group, and its epoch."""

    group: str


@dataclass(frozen=True, slots=True)
class MemberKey:
    """Type 5: a member, and what it told of itself."""

    group: str
    member: str


@dataclass(frozen=True, slots=True)
class TargetEpochKey:
    """Type 6: the epoch that the target assignment was made for."""

    group: str


@dataclass(frozen=True, slots=True)
class TargetKey:
    """Type 7: what a member is to have."""

    group: str
    member: str


@dataclass(frozen=True, slots=True)
class CurrentKey:
    """Type 8: what a member has."""

    group: str
    member: str


@dataclass(frozen=True, slots=True)
class RegexKey:
    """Type 16: a regular expression that members subscribe to."""

    group: str
    regex: str


@dataclass(frozen=True, slots=True)
class Epoch:
    """`metadata_hash` tells whether the subscribed topics have changed; 0 where there is none."""

    epoch: int
    metadata_hash: int = 0


@dataclass(frozen=True, slots=True)
class ClassicFacts:
    """How a member of the classic protocol came into the group: its session, and its protocols with their metadata."""

    session_ms: int
    protocols: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class MemberFacts:
    """A member as it described itself. `rebalance_ms` is how long it may take to give up partitions.

    `classic` is None for one that speaks the protocol of KIP-848.
    """

    instance_id: str | None
    rack_id: str | None
    client_id: str
    client_host: str
    topics: tuple[str, ...]
    regex: str | None
    rebalance_ms: int
    assignor: str | None
    classic: ClassicFacts | None = None

    @property
    def size(self) -> int:
        """Bytes of what it sent."""
        said = () if self.classic is None else (part for protocol in self.classic.protocols for part in protocol)
        texts = (self.instance_id, self.rack_id, self.client_id, self.client_host, self.regex, self.assignor)
        return size_of((*texts, *self.topics, *said))


@dataclass(frozen=True, slots=True)
class TargetEpoch:
    epoch: int


@dataclass(frozen=True, slots=True)
class Target:
    partitions: Partitions


@dataclass(frozen=True, slots=True)
class Resolved:
    """The topics that match, by name and sorted. `version` is the offset of the metadata, `at_ms` the time of that."""

    topics: tuple[str, ...]
    version: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Current:
    """`epoch` is what the member must show; `previous` is taken once more when an answer was lost.

    `state` is STABLE, UNREVOKED (it has to give up `revoking` first) or UNRELEASED (it waits for others to give up).
    """

    epoch: int
    previous: int
    state: int
    assigned: Partitions
    revoking: Partitions


Key: TypeAlias = EpochKey | MemberKey | TargetEpochKey | TargetKey | CurrentKey | RegexKey
Value: TypeAlias = Epoch | MemberFacts | TargetEpoch | Target | Current | Resolved

KEYS: Final[dict[int, type[Key]]] = {
    3: EpochKey,
    5: MemberKey,
    6: TargetEpochKey,
    7: TargetKey,
    8: CurrentKey,
    16: RegexKey,
}
_TYPES = {key: number for number, key in KEYS.items()}
_VERSION = 0


def encode_key(key: Key) -> bytes:
    writer = Writer()
    writer.int16(_TYPES[type(key)])
    writer.string(key.group)
    if isinstance(key, MemberKey | TargetKey | CurrentKey):
        writer.string(key.member)
    elif isinstance(key, RegexKey):
        writer.string(key.regex)
    return writer.done()


def decode_key(kind: int, reader: Reader) -> Key:
    """The rest of a key after its type, which is one of `KEYS`."""
    group = reader.string()
    if kind == 3:
        return EpochKey(group)
    if kind == 6:
        return TargetEpochKey(group)
    member = reader.string()
    if kind == 16:
        return RegexKey(group, member)
    if kind == 5:
        return MemberKey(group, member)
    return TargetKey(group, member) if kind == 7 else CurrentKey(group, member)


def encode_value(value: Value) -> bytes:
    writer = Writer(flexible=True)
    writer.int16(_VERSION)
    if isinstance(value, Epoch):
        writer.int32(value.epoch)
        if value.metadata_hash:
            writer.varint(1)
            writer.varint(0)
            writer.varint(8)
            writer.int64(value.metadata_hash)
            return writer.done()
    elif isinstance(value, TargetEpoch):
        writer.int32(value.epoch)
    elif isinstance(value, Target):
        _write_partitions(writer, value.partitions)
    elif isinstance(value, Resolved):
        writer.count(len(value.topics))
        for topic in value.topics:
            writer.string(topic)
        writer.int64(value.version)
        writer.int64(value.at_ms)
    elif isinstance(value, Current):
        writer.int32(value.epoch)
        writer.int32(value.previous)
        writer.int8(value.state)
        _write_partitions(writer, value.assigned)
        _write_partitions(writer, value.revoking)
    else:
        _write_facts(writer, value)
        if value.classic is not None:
            writer.varint(1)
            writer.varint(0)
            classic = _encode_classic(value.classic)
            writer.varint(len(classic))
            return writer.done() + classic
    writer.no_tagged_fields()
    return writer.done()


def _write_facts(writer: Writer, value: MemberFacts) -> None:
    writer.nullable_string(value.instance_id)
    writer.nullable_string(value.rack_id)
    writer.string(value.client_id)
    writer.string(value.client_host)
    writer.count(len(value.topics))
    for topic in value.topics:
        writer.string(topic)
    writer.nullable_string(value.regex)
    writer.int32(value.rebalance_ms)
    writer.nullable_string(value.assignor)


def _encode_classic(value: ClassicFacts) -> bytes:
    """A nullable struct, which begins with a byte that says that it is there."""
    writer = Writer(flexible=True)
    writer.int8(1)
    writer.int32(value.session_ms)
    writer.count(len(value.protocols))
    for name, metadata in value.protocols:
        writer.string(name)
        writer.blob(metadata)
        writer.no_tagged_fields()
    writer.no_tagged_fields()
    return writer.done()


def _decode_classic(data: bytes | None) -> ClassicFacts | None:
    if data is None:
        return None
    reader = Reader(data, flexible=True)
    if reader.int8() < 0:
        return None
    session_ms, protocols = reader.int32(), []
    for _ in range(reader.count()):
        protocols.append((reader.string(), reader.blob()))
        reader.tagged_fields()
    return ClassicFacts(session_ms, tuple(protocols))


def by_topic(partitions: Iterable[tuple[UUID, int]]) -> list[tuple[UUID, list[int]]]:
    """In an order that does not depend on that of the set."""
    ordered = sorted(partitions, key=lambda each: (each[0].int, each[1]))
    return [(topic, [index for _, index in rows]) for topic, rows in groupby(ordered, key=lambda each: each[0])]


def _write_partitions(writer: Writer, partitions: Partitions) -> None:
    topics = by_topic(partitions)
    writer.count(len(topics))
    for topic, indexes in topics:
        writer.uuid(topic)
        writer.count(len(indexes))
        for index in indexes:
            writer.int32(index)
        writer.no_tagged_fields()


def _read_partitions(reader: Reader) -> Partitions:
    found = set()
    for _ in range(reader.count()):
        topic = reader.uuid()
        found |= {(topic, reader.int32()) for _ in range(reader.count())}
        reader.tagged_fields()
    return frozenset(found)


def decode_value(key: Key, data: bytes) -> Value:
    """Raises BadRecord."""
    reader = Reader(data, flexible=True)
    version = reader.int16()
    if version != _VERSION:
        raise BadRecord(f"value version {version}")
    if isinstance(key, EpochKey):
        epoch = reader.int32()
        found = reader.tagged_fields().get(0)
        return Epoch(epoch, 0 if found is None or len(found) != 8 else struct.unpack(">q", found)[0])
    if isinstance(key, TargetEpochKey):
        return TargetEpoch(reader.int32())
    if isinstance(key, TargetKey):
        return Target(_read_partitions(reader))
    if isinstance(key, RegexKey):
        names = tuple(sorted(reader.string() for _ in range(reader.count())))
        return Resolved(names, reader.int64(), reader.int64())
    if isinstance(key, CurrentKey):
        epoch, previous, state = reader.int32(), reader.int32(), reader.int8()
        return Current(epoch, previous, state, _read_partitions(reader), _read_partitions(reader))
    return MemberFacts(
        reader.nullable_string(),
        reader.nullable_string(),
        reader.string(),
        reader.string(),
        tuple(reader.string() for _ in range(reader.count())),
        reader.nullable_string(),
        reader.int32(),
        reader.nullable_string(),
        _decode_classic(reader.tagged_fields().get(0)),
    )
