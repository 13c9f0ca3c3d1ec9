"""The committed offsets of the groups of one shard: what is stored, what may be stored, what has grown old.

Pure: only `replay` changes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias
from uuid import UUID

from ottla.broker.coordination import Place
from ottla.broker.groups.records import OffsetKey, OffsetValue

At: TypeAlias = tuple[str, int]
"""(topic, partition)"""

NO_OFFSETS: Mapping[At, OffsetValue] = {}


class Position(NamedTuple):
    """One row of an OffsetCommit request; `topic_id` is that of the topic that has the name now."""

    topic: str
    topic_id: UUID
    partition: int
    offset: int
    leader_epoch: int
    metadata: str | None


@dataclass(slots=True, eq=False)
class Undecided:
    """A position that a transaction will commit, or not. `place` is the offset of its record; `outdated`: the group has
    committed something later since."""

    value: OffsetValue
    place: int
    outdated: bool = False


class OffsetStore:
    """Committed and replicated positions, by group; and those of transactions whose outcome is not known yet (KIP-447).

    `undecided` has these by group and producer id: what else a producer does in the same transaction is elsewhere.
    """

    def __init__(self) -> None:
        self._groups: dict[str, dict[At, OffsetValue]] = {}
        self.undecided: dict[str, dict[int, dict[At, Undecided]]] = {}
        self._in: dict[int, dict[str, None]] = {}

    def replay(self, key: OffsetKey, value: OffsetValue | None, place: Place) -> None:
        """A committed record, in the live path and on recovery alike."""
        at = key.topic, key.partition
        if value is None:
            self._remove(key.group, at)
        elif place.producer_id < 0:
            self._put(key.group, at, value, place.offset)
        else:
            rows = self.undecided.setdefault(key.group, {}).setdefault(place.producer_id, {})
            rows[at] = Undecided(value, place.offset)
            self._in.setdefault(place.producer_id, {})[key.group] = None

    def _put(self, group: str, at: At, value: OffsetValue, place: int) -> None:
        self._groups.setdefault(group, {})[at] = value
        for rows in self.undecided.get(group, {}).values():
            if at in rows and rows[at].place < place:
                rows[at].outdated = True

    def _remove(self, group: str, at: At) -> None:
        """Also of transactions: who deletes an offset means whatever it will be."""
        rows = self._groups.get(group)
        if rows is not None and rows.pop(at, None) is not None and not rows:
            del self._groups[group]
        for producer_id, undecided in tuple(self.undecided.get(group, {}).items()):
            if undecided.pop(at, None) is not None and not undecided:
                self._forget(group, producer_id)

    def _forget(self, group: str, producer_id: int) -> None:
        producers = self.undecided[group]
        del producers[producer_id], self._in[producer_id][group]
        if not producers:
            del self.undecided[group]
        if not self._in[producer_id]:
            del self._in[producer_id]

    def end(self, producer_id: int, *, commit: bool) -> None:
        """A transaction has ended. Of two records of a position the later one counts, not the later end: it is what the
        log has of it after it was compacted."""
        for group in tuple(self._in.get(producer_id, ())):
            rows = self.undecided[group][producer_id]
            self._forget(group, producer_id)
            for at, row in rows.items():
                if commit and not row.outdated:
                    self._put(group, at, row.value, row.place)

    def is_undecided(self, group: str, at: At) -> bool:
        return any(at in rows for rows in self.undecided.get(group, {}).values())

    def known(self, group: str) -> Sequence[At]:
        """Every position of a group that is committed, or may come to be."""
        undecided = [at for rows in self.undecided.get(group, {}).values() for at in rows]
        return list(dict.fromkeys([*self.of(group), *undecided]))

    def __contains__(self, group: object) -> bool:
        return group in self._groups or group in self.undecided

    def __iter__(self) -> Iterator[str]:
        """Groups that have offsets, or may come to have some."""
        return iter(dict.fromkeys([*self._groups, *self.undecided]))

    def of(self, group: str) -> Mapping[At, OffsetValue]:
        """All positions of a group; not to be kept across events."""
        return self._groups.get(group, NO_OFFSETS)


def value_of(position: Position, now_ms: int, keep_ms: int) -> OffsetValue:
    """The record's value; `keep_ms` is the request's own retention (-1: the broker's), of before KIP-211."""
    what = position.offset, position.leader_epoch, position.metadata or "", now_ms
    return OffsetValue(*what, now_ms + keep_ms) if keep_ms >= 0 else OffsetValue(*what, topic_id=position.topic_id)


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
