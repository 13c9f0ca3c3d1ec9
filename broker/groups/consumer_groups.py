"""The KIP-848 groups of one shard: heartbeats in order, one decision at a time for each group.

A decision is made on the committed state only. So a heartbeat that comes while records of its group are on their way
waits for them; the common heartbeat has nothing to write and nothing to wait for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.groups import consumer
from ottla.broker.groups.classic import Now
from ottla.broker.groups.config import GroupConfig
from ottla.broker.groups.consumer import AWAY, LEAVING, Beat, BeatAnswer, ConsumerGroup, Decision, Topic
from ottla.broker.groups.offsets import Standing
from ottla.broker.groups.records import Entry

log = structlog.get_logger(__name__)

MAX_WAITING = 10_000
"""Heartbeats of one group that wait for its records."""

Step = Callable[[ConsumerGroup], None]


class Host(Protocol):
    """What is needed of the shard."""

    @property
    def config(self) -> GroupConfig: ...
    def now(self) -> Now: ...
    def topics(self) -> Mapping[str, Topic]: ...
    def wake(self, group_id: str, at: float) -> None: ...
    def write(self, entries: Sequence[Entry], done: Callable[[ErrorCode], None]) -> None: ...


class ConsumerGroups:
    """By id. `replay` is called for every committed record, `loaded` once, when the shard begins to serve."""

    def __init__(self, host: Host) -> None:
        self.groups: dict[str, ConsumerGroup] = {}
        self._host = host
        self._waiting: dict[str, deque[Step]] = {}

    # Log

    def replay(self, key: consumer.Key, value: consumer.Value | None) -> None:
        group = self.groups.get(key.group)
        if group is None:
            if value is None:
                return
            group = self.groups[key.group] = ConsumerGroup(key.group)
        group.replay(key, value)
        if not group.exists and not group.members and not group.current and not group.targets:
            del self.groups[key.group]

    def loaded(self, now: Now) -> None:
        """Every member has a whole session to be heard of again."""
        for group in self.groups.values():
            for member_id in group.members:
                self._heard(group, member_id, now)

    def _heard(self, group: ConsumerGroup, member_id: str, now: Now) -> None:
        deadline = now.at + self._host.config.group_consumer_session_timeout_ms / 1000
        group.sessions[member_id] = deadline
        other = group.watch_revocation(member_id, now.at)
        self._host.wake(group.id, deadline if other is None else min(other, deadline))

    # Heartbeats

    def heartbeat(self, group_id: str, request: Beat) -> asyncio.Future[BeatAnswer]:
        future: asyncio.Future[BeatAnswer] = asyncio.get_running_loop().create_future()
        if request.epoch != 0 and group_id not in self.groups:
            future.set_result(BeatAnswer(ErrorCode.group_id_not_found, message=f"Group {group_id} not found."))
        else:
            self._in_turn(group_id, partial(self._beat, request, future), future)
        return future

    def _in_turn(self, group_id: str, step: Step, future: asyncio.Future[BeatAnswer] | None = None) -> None:
        waiting = self._waiting.get(group_id)
        if waiting is None:
            step(self.groups.get(group_id) or ConsumerGroup(group_id))
        elif len(waiting) < MAX_WAITING:
            waiting.append(step)
        elif future is not None:
            future.set_result(BeatAnswer(ErrorCode.coordinator_not_available))

    def _beat(self, request: Beat, future: asyncio.Future[BeatAnswer], group: ConsumerGroup) -> None:
        topics = self._host.topics()
        decision = consumer.beat(group, request, topics, max_size=self._host.config.group_consumer_max_size)
        answer = decision.answer
        if not decision.entries:
            if answer.error is ErrorCode.none:
                group.seen_topics = topics
                self._heard(group, request.member_id, self._host.now())
            _settle(future, answer)
            return
        self._write(group, _entries(decision), partial(self._beaten, group.id, answer, future))

    def _beaten(self, group_id: str, answer: BeatAnswer, future: asyncio.Future[BeatAnswer], error: ErrorCode) -> None:
        if error is not ErrorCode.none:
            _settle(future, BeatAnswer(error))
            return
        group = self.groups.get(group_id)
        if group is not None and answer.epoch == LEAVING:
            group.sessions.pop(answer.member_id, None)
            log.info("group_member_removed", group=group_id, member=answer.member_id, reason="left")
        elif group is not None:
            gone = group.sessions.keys() - group.members.keys()
            for member_id in gone:
                del group.sessions[member_id]
            self._heard(group, answer.member_id, self._host.now())
            if answer.epoch not in (AWAY, LEAVING) and group.state == "Stable":
                log.info("group_stable", group=group_id, epoch=group.epoch, members=len(group.members))
        _settle(future, answer)

    def _write(self, group: ConsumerGroup, entries: Sequence[Entry], done: Callable[[ErrorCode], None]) -> None:
        waiting = self._waiting[group.id] = deque()

        def written(error: ErrorCode) -> None:
            if error is ErrorCode.message_too_large:
                error = ErrorCode.unknown_server_error
            done(error)
            if self._waiting.get(group.id) is waiting:
                del self._waiting[group.id]
            while waiting:
                self._in_turn(group.id, waiting.popleft())

        self._host.write(entries, written)

    # Time

    def tick(self, group_id: str) -> None:
        if group_id in self.groups:
            self._in_turn(group_id, self._look)

    def _look(self, group: ConsumerGroup) -> None:
        """Who was not heard of for a session is out, and who did not give up its partitions in time."""
        now = self._host.now()
        silent = [member_id for member_id, at in group.sessions.items() if at <= now.at and member_id in group.members]
        for member_id, (epoch, at) in group.revocations.items():
            if at <= now.at and member_id in group.members and group.of(member_id).epoch == epoch:
                silent.append(member_id)
        group.sessions = {each: at for each, at in group.sessions.items() if at > now.at}
        group.revocations = {each: row for each, row in group.revocations.items() if row[1] > now.at}
        deadline = group.next_deadline()
        if deadline is not None:
            self._host.wake(group.id, deadline)
        if silent:
            gone = tuple(dict.fromkeys(silent))
            for member_id in gone:
                log.info("group_member_removed", group=group.id, member=member_id, reason="session expired")
            self._write(group, _entries(consumer.remove(group, gone)), partial(self._removed, group.id, gone))

    def _removed(self, group_id: str, gone: Sequence[str], error: ErrorCode) -> None:
        group = self.groups.get(group_id)
        if error is not ErrorCode.none and group is not None:
            # Not written: they are looked at again after another session.
            for member_id in gone:
                if member_id in group.members:
                    self._heard(group, member_id, self._host.now())

    # Offsets

    def check_epoch(self, group: ConsumerGroup, member_id: str | None, epoch: int) -> ErrorCode:
        """Whether a member with this epoch may commit, or ask for stable offsets (KIP-848)."""
        if epoch < 0 and not group.members:
            return ErrorCode.none
        if member_id not in group.members:
            return ErrorCode.unknown_member_id
        return ErrorCode.none if group.of(member_id).epoch == epoch else ErrorCode.stale_member_epoch

    def standing(self, group: ConsumerGroup) -> Standing:
        if not group.members:
            return Standing(None, True, False, -1, None)
        return Standing("consumer", False, True, -1, group.subscribed(self._host.topics()))

    # The end

    def drop(self, group_id: str, also: Sequence[Entry], done: Callable[[ErrorCode], None]) -> None:
        """Write down the end of an empty group, and `also` in the same batch. NON_EMPTY_GROUP."""

        def step(group: ConsumerGroup) -> None:
            if group.members:
                done(ErrorCode.non_empty_group)
                return
            keys = (consumer.TargetEpochKey(group_id), consumer.EpochKey(group_id))
            self._write(group, [*also, *(Entry(key, None) for key in keys)], done)

        if len(self._waiting.get(group_id, ())) >= MAX_WAITING:
            done(ErrorCode.coordinator_not_available)
        else:
            self._in_turn(group_id, step)


def _entries(decision: Decision) -> list[Entry]:
    return [Entry(key, value) for key, value in decision.entries]


def _settle(future: asyncio.Future[BeatAnswer], answer: BeatAnswer) -> None:
    if not future.done():
        future.set_result(answer)
