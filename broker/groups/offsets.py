"""The committed offsets of the groups of one shard: what is stored, what may be stored, what has grown old.

Pure: only `replay` changes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ottla.broker.groups.records import OffsetKey, OffsetValue

At: TypeAlias = tuple[str, int]
"""(topic, partition)"""

NO_OFFSETS: Mapping[At, OffsetValue] = {}


class Position(NamedTuple):
    """One row of an OffsetCommit request."""

    topic: str
    partition: int
    offset: int
    leader_epoch: int
    metadata: str | None


class OffsetStore:
    """Committed and replicated positions, by group."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[At, OffsetValue]] = {}

    def replay(self, key: OffsetKey, value: OffsetValue | None) -> None:
        """A committed record, in the live path and on recovery alike."""
        if value is not None:
            self._groups.setdefault(key.group, {})[key.topic, key.partition] = value
            return
        rows = self._groups.get(key.group)
        if rows is not None and rows.pop((key.topic, key.partition), None) is not None and not rows:
            del self._groups[key.group]

    def __contains__(self, group: object) -> bool:
        return group in self._groups

    def __iter__(self) -> Iterator[str]:
        """Groups that have offsets."""
        return iter(self._groups)

    def of(self, group: str) -> Mapping[At, OffsetValue]:
        """All positions of a group; not to be kept across events."""
        return self._groups.get(group, NO_OFFSETS)


def value_of(position: Position, now_ms: int, keep_ms: int) -> OffsetValue:
    """The record's value; `keep_ms` is the request's own retention (-1: the broker's), of before KIP-211."""
    expires_at = -1 if keep_ms < 0 else now_ms + keep_ms
    return OffsetValue(position.offset, position.leader_epoch, position.metadata or "", now_ms, expires_at)


@dataclass(frozen=True, slots=True)
class Standing:
    """What retention asks about a group. `protocol_type` is None for one that never had members (or is not known).

    `subscribed` are the topics that its members read, None when that cannot be told. `since` is when it came to be
    empty, ms since the epoch (-1: unknown).
    """

    protocol_type: str | None
    empty: bool
    stable: bool
    since: int
    subscribed: frozenset[str] | None


def expired(rows: Mapping[At, OffsetValue], standing: Standing, now_ms: int, retention_ms: int) -> Sequence[At]:
    """The positions that are given up (KIP-211).

    A group that has members keeps what they may come back to: all, or for consumers whose topics are known what
    belongs to those topics. A group that lost its members keeps all for the retention time after that, and what was
    committed since then (by hand) for as long again; one that never had any, for the retention time after each commit.
    """
    if standing.protocol_type is None:
        return [at for at, value in rows.items() if _old(value, value.committed_at, now_ms, retention_ms)]
    if standing.empty:
        return [
            at
            for at, value in rows.items()
            if _old(value, max(standing.since, value.committed_at), now_ms, retention_ms)
        ]
    if standing.stable and standing.subscribed is not None:
        return [
            at
            for at, value in rows.items()
            if at[0] not in standing.subscribed and _old(value, value.committed_at, now_ms, retention_ms)
        ]
    return ()


def _old(value: OffsetValue, since: int, now_ms: int, retention_ms: int) -> bool:
    if value.expires_at >= 0:
        return value.expires_at <= now_ms
    return since + retention_ms <= now_ms
