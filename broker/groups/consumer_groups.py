"""The KIP-848 groups of one shard: what becomes of heartbeats, of silence, and of the regular expressions.

Decisions about a group are made one after the other (`turns.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.groups import consumer
from ottla.broker.groups.classic import Now
from ottla.broker.groups.config import GroupConfig, MemberTimes
from ottla.broker.groups.consumer import (
    AWAY,
    LEAVING,
    Beat,
    BeatAnswer,
    ConsumerGroup,
    Decision,
    MemberFacts,
    MemberKey,
    Topic,
)
from ottla.broker.groups.migration import DOWNGRADES, all_classic, downgraded
from ottla.broker.groups.newcomers import Group, Newcomers
from ottla.broker.groups.offsets import Standing
from ottla.broker.groups.records import Entry
from ottla.broker.groups.resolver import Resolver
from ottla.broker.groups.turns import Proposal, Refuse, Turns

log = structlog.get_logger(__name__)

NOBODY = ""
"""Stands among the newcomers for a group that has no members: it is kept until somebody looks after old offsets."""
LOOK_AGAIN_S = 1.0
"""After which a group is looked at again whose records were on their way when a deadline came."""


class Host(Protocol):
    """What is needed of the shard."""

    @property
    def config(self) -> GroupConfig: ...
    def now(self) -> Now: ...
    def topics(self) -> Mapping[str, Topic]: ...
    def member_times(self, group_id: str) -> MemberTimes: ...
    def wake(self, group_id: str, at: float) -> None: ...
    def forget(self, group_id: str) -> None: ...
    def make_room(self, group: Group) -> None: ...
    def has_offsets(self, group_id: str) -> bool: ...
    @property
    def newcomers(self) -> Newcomers: ...
    def topics_version(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def write(self, entries: Sequence[Entry], done: Refuse, decided: Refuse | None = None) -> None: ...


class ConsumerGroups:
    """By id. `replay` is called for every committed record, `loaded` once, when the shard begins to serve."""

    def __init__(self, host: Host) -> None:
        self.groups: dict[str, ConsumerGroup] = {}
        self._host = host
        self._resolver = Resolver(host, self._refresh)
        self.turns = Turns(self.groups, host.write, self._perhaps_downgrade)
        self._serving = False

    # Log

    def replay(self, key: consumer.Key, value: consumer.Value | None) -> None:
        group = self.groups.get(key.group)
        if group is None:
            if value is None:
                return
            group = self.groups[key.group] = ConsumerGroup(key.group)
        group.replay(key, value)
        if isinstance(key, MemberKey) and self._serving:
            self._replayed_member(group, key.member)
        if not (group.exists or group.members or group.current or group.targets or group.regexes):
            del self.groups[key.group]
            self._host.newcomers.drop_all(group)
            self._host.forget(key.group)

    def _replayed_member(self, group: ConsumerGroup, member_id: str) -> None:
        newcomers, facts = self._host.newcomers, group.members.get(member_id)
        if facts is None:
            newcomers.drop(group, member_id)
            group.said.pop(member_id, None)
            if not group.members:
                group.empty_since = self._host.now().ms
                newcomers.put(group, NOBODY, 0, waits=False)
            return
        newcomers.drop(group, NOBODY)
        is_new = member_id not in group.sessions
        if is_new or (group, member_id) in newcomers:
            newcomers.put(group, member_id, facts.size, waits=False)
        if is_new:
            # Whoever asked may have given up, so that no answer is what begins the session.
            self.heard(group, member_id, self._host.now())

    def came_again(self, group_id: str, member_id: str) -> None:
        """It was told that it is a member, and knows it."""
        group = self.groups.get(group_id)
        if group is not None:
            self._host.newcomers.drop(group, member_id)

    def crowd_out(self, group_id: str, member_id: str) -> None:
        """A member of which nothing was heard since it joined, or an empty group, and there are too many like it."""

        def step(draft: ConsumerGroup) -> Proposal:
            entries = entries_of(consumer.remove(draft, (member_id,))) if member_id in draft.members else []
            if member_id == NOBODY and not draft.members and not self._host.has_offsets(group_id):
                entries = end_of(group_id)
            return Proposal(entries, done)

        def done(_error: ErrorCode) -> None:
            group = self.groups.get(group_id)
            if group is not None and member_id not in group.members:
                group.sessions.pop(member_id, None)
                self._host.make_room(group)

        self.turns.take(group_id, step, done)

    def loaded(self, now: Now) -> None:
        """Every member has a whole session to be heard of again."""
        self._serving = True
        for group in self.groups.values():
            for member_id in group.members:
                self.heard(group, member_id, now)
            if not group.members:
                group.empty_since = now.ms
                self._host.newcomers.put(group, NOBODY, 0, waits=False)
            self._perhaps_downgrade(group.id)

    def heard(self, group: ConsumerGroup, member_id: str, now: Now) -> None:
        """A member lives, which is why it is looked for no earlier than a session from now."""
        deadline = now.at + self._session_ms(group.id, group.members.get(member_id)) / 1000
        group.sessions[member_id] = deadline
        other = group.watch_revocation(member_id, now.at)
        self._host.wake(group.id, deadline if other is None else min(other, deadline))

    def promised(self, group: ConsumerGroup, member_id: str, now: Now, *, anew: bool) -> None:
        """A member of the classic protocol was told to join, or is to sync: it has its rebalance timeout for that."""
        if member_id in group.members and (anew or member_id not in group.promises):
            group.promises[member_id] = deadline = now.at + group.members[member_id].rebalance_ms / 1000
            self._host.wake(group.id, deadline)

    def _session_ms(self, group_id: str, facts: MemberFacts | None) -> int:
        if facts is not None and facts.classic is not None:
            return facts.classic.session_ms
        return self._host.member_times(group_id).session_ms

    # Heartbeats

    def heartbeat(self, group_id: str, request: Beat) -> asyncio.Future[BeatAnswer]:
        future: asyncio.Future[BeatAnswer] = asyncio.get_running_loop().create_future()
        if request.epoch != 0 and group_id not in self.groups:
            future.set_result(BeatAnswer(ErrorCode.group_id_not_found, message=f"Group {group_id} not found."))
        else:
            asked = [request]
            if request.epoch == 0:
                # Nobody else knows of it: when its connection goes first, it need not become a member.
                future.add_done_callback(lambda _: asked.clear())
            self.turns.take(group_id, partial(self._beat, asked, future), lambda why: _settle(future, BeatAnswer(why)))
        return future

    def _beat(self, asked: Sequence[Beat], future: asyncio.Future[BeatAnswer], group: ConsumerGroup) -> Proposal:
        if not asked:
            return Proposal((), lambda _error: None)
        request = asked[0]
        topics = self._host.topics()
        find = self.finder(group.id)
        decision = consumer.beat(group, request, topics, find, max_size=self._host.config.group_consumer_max_size)
        if request.epoch > 0 and decision.answer.error is ErrorCode.none:
            self.came_again(group.id, request.member_id)
            if request.owned is not None and group.id in self.groups:
                self.groups[group.id].said[request.member_id] = request.owned
        if decision.entries:
            return Proposal(entries_of(decision), partial(self._beaten, group.id, decision.answer, future))
        return Proposal((), partial(self._unchanged, group.id, request.member_id, decision.answer, future, topics))

    def finder(self, group_id: str) -> consumer.Find:
        """For `consumer.beat`. What it does not know by then comes later, as a change of the group."""
        return partial(self._resolver.matches, group_id)

    def _refresh(self, group_id: str) -> None:
        """There is something new about the regular expressions of the group."""
        done = partial(self._refreshed, group_id)

        def step(group: ConsumerGroup) -> Proposal:
            records = consumer.refresh(group, self._host.topics(), self.finder(group.id)) if group.members else []
            return Proposal([Entry(key, value) for key, value in records], done)

        self.turns.take(group_id, step, done)

    def _refreshed(self, group_id: str, error: ErrorCode) -> None:
        group = self.groups.get(group_id)
        if error is not ErrorCode.none and group is not None:
            # The next heartbeat looks at it once more.
            group.seen_topics = None

    def _unchanged(
        self,
        group_id: str,
        member_id: str,
        answer: BeatAnswer,
        future: asyncio.Future[BeatAnswer],
        topics: object,
        error: ErrorCode,
    ) -> None:
        if error is not ErrorCode.none:
            _settle(future, BeatAnswer(error))
            return
        group = self.groups.get(group_id)
        if answer.error is ErrorCode.none and group is not None:
            # While expressions wait to be looked up again the next heartbeat has to ask for it.
            waiting = group.regexes and consumer.behind(group, self._host.topics_version())
            group.seen_topics = None if waiting else topics
            self.heard(group, member_id, self._host.now())
        _settle(future, answer)

    def upgrade(self, group_id: str, entries: Sequence[Entry], answer: BeatAnswer) -> asyncio.Future[BeatAnswer]:
        """Write down that a classic group is one of these from now on, with what its new member is to be told."""
        future: asyncio.Future[BeatAnswer] = asyncio.get_running_loop().create_future()
        told = partial(self._beaten, group_id, answer, future)

        def done(error: ErrorCode) -> None:
            if group_id in self.groups:
                self._host.newcomers.drop_all(self.groups[group_id])  # they were members before
            told(error)

        self.turns.write(group_id, entries, done)
        return future

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
            self.heard(group, answer.member_id, self._host.now())
            if answer.epoch not in (AWAY, LEAVING) and group.state is consumer.GroupState.STABLE:
                log.info("group_stable", group=group_id, epoch=group.epoch, members=len(group.members))
        if group is not None:
            self._host.make_room(group)
        _settle(future, answer)

    # The last member that speaks KIP-848 has gone

    def _perhaps_downgrade(self, group_id: str) -> None:
        group = self.groups.get(group_id)
        config = self._host.config
        if (
            self.turns.is_busy(group_id)
            or group is None
            or not all_classic(group)
            or config.group_consumer_migration_policy not in DOWNGRADES
        ):
            return
        if len(group.members) > config.group_max_size:
            return
        log.info("group_downgrading", group=group_id, epoch=group.epoch, members=len(group.members))
        now = self._host.now()
        self.turns.write(group_id, downgraded(group, self._host.topics(), now.ms), lambda _error: None)
        # Where it is done, who would have had a turn comes again, and finds a classic group.
        self.turns.send_away(group_id, ErrorCode.coordinator_load_in_progress)

    # Time

    def tick(self, group_id: str) -> None:
        if group_id in self.groups:
            again = self._host.now().at + LOOK_AGAIN_S
            self.turns.take(group_id, self._look, lambda _error: self._host.wake(group_id, again))

    def _look(self, draft: ConsumerGroup) -> Proposal:
        """Who was not heard of for a session is out, and who did not give up its partitions in time."""
        group, now = self.groups.get(draft.id), self._host.now()
        if group is None:
            return Proposal((), lambda _error: None)
        silent = [member_id for member_id, at in group.sessions.items() if at <= now.at]
        for member_id, (epoch, at) in group.revocations.items():
            if at <= now.at and draft.of(member_id).epoch == epoch:
                silent.append(member_id)
        silent += [member_id for member_id, at in group.promises.items() if at <= now.at]
        group.promises = {each: at for each, at in group.promises.items() if at > now.at and each in group.members}
        # Who is silent and not in the draft is to go by an earlier decision of this batch, which may yet fail.
        leaving = {
            each: now.at + LOOK_AGAIN_S for each in silent if each in group.members and each not in draft.members
        }
        group.sessions = {each: at for each, at in group.sessions.items() if at > now.at} | leaving
        group.revocations = {each: row for each, row in group.revocations.items() if row[1] > now.at}
        deadline = group.next_deadline()
        if deadline is not None:
            self._host.wake(group.id, deadline)
        gone = tuple(each for each in dict.fromkeys(silent) if each in draft.members)
        if not gone:
            return Proposal((), lambda _error: self._perhaps_downgrade(group.id))
        for member_id in gone:
            log.info("group_member_removed", group=group.id, member=member_id, reason="session expired")
        return Proposal(entries_of(consumer.remove(draft, gone)), partial(self._removed, group.id, gone))

    def _removed(self, group_id: str, gone: Sequence[str], error: ErrorCode) -> None:
        group = self.groups.get(group_id)
        if error is not ErrorCode.none and group is not None:
            # Not written: they are looked at again after another session.
            for member_id in gone:
                if member_id in group.members:
                    self.heard(group, member_id, self._host.now())

    # Offsets

    def check_epoch(self, group: ConsumerGroup, member_id: str | None, epoch: int) -> ErrorCode:
        """Whether a member with this epoch may commit, or ask for stable offsets (KIP-848)."""
        if epoch < 0 and not group.members:
            return ErrorCode.none
        if member_id not in group.members:
            return ErrorCode.unknown_member_id
        if group.of(member_id).epoch == epoch:
            return ErrorCode.none
        is_classic = group.members[member_id].classic is not None
        return ErrorCode.illegal_generation if is_classic else ErrorCode.stale_member_epoch

    def standing(self, group: ConsumerGroup) -> Standing:
        """Kafka counts from each commit as soon as the last member has gone, so that a group which was idle for long
        loses its place when it is restarted; here KIP-211 holds for both protocols."""
        if not group.members:
            return Standing("consumer", True, False, group.empty_since, frozenset())
        return Standing("consumer", False, True, -1, group.subscribed(self._host.topics()))

    # The end

    def drop(self, group_id: str, also: Sequence[Entry], done: Callable[[ErrorCode], None]) -> None:
        """Write down the end of an empty group, and `also` in the same batch. NON_EMPTY_GROUP."""

        def step(group: ConsumerGroup) -> Proposal:
            if group.members:
                return Proposal((), lambda error: done(error or ErrorCode.non_empty_group))
            return Proposal([*also, *end_of(group_id)], done)

        self.turns.take(group_id, step, done)


def end_of(group_id: str) -> list[Entry]:
    """Of a group without members."""
    return [Entry(key, None) for key in (consumer.TargetEpochKey(group_id), consumer.EpochKey(group_id))]


def entries_of(decision: Decision) -> list[Entry]:
    return [Entry(key, value) for key, value in decision.entries]


def _settle(future: asyncio.Future[BeatAnswer], answer: BeatAnswer) -> None:
    if not future.done():
        future.set_result(answer)
