"""The groups of one partition of `__consumer_offsets`, for as long as this broker leads it.

Events go to the pure machines; what they ask for (answers, records, the next look at the clock) is carried out here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.groups import classic
from ottla.broker.groups.classic import Answer, ClassicGroup, Effects, Identity, Now, State, Write
from ottla.broker.groups.config import GroupConfig
from ottla.broker.groups.offsets import At, OffsetStore, Position, Standing, expired, value_of
from ottla.broker.groups.records import Entry, GroupKey, OffsetKey, OffsetValue, StoredGroup
from ottla.broker.groups.shard_log import Appender, ShardLog
from ottla.broker.groups.tickets import Tickets
from ottla.broker.groups.views import OFFSETS_ONLY, Described, Overview, describe, overview
from ottla.broker.replication import Partition

log = structlog.get_logger(__name__)

MAX_TRANSIENT = 10_000
"""Groups of one shard that exist only in memory: someone asked to join, and nothing of it was written yet."""
MAX_PENDING = 50_000
"""Member ids of one shard that were handed out and not used yet (KIP-394)."""
MAX_BATCH = 500
"""Tombstones that are written in one batch."""

JoinRequest = Callable[[int], classic.Join]
SyncRequest = Callable[[int], classic.Sync]


class ShardHost(Protocol):
    """What a shard needs of the coordinator."""

    @property
    def config(self) -> GroupConfig: ...
    @property
    def replicas(self) -> Appender: ...
    def now(self) -> Now: ...
    def clock(self) -> int: ...
    def max_bytes(self) -> int: ...
    def wake(self, shard: Shard, group: str, at: float) -> None: ...
    def shard_lost(self, shard: Shard) -> None: ...


class Shard:
    """`log.ready` once it serves. Every method is one step; what takes longer comes as a future."""

    def __init__(self, partition: Partition, host: ShardHost) -> None:
        self.offsets = OffsetStore()
        self.groups: dict[str, ClassicGroup] = {}
        self.tickets = Tickets()
        self.failed = False
        self.commits = 0
        self.rebalances = 0
        self._host = host
        self._stored: dict[str, StoredGroup] = {}
        self._writing: Counter[str] = Counter()
        self._transient = 0
        self._pending = 0
        self.log = ShardLog(
            partition,
            host.replicas,
            clock=host.clock,
            max_bytes=host.max_bytes,
            timeout_s=host.config.offsets_commit_timeout_ms / 1000,
            replay=self._replay,
            loaded=self._loaded,
            lost=self._lost,
        )

    # Log

    def _replay(self, entry: Entry) -> None:
        """The one place that changes what is stored."""
        key, value = entry.key, entry.value
        if isinstance(key, OffsetKey):
            assert value is None or isinstance(value, OffsetValue)
            self.offsets.replay(key, value)
            return
        assert value is None or isinstance(value, StoredGroup)
        if not self.log.ready:
            if value is None:
                self._stored.pop(key.group, None)
            else:
                self._stored[key.group] = value
        else:
            self._replay_group(key.group, value)

    def _replay_group(self, group_id: str, value: StoredGroup | None) -> None:
        group = self.groups.get(group_id)
        if group is None:
            return
        self._transient -= group.stored is None
        if value is None:
            self._pending -= len(group.pending)
            del self.groups[group_id]
        else:
            group.replay(value)

    def _loaded(self) -> None:
        now = self._host.now()
        for group_id, stored in self._stored.items():
            group = self._make(group_id)
            group.replay(stored)
            self._recover(group, now)
        self._stored.clear()
        log.info(
            "shard_loaded",
            partition=self.log.partition.index,
            leader_epoch=self.log.epoch,
            groups=len(set(self.groups).union(self.offsets)),
        )

    def _recover(self, group: ClassicGroup, now: Now) -> None:
        group.recover(now)
        deadline = group.next_deadline()
        if deadline is not None:
            self._host.wake(self, group.id, deadline)

    def _lost(self) -> None:
        self.tickets.refuse_all(ErrorCode.not_coordinator)
        self._host.shard_lost(self)

    def close(self) -> None:
        self.log.close()

    def _make(self, group_id: str) -> ClassicGroup:
        config = self._host.config
        group = self.groups[group_id] = ClassicGroup(
            group_id, config.group_max_size, config.group_initial_rebalance_delay_ms / 1000
        )
        return group

    # Questions

    def exists(self, group_id: str) -> bool:
        return group_id in self.offsets or group_id in self.groups

    def ids(self) -> Iterable[str]:
        return dict.fromkeys([*self.groups, *self.offsets])

    def overview(self) -> list[Overview]:
        rows = [overview(group) for group in self.groups.values() if not group.forgettable]
        rows += [Overview(each, "", State.EMPTY.value, "classic") for each in self.offsets if each not in self.groups]
        return rows

    def describe(self, group_id: str) -> Described | None:
        """None for a group that does not exist."""
        group = self.groups.get(group_id)
        if group is None:
            return OFFSETS_ONLY if group_id in self.offsets else None
        return None if group.state is State.DEAD else describe(group)

    def topics_in_use(self, group_id: str) -> frozenset[str] | ErrorCode:
        """The topics whose offsets must not be deleted, or GROUP_ID_NOT_FOUND, or NON_EMPTY_GROUP (KIP-496)."""
        group = self.groups.get(group_id)
        if group is None:
            return frozenset() if group_id in self.offsets else ErrorCode.group_id_not_found
        if group.state is State.DEAD:
            return ErrorCode.group_id_not_found
        if group.state is State.EMPTY:
            return frozenset()
        if group.protocol_type != classic.CONSUMER:
            return ErrorCode.non_empty_group
        subscribed = group.subscribed()
        # Of members whose metadata cannot be read, any topic may be theirs.
        return frozenset(topic for topic, _ in self.offsets.of(group_id)) if subscribed is None else subscribed

    def check_fetch(self, group_id: str, member_id: str | None, member_epoch: int) -> ErrorCode:
        """Whether the group's offsets may be read. Members of classic groups have no epoch, and need none."""
        return ErrorCode.none

    # Members

    def join(
        self, group_id: str, may_create: bool, request: JoinRequest, refuse: Callable[[ErrorCode], Answer]
    ) -> asyncio.Future[Answer] | Answer:
        group = self.groups.get(group_id)
        if group is None:
            if not may_create:
                return refuse(ErrorCode.unknown_member_id)
            if self._transient >= MAX_TRANSIENT:
                return refuse(ErrorCode.coordinator_not_available)
            group = self._make(group_id)
            self._transient += 1
        elif self._pending >= MAX_PENDING and may_create:
            return refuse(ErrorCode.coordinator_not_available)
        ticket, future = self.tickets.open(refuse)
        before = len(group.pending)
        self._carry_out(group, classic.join(group, request(ticket), self._host.now()), before)
        return future

    def sync(
        self, group_id: str, request: SyncRequest, refuse: Callable[[ErrorCode], Answer]
    ) -> asyncio.Future[Answer] | Answer:
        group = self.groups.get(group_id)
        if group is None:
            return refuse(ErrorCode.unknown_member_id)
        ticket, future = self.tickets.open(refuse)
        self._carry_out(group, classic.sync(group, request(ticket), self._host.now()))
        return future

    def heartbeat(self, group_id: str, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
        group = self.groups.get(group_id)
        if group is None:
            return ErrorCode.unknown_member_id
        error, effects = classic.heartbeat(group, member_id, instance_id, generation, self._host.now())
        self._carry_out(group, effects)
        return error

    def leave(self, group_id: str, identities: Sequence[Identity]) -> list[ErrorCode] | ErrorCode:
        group = self.groups.get(group_id)
        if group is None:
            return ErrorCode.unknown_member_id
        before = len(group.pending)
        errors, effects = classic.leave(group, identities, self._host.now())
        self._carry_out(group, effects, before)
        return errors

    def tick(self, group_id: str) -> None:
        """A deadline of the group has come, or may have."""
        group = self.groups.get(group_id)
        if group is not None and self.log.leads:
            before = len(group.pending)
            self._carry_out(group, classic.tick(group, self._host.now()), before)

    def _carry_out(self, group: ClassicGroup, effects: Effects, pending_before: int | None = None) -> None:
        for what in effects.writes:
            self._write([Entry(GroupKey(group.id), what.value)], partial(self._written, group, what))
        for ticket, answer in effects.replies:
            self.tickets.answer(ticket, answer)
        for event, facts in effects.news:
            self.rebalances += event == "group_rebalancing"
            log.info(event, group=group.id, **facts)
        if pending_before is not None:
            self._pending += len(group.pending) - pending_before
        if group.forgettable and self.groups.get(group.id) is group:
            del self.groups[group.id]
            self._transient -= 1
        elif effects.wake_at is not None:
            self._host.wake(self, group.id, effects.wake_at)

    def _written(self, group: ClassicGroup, what: Write, error: ErrorCode) -> None:
        if error is ErrorCode.message_too_large:
            error = ErrorCode.unknown_server_error
        if self.groups.get(group.id) is group and not self.log.closed:
            self._carry_out(group, classic.written(group, what, error, self._host.now()))

    def _write(self, entries: Sequence[Entry], done: Callable[[ErrorCode], None]) -> None:
        touched = {entry.key.group for entry in entries}
        self._writing.update(touched)

        def finished(error: ErrorCode) -> None:
            for group_id in touched:
                self._writing[group_id] -= 1
                if not self._writing[group_id]:
                    del self._writing[group_id]
            done(error)

        self.log.write(entries, finished)

    # Offsets

    def check_commit(self, group_id: str, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
        """Whether the member may commit; a group that does not exist takes commits of those who have no generation."""
        group = self.groups.get(group_id)
        if group is not None:
            error, effects = classic.check_commit(group, member_id, instance_id, generation, self._host.now())
            self._carry_out(group, effects)
            return error
        if generation < 0:
            return ErrorCode.none
        return ErrorCode.unknown_member_id if group_id in self.offsets else ErrorCode.illegal_generation

    def commit(self, group_id: str, positions: Sequence[Position], keep_ms: int) -> asyncio.Future[ErrorCode]:
        """Write the positions down; the future says when they are committed, and so would survive any failover."""
        now_ms = self._host.clock()
        entries = [
            Entry(OffsetKey(group_id, each.topic, each.partition), value_of(each, now_ms, keep_ms))
            for each in positions
        ]
        self.commits += len(entries)
        return self._written_later(entries)

    def _written_later(self, entries: Sequence[Entry]) -> asyncio.Future[ErrorCode]:
        future: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()
        self._write(entries, partial(_settle, future))
        return future

    async def settled(self) -> ErrorCode:
        """Until what was written so far is committed, so that the stored state has it."""
        if self.log.idle:
            return ErrorCode.none
        future: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()
        self.log.after(partial(_settle, future))
        return await future

    async def delete_offsets(self, group_id: str, wanted: Sequence[At]) -> ErrorCode:
        """Tombstones for what there is of it."""
        rows = self.offsets.of(group_id)
        return await self._bury([OffsetKey(group_id, *at) for at in wanted if at in rows])

    async def delete_group(self, group_id: str) -> ErrorCode:
        """A group without members, and all its offsets. GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP, or what writing gives."""
        error = await self.settled()
        if error is not ErrorCode.none:
            return error
        group = self.groups.get(group_id)
        if group is None and group_id not in self.offsets:
            return ErrorCode.group_id_not_found
        if group is not None:
            if group.state is State.DEAD:
                return ErrorCode.group_id_not_found
            if group.state is not State.EMPTY:
                return ErrorCode.non_empty_group
        return await self._drop_group(group_id, group)

    async def _drop_group(self, group_id: str, group: ClassicGroup | None) -> ErrorCode:
        """Nobody may join while its end is being written down."""
        if group is not None:
            group.go(State.DEAD, self._host.now())
        keys: list[OffsetKey | GroupKey] = [OffsetKey(group_id, *at) for at in self.offsets.of(group_id)]
        error = await self._bury([*keys, GroupKey(group_id)])
        if group is not None and error is not ErrorCode.none and self.groups.get(group_id) is group:
            self._pending -= len(group.pending)
            revived = self._make(group_id)
            revived.replay(group.stored)
            self._recover(revived, self._host.now())
        return error

    async def _bury(self, keys: Sequence[OffsetKey | GroupKey]) -> ErrorCode:
        for at in range(0, len(keys), MAX_BATCH):
            error = await self._written_later([Entry(key, None) for key in keys[at : at + MAX_BATCH]])
            if error is not ErrorCode.none:
                return error
        return ErrorCode.none

    # Retention

    def standing(self, group_id: str) -> Standing:
        group = self.groups.get(group_id)
        if group is None:
            return Standing(None, True, False, -1, None)
        return Standing(
            group.protocol_type,
            group.state is State.EMPTY,
            group.state is State.STABLE,
            group.since,
            group.subscribed(),
        )

    async def expire(self, now_ms: int) -> int:
        """Give up offsets that are older than the retention, and groups of which nothing is left. How many offsets."""
        retention_ms = self._host.config.offsets_retention_minutes * 60_000
        count = 0
        for group_id in tuple(self.ids()):
            if not self.log.ready or self._writing[group_id]:
                continue
            rows = self.offsets.of(group_id)
            gone = expired(rows, self.standing(group_id), now_ms, retention_ms)
            group = self.groups.get(group_id)
            empty = group is not None and group.state is State.EMPTY and not group.pending
            count += len(gone)
            if empty and len(gone) == len(rows):
                await self._drop_group(group_id, group)
            elif gone:
                await self._bury([OffsetKey(group_id, *at) for at in gone])
            await asyncio.sleep(0)
        if count:
            log.info("offsets_expired", partition=self.log.partition.index, offsets=count)
        return count

    async def forget_topics(self, topics: frozenset[str]) -> None:
        """The topics are deleted, and with them what was committed for them."""
        keys = {OffsetKey(group_id, *at) for group_id in self.offsets for at in self.offsets.of(group_id)}
        keys |= {entry.key for entry in self.log.in_flight if isinstance(entry.key, OffsetKey)}
        await self._bury(sorted((key for key in keys if key.topic in topics), key=repr))


def _settle(future: asyncio.Future[ErrorCode], error: ErrorCode) -> None:
    if not future.done():
        future.set_result(error)
