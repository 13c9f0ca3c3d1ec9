"""The records of `__consumer_offsets`: Kafka's own keys and values, byte for byte.

A key begins with a 16-bit type, which is what Kafka calls the version of the key: 0 and 1 an offset commit, 2 the
metadata of a classic group, 3 to 8 and 16 the parts of a KIP-848 group. A value begins with the 16-bit version of its
schema; no value is a tombstone. Values are written in the versions that Kafka 4 writes (offset commits v4, and v3
where the id of the topic is not known; group metadata v3), and read in every version.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, TypeAlias
from uuid import UUID

from ottla.broker.coordination import BadRecord, Reader, Writer
from ottla.broker.groups import consumer

OFFSET_COMMIT: Final = 1
GROUP_METADATA: Final = 2

_OFFSET_COMMIT_VALUE: Final = 3
_OFFSET_COMMIT_VALUE_WITH_TOPIC_ID: Final = 4
_OFFSET_COMMIT_VALUE_WITH_EXPIRY: Final = 1
_GROUP_METADATA_VALUE: Final = 3
_LAST_VALUE: Final = 4
_TOPIC_ID_TAG: Final = 0
_ZERO_ID: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class OffsetKey:
    """Where a group's position in one partition is kept."""

    group: str
    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class OffsetValue:
    """A committed position. `leader_epoch` is -1 when unknown; times are ms since the epoch.

    `expires_at` is only set by OffsetCommit requests of before KIP-211 (-1: by the broker's retention). `topic_id` is
    zero when unknown, as it always is beside an expiry.
    """

    offset: int
    leader_epoch: int
    metadata: str
    committed_at: int
    expires_at: int = -1
    topic_id: UUID = _ZERO_ID

    def is_of(self, topic_id: UUID) -> bool:
        """Whether it may be a position in this very topic, and not only in one of the same name."""
        return self.topic_id in (topic_id, _ZERO_ID)


@dataclass(frozen=True, slots=True)
class GroupKey:
    """Where a classic group is kept."""

    group: str


@dataclass(frozen=True, slots=True)
class StoredMember:
    """A member of a stable classic group. Timeouts in ms."""

    id: str
    instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    subscription: bytes
    assignment: bytes


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """A classic group in the generation that was last written. `since` is when it came to its state, ms."""

    protocol_type: str
    generation: int
    protocol: str | None
    leader: str | None
    since: int
    members: tuple[StoredMember, ...]


Key: TypeAlias = OffsetKey | GroupKey | consumer.Key
Value: TypeAlias = OffsetValue | StoredGroup | consumer.Value


@dataclass(frozen=True, slots=True)
class Entry:
    """One record; `value` of None is a tombstone."""

    key: Key
    value: Value | None


def encode(entry: Entry) -> tuple[bytes, bytes | None]:
    """Key and value of the record."""
    return encode_key(entry.key), encode_value(entry.value)


def encode_key(key: Key) -> bytes:
    writer = Writer()
    if isinstance(key, OffsetKey):
        writer.int16(OFFSET_COMMIT)
        writer.string(key.group)
        writer.string(key.topic)
        writer.int32(key.partition)
    elif not isinstance(key, GroupKey):
        return consumer.encode_key(key)
    else:
        writer.int16(GROUP_METADATA)
        writer.string(key.group)
    return writer.done()


def encode_value(value: Value | None) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, OffsetValue):
        return _encode_offset(value)
    return _encode_group(value) if isinstance(value, StoredGroup) else consumer.encode_value(value)


def _encode_offset(value: OffsetValue) -> bytes:
    writer = Writer()
    if value.expires_at >= 0:
        # v1 is the only version with an expiry; it has no leader epoch.
        writer.int16(_OFFSET_COMMIT_VALUE_WITH_EXPIRY)
        writer.int64(value.offset)
        writer.string(value.metadata)
        writer.int64(value.committed_at)
        writer.int64(value.expires_at)
        return writer.done()
    known = value.topic_id != _ZERO_ID
    writer.int16(_OFFSET_COMMIT_VALUE_WITH_TOPIC_ID if known else _OFFSET_COMMIT_VALUE)
    writer.flexible = known
    writer.int64(value.offset)
    writer.int32(value.leader_epoch)
    writer.string(value.metadata)
    writer.int64(value.committed_at)
    if known:
        writer.tagged_fields({_TOPIC_ID_TAG: value.topic_id.bytes})
    return writer.done()


def _encode_group(value: StoredGroup) -> bytes:
    writer = Writer()
    writer.int16(_GROUP_METADATA_VALUE)
    writer.string(value.protocol_type)
    writer.int32(value.generation)
    writer.nullable_string(value.protocol)
    writer.nullable_string(value.leader)
    writer.int64(value.since)
    writer.int32(len(value.members))
    for member in value.members:
        writer.string(member.id)
        writer.nullable_string(member.instance_id)
        writer.string(member.client_id)
        writer.string(member.client_host)
        writer.int32(member.rebalance_timeout_ms)
        writer.int32(member.session_timeout_ms)
        writer.blob(member.subscription)
        writer.blob(member.assignment)
    return writer.done()


def decode(key: bytes, value: bytes | None) -> Entry | None:
    """The record, or None for a type that is not known here: Kafka's newer ones are passed over (as Kafka does).

    Raises BadRecord for what cannot be read, a known type in an unknown version included.
    """
    reader = Reader(key)
    kind = reader.int16()
    if kind in (0, OFFSET_COMMIT):
        offset_key = OffsetKey(reader.string(), reader.string(), reader.int32())
        return Entry(offset_key, None if value is None else _decode_offset(value))
    if kind == GROUP_METADATA:
        return Entry(GroupKey(reader.string()), None if value is None else _decode_group(value))
    if kind in consumer.KEYS:
        key_of_consumers = consumer.decode_key(kind, reader)
        return Entry(key_of_consumers, None if value is None else consumer.decode_value(key_of_consumers, value))
    return None


def _version(reader: Reader) -> int:
    version = reader.int16()
    if not 0 <= version <= _LAST_VALUE:
        raise BadRecord(f"value version {version}")
    return version


def _decode_offset(data: bytes) -> OffsetValue:
    reader = Reader(data)
    version = _version(reader)
    reader.flexible = version >= 4
    offset = reader.int64()
    epoch = reader.int32() if version >= 3 else -1
    metadata = reader.string()
    committed_at = reader.int64()
    expires_at = reader.int64() if version == 1 else -1
    value = OffsetValue(offset, epoch, metadata, committed_at, expires_at)
    topic_id = reader.tagged_fields().get(_TOPIC_ID_TAG)
    return value if topic_id is None else replace(value, topic_id=UUID(bytes=topic_id))


def _decode_group(data: bytes) -> StoredGroup:
    reader = Reader(data)
    version = _version(reader)
    reader.flexible = version >= 4
    protocol_type = reader.string()
    generation = reader.int32()
    protocol = reader.nullable_string()
    leader = reader.nullable_string()
    since = reader.int64() if version >= 2 else -1
    members = tuple(_decode_member(reader, version) for _ in range(reader.count()))
    reader.tagged_fields()
    return StoredGroup(protocol_type, generation, protocol, leader, since, members)


def _decode_member(reader: Reader, version: int) -> StoredMember:
    member_id = reader.string()
    instance_id = reader.nullable_string() if version >= 3 else None
    client_id, client_host = reader.string(), reader.string()
    rebalance = reader.int32() if version >= 1 else -1
    session = reader.int32()
    member = StoredMember(
        member_id,
        instance_id,
        client_id,
        client_host,
        session if rebalance < 0 else rebalance,
        session,
        reader.blob(),
        reader.blob(),
    )
    reader.tagged_fields()
    return member
