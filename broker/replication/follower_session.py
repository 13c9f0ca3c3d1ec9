"""The follower's side of an incremental fetch session (KIP-227): which partitions go into the next request. Pure.

A request costs what changed since the last one, not the number of partitions.
"""

from __future__ import annotations

from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.wire import FetchPartition

Key = tuple[int, int]
"""(topic id as a number, since the hash of a UUID is slow; partition index)."""

Topics = list[tuple[UUID, list[FetchPartition]]]
Forgotten = list[tuple[UUID, list[int]]]

SESSION_ERRORS = frozenset(
    {
        ErrorCode.fetch_session_id_not_found,
        ErrorCode.invalid_fetch_session_epoch,
        ErrorCode.fetch_session_topic_id_error,
    }
)
_MAX_EPOCH = 2**31 - 1


def key_of(topic_id: UUID, index: int) -> Key:
    return (topic_id.int, index)


class FollowerSession:
    """`id` and `epoch` go into the next request; epoch 0 asks for a new session, with all partitions, for `id`.
    `wanted` has those partitions, each with its topic id and position."""

    def __init__(self) -> None:
        self.id = 0
        self.epoch = 0
        self.wanted: dict[Key, tuple[UUID, FetchPartition]] = {}
        self._changed: dict[Key, None] = {}
        self._forgotten: dict[Key, UUID] = {}

    def want(self, topic_id: UUID, position: FetchPartition) -> None:
        """Fetch the partition from this position from now on."""
        key = (topic_id.int, position.partition)
        known = self.wanted.get(key)
        if known is not None and known[1] == position:
            return
        self.wanted[key] = (topic_id, position)
        self._changed[key] = None
        if self._forgotten:
            self._forgotten.pop(key, None)

    def forget(self, topic_id: UUID, index: int) -> None:
        """Fetch the partition no more."""
        key = key_of(topic_id, index)
        if self.wanted.pop(key, None) is not None:
            self._changed.pop(key, None)
            self._forgotten[key] = topic_id

    def request(self) -> tuple[Topics, Forgotten]:
        """What to name in the next request. To be followed by `answered` or `reset`."""
        topics: dict[int, tuple[UUID, list[FetchPartition]]] = {}
        for key in self._changed if self.epoch else self.wanted:
            topic_id, position = self.wanted[key]
            number = key[0]
            if number in topics:
                topics[number][1].append(position)
            else:
                topics[number] = (topic_id, [position])
        self._changed = {}
        return list(topics.values()), self._forget() if self._forgotten else []

    def _forget(self) -> Forgotten:
        forgotten: dict[int, tuple[UUID, list[int]]] = {}
        for (number, index), topic_id in self._forgotten.items() if self.epoch else ():
            forgotten.setdefault(number, (topic_id, []))[1].append(index)
        self._forgotten = {}
        return list(forgotten.values())

    def answered(self, session_id: int) -> None:
        """The request was answered without an error. A leader that gives no session is asked for all each time."""
        self.id = session_id
        if session_id == 0:
            self.reset()
        else:
            self.epoch = 1 if self.epoch == _MAX_EPOCH else self.epoch + 1

    def reset(self) -> None:
        """The session is of no more use: the next request asks for a new one, and names the old one so that the leader
        forgets it at once."""
        self.epoch = 0
        self._changed = {}
        self._forgotten = {}
