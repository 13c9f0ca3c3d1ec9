"""The groups of one partition of `__consumer_offsets`, for as long as this broker leads it.

Events go to the pure machines; what they ask for (answers, records, the next look at the clock) is carried out here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.coordination import Appender, Codec, Confirmations, InTransaction, Place, ShardLog, Tickets
from ottla.broker.groups import classic
from ottla.broker.groups.changes import Changes, settle
from ottla.broker.groups.classic import Answer, ClassicGroup, Effects, Identity, Now, State, Write
from ottla.broker.groups.classic_members import ClassicMembers, Left
from ottla.broker.groups.commits import Commits
from ottla.broker.groups.config import GroupConfig, MemberTimes
from ottla.broker.groups.consumer import Beat, BeatAnswer, ConsumerGroup, Topic
from ottla.broker.groups.consumer_groups import ConsumerGroups
from ottla.broker.groups.newcomers import Excess, Group, Newcomers
from ottla.broker.groups.offsets import At, OffsetStore
from ottla.broker.groups.records import Entry, GroupKey, OffsetKey, OffsetValue, StoredGroup, decode, encode
from ottla.broker.replication import Partition

log = structlog.get_logger(__name__)

CODEC: Final = Codec(encode, decode)

JoinRequest = Callable[[int], classic.Join]
SyncRequest = Callable[[int], classic.Sync]


class ShardHost(Protocol):
    """What a shard needs of the coordinator."""

    @property
    def config(self) -> GroupConfig: ...
    @property
    def replicas(self) -> Appender: ...
    @property
    def newcomers(self) -> Newcomers: ...
    def now(self) -> Now: ...
    def clock(self) -> int: ...
    def max_bytes(self) -> int: ...
    def topics(self) -> Mapping[str, Topic]: ...
    def topics_version(self) -> int: ...
    def member_times(self, group_id: str) -> MemberTimes: ...
    def wake(self, shard: Shard, group: str, at: float) -> None: ...
    def forget(self, shard: Shard, group: str) -> None: ...
    def make_room(self, group: Group) -> None: ...
    def shard_lost(self, shard: Shard) -> None: ...


class Shard:
    """`log.ready` once it serves. Every method is one step; what takes longer comes as a future."""

    def __init__(self, partition: Partition, host: ShardHost) -> None:
        self.offsets = OffsetStore()
        self.groups: dict[str, ClassicGroup] = {}
        self.tickets: Tickets[Answer] = Tickets()
        self.failed = False
        self.rebalances = 0
        self._host = host
        self._stored: dict[str, StoredGroup] = {}
        self._writing: Counter[str] = Counter()
        self.consumers = ConsumerGroups(self)
        self.changes = Changes(self)
        self.commits = Commits(self)
        self._classic_members = ClassicMembers(self.consumers, self)
        self.log = ShardLog(
            partition,
            host.replicas,
            CODEC,
            clock=host.clock,
            max_bytes=host.max_bytes,
            timeout_s=host.config.offsets_commit_timeout_ms / 1000,
            replay=self._replay,
            ended=lambda producer_id, marker: self.offsets.end(producer_id, commit=marker.commit),
            loaded=self._loaded,
            lost=self._lost,
        )
        self.confirmations = Confirmations(self.log)

    # Log

    def _replay(self, entry: Entry, place: Place) -> None:
        """The one place that changes what is stored."""
        key, value = entry.key, entry.value
        if isinstance(key, OffsetKey):
            assert value is None or isinstance(value, OffsetValue)
            self.offsets.replay(key, value, place)
        elif not isinstance(key, GroupKey):
            assert value is None or not isinstance(value, OffsetValue | StoredGroup)
            self.consumers.replay(key, value)
        else:
            assert value is None or isinstance(value, StoredGroup)
            self._replay_group(key.group, value)

    def _replay_group(self, group_id: str, value: StoredGroup | None) -> None:
        if not self.log.ready:
            if value is None:
                self._stored.pop(group_id, None)
            else:
                self._stored[group_id] = value
            return
        group = self.groups.get(group_id)
        if group is None:
            if value is not None:
                self._downgraded(group_id, value)
            return
        if value is None:
            self._forget(group)
        else:
            group.replay(value)

    def _downgraded(self, group_id: str, value: StoredGroup) -> None:
        """Its members were in a KIP-848 group until now: they join again, and one of them makes the assignment."""
        group, now = self._make(group_id), self._host.now()
        group.replay(value)
        self._recover(group, now)
        self.carry_out(group, classic.rejoin(group, now, "downgraded to the classic protocol"))

    def _loaded(self) -> None:
        now = self._host.now()
        for group_id, stored in self._stored.items():
            group = self._make(group_id)
            group.replay(stored)
            self._recover(group, now)
        self._stored.clear()
        self.consumers.loaded(now)
        log.info(
            "shard_loaded",
            partition=self.log.partition.index,
            leader_epoch=self.log.epoch,
            groups=len(list(self.ids())),
        )

    def _recover(self, group: ClassicGroup, now: Now) -> None:
        group.recover(now)
        deadline = group.next_deadline()
        if deadline is not None:
            self._host.wake(self, group.id, deadline)

    def _lost(self) -> None:
        groups: list[Group] = [*self.groups.values(), *self.consumers.groups.values()]
        for group in groups:
            self._host.newcomers.drop_all(group)
        self.tickets.refuse_all(ErrorCode.not_coordinator)
        self._host.shard_lost(self)

    def close(self) -> None:
        self.log.close()

    def _make(self, group_id: str) -> ClassicGroup:
        config = self._host.config
        group = self.groups[group_id] = ClassicGroup(
            group_id,
            config.group_max_size,
            config.group_initial_rebalance_delay_ms / 1000,
            newcomers=self._host.newcomers,
        )
        return group

    def _forget(self, group: ClassicGroup) -> None:
        del self.groups[group.id]
        self._host.newcomers.drop_all(group)
        self.forget(group.id)

    # For the consumer groups

    @property
    def config(self) -> GroupConfig:
        return self._host.config

    def now(self) -> Now:
        return self._host.now()

    def clock(self) -> int:
        return self._host.clock()

    def topics(self) -> Mapping[str, Topic]:
        return self._host.topics()

    def topics_version(self) -> int:
        return self._host.topics_version()

    @property
    def closed(self) -> bool:
        return self.log.closed

    def member_times(self, group_id: str) -> MemberTimes:
        return self._host.member_times(group_id)

    def wake(self, group_id: str, at: float) -> None:
        self._host.wake(self, group_id, at)

    def forget(self, group_id: str) -> None:
        if group_id not in self.groups and group_id not in self.consumers.groups:
            self._host.forget(self, group_id)

    @property
    def newcomers(self) -> Newcomers:
        return self._host.newcomers

    def has_offsets(self, group_id: str) -> bool:
        return group_id in self.offsets

    def make_room(self, group: Group) -> None:
        self._host.make_room(group)

    # Questions

    def ids(self) -> Iterable[str]:
        return dict.fromkeys([*self.groups, *self.consumers.groups, *self.offsets])

    def is_writing(self, group_id: str) -> bool:
        """Whether records of the group are on their way."""
        return self._writing[group_id] > 0

    def is_empty(self, group_id: str) -> bool:
        """Whether it is a group, and nobody is in it nor about to come."""
        found = self.consumers.groups.get(group_id)
        if found is not None:
            return not found.members
        group = self.groups.get(group_id)
        return group is not None and group.state is State.EMPTY and not group.pending

    # Members

    def _of_members(self, group_id: str) -> ConsumerGroup | None:
        """The group, if it is one of KIP-848 that has members: those of the classic protocol can be among them."""
        found = self.consumers.groups.get(group_id)
        return found if found is not None and found.members else None

    def join(
        self, group_id: str, may_create: bool, request: JoinRequest, refuse: Callable[[ErrorCode], Answer]
    ) -> asyncio.Future[Answer] | Answer:
        found = self._of_members(group_id)
        if found is not None:
            return self._classic_members.join(group_id, request(0))
        if group_id in self.consumers.groups:
            return refuse(self.changes.make_way(group_id))
        group = self.groups.get(group_id)
        if group is None:
            if self.consumers.turns.is_busy(group_id):
                return refuse(ErrorCode.coordinator_load_in_progress)
            if not may_create:
                return refuse(ErrorCode.unknown_member_id)
            group = self._make(group_id)
        ticket, future = self.tickets.open(refuse)
        asked = request(ticket)
        future.add_done_callback(partial(self._gave_up, group, asked))
        self.carry_out(group, classic.join(group, asked, self._host.now()))
        self._host.make_room(group)
        return future

    def sync(
        self, group_id: str, request: SyncRequest, refuse: Callable[[ErrorCode], Answer]
    ) -> asyncio.Future[Answer] | Answer:
        found = self._of_members(group_id)
        if found is not None:
            return self._classic_members.sync(found, request(0))
        group = self.groups.get(group_id)
        if group is None:
            return refuse(ErrorCode.unknown_member_id)
        ticket, future = self.tickets.open(refuse)
        asked = request(ticket)
        future.add_done_callback(partial(self._gave_up, group, asked))
        self.carry_out(group, classic.sync(group, asked, self._host.now()))
        return future

    def _gave_up(self, group: ClassicGroup, asked: classic.Join | classic.Sync, future: asyncio.Future[Answer]) -> None:
        """The answer is given, or the connection has gone before it."""
        if future.cancelled() and self.log.leads and self.groups.get(group.id) is group:
            self.carry_out(group, classic.gave_up(group, asked, self._host.now()))

    def crowd_out(self, excess: Excess) -> None:
        """There are too many who have just come: this one is to go, if it is here."""
        group, member_id, waits = excess
        if self.consumers.groups.get(group.id) is group:
            self.consumers.crowd_out(group.id, member_id)
        elif isinstance(group, ClassicGroup) and self.groups.get(group.id) is group:
            self.carry_out(group, classic.crowd_out(group, member_id, self._host.now(), waits=waits))

    def heartbeat(self, group_id: str, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
        found = self._of_members(group_id)
        if found is not None:
            return self._classic_members.heartbeat(found, member_id, instance_id, generation)
        group = self.groups.get(group_id)
        if group is None:
            return ErrorCode.unknown_member_id
        error, effects = classic.heartbeat(group, member_id, instance_id, generation, self._host.now())
        self.carry_out(group, effects)
        return error

    def leave(self, group_id: str, identities: Sequence[Identity]) -> asyncio.Future[Left] | Left:
        if self._of_members(group_id) is not None:
            return self._classic_members.leave(group_id, identities)
        group = self.groups.get(group_id)
        if group is None:
            return ErrorCode.unknown_member_id
        errors, effects = classic.leave(group, identities, self._host.now())
        self.carry_out(group, effects)
        return errors

    def tick(self, group_id: str) -> None:
        """A deadline of the group has come, or may have."""
        if not self.log.leads:
            return
        self.consumers.tick(group_id)
        group = self.groups.get(group_id)
        if group is not None:
            self.carry_out(group, classic.tick(group, self._host.now()))

    def revive(self, group: ClassicGroup) -> None:
        """Its end is not in the log: begin again with what is."""
        self._host.newcomers.drop_all(group)
        revived = self._make(group.id)
        revived.replay(group.stored)
        self._recover(revived, self._host.now())
        self.carry_out(revived, Effects())

    def carry_out(self, group: ClassicGroup, effects: Effects) -> None:
        for what in effects.writes:
            self.write([Entry(GroupKey(group.id), what.value)], partial(self._written, group, what))
        for ticket, answer in effects.replies:
            self.tickets.answer(ticket, answer)
        for event, facts in effects.news:
            self.rebalances += event == "group_rebalancing"
            log.info(event, group=group.id, **facts)
        if group.forgettable and self.groups.get(group.id) is group:
            self._forget(group)
        elif effects.wake_at is not None:
            self._host.wake(self, group.id, effects.wake_at)

    def beat(self, group_id: str, request: Beat) -> asyncio.Future[BeatAnswer] | BeatAnswer:
        """ConsumerGroupHeartbeat."""
        group = self.groups.get(group_id)
        return self.consumers.heartbeat(group_id, request) if group is None else self.changes.beat(group, request)

    def _written(self, group: ClassicGroup, what: Write, error: ErrorCode) -> None:
        if error is ErrorCode.message_too_large:
            error = ErrorCode.unknown_server_error
        if self.groups.get(group.id) is group and not self.log.closed:
            self.carry_out(group, classic.written(group, what, error, self._host.now()))

    def write(
        self,
        entries: Sequence[Entry],
        done: Callable[[ErrorCode], None],
        decided: Callable[[ErrorCode], None] | None = None,
        *,
        within: InTransaction | None = None,
    ) -> None:
        """See `ShardLog.write`."""
        touched = {entry.key.group for entry in entries}
        self._writing.update(touched)

        def finished(error: ErrorCode) -> None:
            for group_id in touched:
                self._writing[group_id] -= 1
                if not self._writing[group_id]:
                    del self._writing[group_id]
            if decided is not None:
                decided(error)

        self.log.write(entries, done, finished, within=within)

    async def settled(self) -> ErrorCode:
        """Until what was written so far is committed, so that the stored state has it."""
        if self.log.idle:
            return ErrorCode.none
        future: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()
        self.log.after(partial(settle, future))
        return await future

    async def delete_offsets(self, group_id: str, wanted: Sequence[At]) -> ErrorCode:
        """Tombstones for what there is of it."""
        rows = self.offsets.known(group_id)
        return await self.changes.bury([OffsetKey(group_id, *at) for at in wanted if at in rows])

    async def delete_group(self, group_id: str) -> ErrorCode:
        """A group without members, and all its offsets. GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP, or what writing gives."""
        error = await self.settled()
        if error is not ErrorCode.none:
            return error
        group = self.groups.get(group_id)
        if group is not None and group.state is State.DEAD:
            return ErrorCode.group_id_not_found
        if group is None and group_id not in self.consumers.groups:
            known = self.offsets.known(group_id)
            return await self.changes.drop_group(group_id) if known else ErrorCode.group_id_not_found
        empty = group.state is State.EMPTY if group is not None else self.is_empty(group_id)
        return await self.changes.drop_group(group_id) if empty else ErrorCode.non_empty_group
