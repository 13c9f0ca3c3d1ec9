"""What classic members tell each other through the coordinator: ConsumerProtocolSubscription and -Assignment, v0-v3.

The coordinator looks into it only to move such members into a KIP-848 group, and back. Newer versions only add fields
at the end, so that what follows the known ones is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Final, TypeAlias

from ottla.broker.coordination import BadRecord, Reader, Writer

ByName: TypeAlias = frozenset[tuple[str, int]]
"""Partitions by the name of their topic."""

_OWNED, _GENERATION, _RACK = 1, 2, 3
NEWEST: Final = 3


@dataclass(frozen=True, slots=True)
class Subscription:
    """`owned` is what the member says to have; one of before v1 cannot say, and has given everything up to join."""

    version: int
    topics: tuple[str, ...]
    owned: ByName = frozenset()
    rack: str | None = None


def subscription_of(metadata: bytes) -> Subscription | None:
    """None for what is none."""
    reader = Reader(metadata)
    try:
        version = reader.int16()
        if version < 0:
            return None
        topics = tuple(reader.string() for _ in range(reader.count()))
        reader.nullable_blob()  # of the client's assignor
        owned = _partitions(reader) if version >= _OWNED else frozenset()
        if version >= _GENERATION:
            reader.int32()
        rack = reader.nullable_string() if version >= _RACK else None
    except BadRecord:
        return None
    return Subscription(version, topics, owned, rack or None)


def _partitions(reader: Reader) -> ByName:
    found = set()
    for _ in range(reader.count()):
        topic = reader.string()
        found |= {(topic, reader.int32()) for _ in range(reader.count())}
    return frozenset(found)


def assigned_in(assignment: bytes) -> ByName | None:
    """Nothing for no bytes, which is what a member has that never synced; None for what is no assignment."""
    if not assignment:
        return frozenset()
    reader = Reader(assignment)
    try:
        return None if reader.int16() < 0 else _partitions(reader)
    except BadRecord:
        return None


def assignment_bytes(partitions: Iterable[tuple[str, int]], version: int) -> bytes:
    """For a member that subscribed with this version."""
    writer = Writer()
    writer.int16(min(version, NEWEST))
    rows = [(topic, [index for _, index in each]) for topic, each in groupby(sorted(partitions), lambda at: at[0])]
    writer.count(len(rows))
    for topic, indexes in rows:
        writer.string(topic)
        writer.count(len(indexes))
        for index in indexes:
            writer.int32(index)
    writer.int32(-1)
    return writer.done()
