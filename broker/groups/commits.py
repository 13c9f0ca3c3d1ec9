"""Commits of offsets: who may commit, plainly or as a part of a transaction, and what is written for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from kio.schema.errors import ErrorCode

from ottla.broker.coordination import InTransaction
from ottla.broker.groups import classic
from ottla.broker.groups.changes import settle
from ottla.broker.groups.classic import ClassicGroup, Effects, Now
from ottla.broker.groups.consumer_groups import ConsumerGroups
from ottla.broker.groups.offsets import At, OffsetStore, Position, value_of
from ottla.broker.groups.records import Entry, OffsetKey
from ottla.broker.groups.turns import Refuse


class Owner(Protocol):
    """What is needed of the shard."""

    @property
    def groups(self) -> dict[str, ClassicGroup]: ...
    @property
    def offsets(self) -> OffsetStore: ...
    @property
    def consumers(self) -> ConsumerGroups: ...
    def now(self) -> Now: ...
    def clock(self) -> int: ...
    def carry_out(self, group: ClassicGroup, effects: Effects) -> None: ...
    def write(
        self,
        entries: Sequence[Entry],
        done: Refuse,
        decided: Refuse | None = None,
        *,
        within: InTransaction | None = None,
    ) -> None: ...


class Commits:
    """Of the groups of one shard."""

    def __init__(self, shard: Owner) -> None:
        self._shard = shard
        self._undecided_soon: Counter[OffsetKey] = Counter()

    # Who may

    def check_fetch(self, group_id: str, member_id: str | None, member_epoch: int) -> ErrorCode:
        """Whether the group's offsets may be read. Members of classic groups have no epoch, and need none."""
        found = self._shard.consumers.groups.get(group_id)
        if found is None or (member_id is None and member_epoch < 0):
            return ErrorCode.none
        return self._shard.consumers.check_epoch(found, member_id, member_epoch)

    def check(self, group_id: str, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
        """Whether the member may commit; a group that does not exist takes commits of those who have no generation."""
        shard = self._shard
        found = shard.consumers.groups.get(group_id)
        if found is not None:
            return shard.consumers.check_epoch(found, member_id, generation)
        group = shard.groups.get(group_id)
        if group is not None:
            error, effects = classic.check_commit(group, member_id, instance_id, generation, shard.now())
            shard.carry_out(group, effects)
            return error
        if generation < 0:
            return ErrorCode.none
        return ErrorCode.unknown_member_id if group_id in shard.offsets else ErrorCode.illegal_generation

    def check_in_transaction(
        self, group_id: str, member_id: str, instance_id: str | None, generation: int
    ) -> ErrorCode:
        """The same for a commit as a part of a transaction (KIP-447). Who does not say who it is may always commit: the
        producer's own epoch fences it."""
        nobody = generation < 0 and not member_id and instance_id is None
        found = self._shard.consumers.groups.get(group_id)
        if found is not None:
            error = ErrorCode.none if nobody else self._shard.consumers.check_epoch(found, member_id, generation)
            # TxnOffsetCommit has no word for a stale epoch.
            return ErrorCode.illegal_generation if error is ErrorCode.stale_member_epoch else error
        group = self._shard.groups.get(group_id)
        if group is not None:
            return classic.check_commit_in_transaction(group, member_id, instance_id, generation)
        return ErrorCode.none if generation < 0 else ErrorCode.illegal_generation

    # What is written

    def commit(self, group_id: str, positions: Sequence[Position], keep_ms: int) -> asyncio.Future[ErrorCode]:
        """Write the positions down; the future says when they are committed, and so would survive any failover."""
        future: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()
        self._shard.write(self._entries(group_id, positions, keep_ms), partial(settle, future))
        return future

    def commit_in_transaction(
        self, group_id: str, positions: Sequence[Position], within: InTransaction
    ) -> asyncio.Future[ErrorCode]:
        """Write the positions down as a part of a transaction: they count once that has committed."""
        entries = self._entries(group_id, positions, -1)
        keys = [OffsetKey(group_id, each.topic, each.partition) for each in positions]
        self._undecided_soon.update(keys)
        future: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()

        def decided(_error: ErrorCode) -> None:
            self._undecided_soon -= Counter(keys)

        self._shard.write(entries, partial(settle, future), decided, within=within)
        return future

    def _entries(self, group_id: str, positions: Sequence[Position], keep_ms: int) -> list[Entry]:
        now_ms = self._shard.clock()
        return [
            Entry(OffsetKey(group_id, each.topic, each.partition), value_of(each, now_ms, keep_ms))
            for each in positions
        ]

    def is_undecided(self, group_id: str, at: At) -> bool:
        """Whether the outcome of a transaction decides on that position, one that is just being written included."""
        return self._shard.offsets.is_undecided(group_id, at) or OffsetKey(group_id, *at) in self._undecided_soon
