"""What the members of a group tell each other through the coordinator, which does not look into it.

Kafka's ConsumerProtocolSubscription (v0-v3) and ConsumerProtocolAssignment (v0-v3), and the user data of its sticky
assignor. A newer version only adds fields at the end, so that whatever follows the known ones is left alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from ottla.client.structs import TopicPartition

VERSION = 3
_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">i")

Partitions = tuple[TopicPartition, ...]


class BadMetadata(Exception):
    """Bytes that are no subscription or assignment."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What one member tells the leader: its topics, and what it owns, as of which generation (-1: not known)."""

    topics: tuple[str, ...]
    owned: Partitions = ()
    generation: int = -1
    user_data: bytes | None = None
    rack: str | None = None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size < 0 or size > self.left:
            raise BadMetadata(f"{size} bytes wanted, {self.left} left")
        self._at += size
        return self._data[self._at - size : self._at]

    def int16(self) -> int:
        return int(_INT16.unpack(self.take(2))[0])

    def int32(self) -> int:
        return int(_INT32.unpack(self.take(4))[0])

    def string(self) -> str:
        found = self.nullable()
        if found is None:
            raise BadMetadata("null where a name is expected")
        return found

    def nullable(self) -> str | None:
        size = self.int16()
        if size == -1:
            return None
        try:
            return self.take(size).decode()
        except UnicodeDecodeError as error:
            raise BadMetadata(str(error)) from error

    def bytes(self) -> bytes | None:
        size = self.int32()
        return None if size == -1 else self.take(size)

    def count(self, smallest: int) -> int:
        """The length of an array whose elements take at least `smallest` bytes."""
        count = self.int32()
        if count < 0 or count * smallest > self.left:
            raise BadMetadata(f"an array of {count} in {self.left} bytes")
        return count

    def partitions(self) -> Partitions:
        found = []
        for _ in range(self.count(6)):
            topic = self.string()
            found += [TopicPartition(topic, self.int32()) for _ in range(self.count(4))]
        return tuple(found)


def _string(text: str | None) -> bytes:
    if text is None:
        return _INT16.pack(-1)
    data = text.encode()
    return _INT16.pack(len(data)) + data


def _bytes(data: bytes | None) -> bytes:
    return _INT32.pack(-1) if data is None else _INT32.pack(len(data)) + data


def _partitions(partitions: Iterable[TopicPartition]) -> bytes:
    topics: dict[str, list[int]] = {}
    for topic, index in sorted(partitions):
        topics.setdefault(topic, []).append(index)
    rows = [
        _string(topic) + _INT32.pack(len(indexes)) + struct.pack(f">{len(indexes)}i", *indexes)
        for topic, indexes in topics.items()
    ]
    return _INT32.pack(len(rows)) + b"".join(rows)


def encode_subscription(subscription: Subscription) -> bytes:
    """In version 3; what older members do not know is at its end."""
    topics = b"".join(_string(topic) for topic in subscription.topics)
    return b"".join(
        (
            _INT16.pack(VERSION),
            _INT32.pack(len(subscription.topics)) + topics,
            _bytes(subscription.user_data),
            _partitions(subscription.owned),
            _INT32.pack(subscription.generation),
            _string(subscription.rack),
        )
    )


def decode_subscription(data: bytes) -> Subscription:
    """Of any version. Raises BadMetadata."""
    reader = _Reader(data)
    version = reader.int16()
    if version < 0:
        raise BadMetadata(f"version {version}")
    topics = tuple(reader.string() for _ in range(reader.count(2)))
    user_data = reader.bytes()
    owned = reader.partitions() if version >= 1 and reader.left else ()
    generation = reader.int32() if version >= 2 and reader.left else -1
    rack = reader.nullable() if version >= 3 and reader.left else None
    return Subscription(topics, owned, generation, user_data, rack)


def encode_assignment(partitions: Iterable[TopicPartition], user_data: bytes | None = None) -> bytes:
    """What the leader gives to one member."""
    return _INT16.pack(VERSION) + _partitions(partitions) + _bytes(user_data)


def decode_assignment(data: bytes) -> Partitions:
    """The partitions of an assignment of any version; no bytes are none. Raises BadMetadata."""
    if not data:
        return ()
    reader = _Reader(data)
    if reader.int16() < 0:
        raise BadMetadata("negative version")
    return reader.partitions()


def encode_sticky(owned: Iterable[TopicPartition], generation: int) -> bytes:
    """User data of the (eager) sticky assignor: what the member had, and in which generation."""
    return _partitions(owned) + _INT32.pack(generation)


def decode_sticky(data: bytes) -> tuple[Partitions, int]:
    """The older form of it has no generation: -1. Raises BadMetadata."""
    reader = _Reader(data)
    owned = reader.partitions()
    return owned, reader.int32() if reader.left else -1
