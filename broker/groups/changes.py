"""How groups end, and how they change their protocol: the steps of a shard that make of one thing another.

A classic group that is to go is Dead from then on, whatever it was, until its end is committed: nobody may join what
may be gone. It comes back only when it is certain that its end is not in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.groups import classic, consumer
from ottla.broker.groups.classic import ClassicGroup, Effects, Now, State
from ottla.broker.groups.config import GroupConfig
from ottla.broker.groups.consumer import Beat, BeatAnswer, ConsumerGroup, Topic
from ottla.broker.groups.consumer_groups import ConsumerGroups, entries_of
from ottla.broker.groups.migration import UPGRADES, upgraded
from ottla.broker.groups.offsets import OffsetStore
from ottla.broker.groups.records import Entry, GroupKey, OffsetKey
from ottla.broker.groups.turns import Refuse

log = structlog.get_logger(__name__)

MAX_BATCH = 500
"""Tombstones that are written in one batch."""
AGAIN = BeatAnswer(ErrorCode.coordinator_load_in_progress)
"""What a client is told that only has to come again."""


class Owner(Protocol):
    """What is needed of the shard."""

    @property
    def groups(self) -> dict[str, ClassicGroup]: ...
    @property
    def offsets(self) -> OffsetStore: ...
    @property
    def consumers(self) -> ConsumerGroups: ...
    @property
    def config(self) -> GroupConfig: ...
    def now(self) -> Now: ...
    def topics(self) -> Mapping[str, Topic]: ...
    def is_empty(self, group_id: str) -> bool: ...
    def is_writing(self, group_id: str) -> bool: ...
    def write(self, entries: Sequence[Entry], done: Refuse, decided: Refuse | None = None) -> None: ...
    def carry_out(self, group: ClassicGroup, effects: Effects) -> None: ...
    def revive(self, group: ClassicGroup) -> None: ...


class Changes:
    """Of the groups of one shard."""

    def __init__(self, shard: Owner) -> None:
        self._shard = shard

    # From one protocol to the other

    def make_way(self, group_id: str) -> ErrorCode:
        """A group of the other protocol has the name: it goes if it is empty, and the client comes again."""
        shard = self._shard
        if not shard.is_empty(group_id) and not shard.is_writing(group_id):
            return ErrorCode.inconsistent_group_protocol
        if not shard.is_writing(group_id):
            self.drop(group_id, ()).add_done_callback(lambda _: None)
        return ErrorCode.coordinator_load_in_progress

    def beat(self, group: ClassicGroup, request: Beat) -> asyncio.Future[BeatAnswer] | BeatAnswer:
        """ConsumerGroupHeartbeat to a classic group: it gives way if it is empty, and is moved over if it can be."""
        refused = f"Group {group.id} is not a consumer group."
        if request.epoch != 0:
            return BeatAnswer(ErrorCode.group_id_not_found, message=refused)
        if group.state is State.DEAD or group.writing is not None:
            return AGAIN
        if not group.members:
            self.make_way(group.id)
            return AGAIN
        shard, topics = self._shard, self._shard.topics()
        config = shard.config
        if config.group_consumer_migration_policy not in UPGRADES:
            return BeatAnswer(ErrorCode.group_id_not_found, message=refused)
        entries = upgraded(group, topics) if len(group.members) <= config.group_consumer_max_size else None
        if entries is None:
            return BeatAnswer(ErrorCode.group_id_not_found, message=f"{refused} Its members cannot be moved over.")
        draft = ConsumerGroup(group.id)
        for entry in entries:
            if not isinstance(entry.key, GroupKey):
                draft.replay(entry.key, entry.value)  # type: ignore[arg-type]
        find = shard.consumers.finder(group.id)
        decision = consumer.beat(draft, request, topics, find, max_size=config.group_consumer_max_size)
        if decision.answer.error is not ErrorCode.none:
            return decision.answer
        return self._upgrade(group, [*entries, *entries_of(decision)], decision.answer)

    def _upgrade(self, group: ClassicGroup, entries: Sequence[Entry], answer: BeatAnswer) -> asyncio.Future[BeatAnswer]:
        shard = self._shard
        log.info("group_upgrading", group=group.id, generation=group.generation, members=len(group.members))
        shard.carry_out(group, classic.end(group, shard.now()))
        future = shard.consumers.upgrade(group.id, entries, answer)
        if not shard.consumers.turns.is_busy(group.id) and shard.groups.get(group.id) is group:
            shard.revive(group)  # refused, so that it never was in the log
        return future

    # The end

    async def drop_group(self, group_id: str) -> ErrorCode:
        """Tombstones for an empty group and all its offsets."""
        keys = [OffsetKey(group_id, *at) for at in self._shard.offsets.known(group_id)]
        split = max(len(keys) - MAX_BATCH, 0)
        error = await self.bury(keys[:split])
        return error if error is not ErrorCode.none else await self.drop(group_id, keys[split:])

    def drop(self, group_id: str, offsets: Sequence[OffsetKey]) -> asyncio.Future[ErrorCode]:
        """The group itself, and these offsets with it in one batch. Nobody may join while that is being written."""
        shard = self._shard
        future: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()
        gone = [Entry(key, None) for key in offsets]
        if group_id in shard.consumers.groups:
            shard.consumers.drop(group_id, gone, partial(settle, future))
            return future
        group = shard.groups.get(group_id)
        if group is not None:
            if group.state is not State.EMPTY:
                settle(future, ErrorCode.non_empty_group)
                return future
            shard.carry_out(group, classic.end(group, shard.now()))
        shard.write([*gone, Entry(GroupKey(group_id), None)], partial(settle, future), partial(self._decided, group))
        return future

    def _decided(self, group: ClassicGroup | None, error: ErrorCode) -> None:
        if group is not None and error is not ErrorCode.none and self._shard.groups.get(group.id) is group:
            self._shard.revive(group)

    async def bury(self, keys: Sequence[OffsetKey]) -> ErrorCode:
        for at in range(0, len(keys), MAX_BATCH):
            future: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()
            self._shard.write([Entry(key, None) for key in keys[at : at + MAX_BATCH]], partial(settle, future))
            error = await future
            if error is not ErrorCode.none:
                return error
        return ErrorCode.none


def settle(future: asyncio.Future[ErrorCode], error: ErrorCode) -> None:
    if not future.done():
        future.set_result(error)
