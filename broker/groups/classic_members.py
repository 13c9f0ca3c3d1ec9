"""Members of the classic protocol in a KIP-848 group: JoinGroup, SyncGroup, Heartbeat and LeaveGroup for them.

To them the group looks like one with a leader that is somebody else: the generation is their member epoch, they join
when they are told to, say what they have, and are handed their part when they sync.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.groups import consumer
from ottla.broker.groups.classic import CONSUMER, Answer, Identity, Join, JoinAnswer, Sync, SyncAnswer
from ottla.broker.groups.consumer import Beat, BeatAnswer, ClassicFacts, ConsumerGroup, Topic
from ottla.broker.groups.consumer_groups import ConsumerGroups, Host, entries_of
from ottla.broker.groups.embedded import assignment_bytes, subscription_of
from ottla.broker.groups.migration import by_id, by_name, common_protocols
from ottla.broker.groups.turns import Proposal

log = structlog.get_logger(__name__)

T = TypeVar("T")

Left = list[ErrorCode] | ErrorCode

_JOIN_ERRORS: Final = {
    ErrorCode.unreleased_instance_id: ErrorCode.fenced_instance_id,
    ErrorCode.fenced_member_epoch: ErrorCode.unknown_member_id,
}


class ClassicMembers:
    """Of all KIP-848 groups of a shard."""

    def __init__(self, groups: ConsumerGroups, host: Host) -> None:
        self._groups = groups
        self._host = host

    # Joining

    def join(self, group_id: str, request: Join) -> asyncio.Future[Answer] | JoinAnswer:
        if request.member_id == "" and request.instance_id is None and request.may_defer_id:
            return JoinAnswer(ErrorCode.member_id_required, request.fresh_id)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def refuse(error: ErrorCode) -> None:
            _settle(future, JoinAnswer(error, request.member_id))

        self._groups.turns.take(group_id, partial(self._join, request, future), refuse)
        return future

    def _join(self, request: Join, future: asyncio.Future[Answer], group: ConsumerGroup) -> Proposal:
        topics = self._host.topics()
        beat = join_as_beat(group, request, topics)
        if isinstance(beat, ErrorCode):
            refused = JoinAnswer(beat, request.member_id)
            return Proposal((), lambda _error: _settle(future, refused))
        find = self._groups.finder(group.id)
        decision = consumer.beat(group, beat, topics, find, max_size=self._host.config.group_consumer_max_size)
        return Proposal(entries_of(decision), partial(self._joined, group.id, beat, decision.answer, future))

    def _joined(
        self, group_id: str, beat: Beat, found: BeatAnswer, future: asyncio.Future[Answer], error: ErrorCode
    ) -> None:
        if error is ErrorCode.none:
            error = _JOIN_ERRORS.get(found.error, found.error)
        group = self._groups.groups.get(group_id)
        if error is not ErrorCode.none or group is None or beat.classic is None:
            _settle(future, JoinAnswer(error, beat.member_id))
            return
        now = self._host.now()
        self._groups.heard(group, beat.member_id, now)
        self._groups.promised(group, beat.member_id, now, anew=True)
        self._host.make_room(group)
        protocol = beat.classic.protocols[0][0]
        _settle(future, JoinAnswer(ErrorCode.none, beat.member_id, found.epoch, CONSUMER, protocol))

    # Syncing

    def sync(self, group: ConsumerGroup, request: Sync) -> SyncAnswer:
        error = _check(group, request.member_id, request.instance_id, request.generation)
        if error is not ErrorCode.none:
            return SyncAnswer(error)
        facts, current = group.members[request.member_id], group.of(request.member_id)
        assert facts.classic is not None
        protocol, metadata = facts.classic.protocols[0]
        for given, own in ((request.protocol_type, CONSUMER), (request.protocol, protocol)):
            if given is not None and given != own:
                return SyncAnswer(ErrorCode.inconsistent_group_protocol)
        now = self._host.now()
        self._groups.heard(group, request.member_id, now)
        self._groups.came_again(group.id, request.member_id)
        if current.epoch < group.epoch and current.state != consumer.UNREVOKED:
            self._groups.promised(group, request.member_id, now, anew=False)
            return SyncAnswer(ErrorCode.rebalance_in_progress)
        group.promises.pop(request.member_id, None)
        said = subscription_of(metadata)
        partitions = by_name(current.assigned, self._host.topics())
        return SyncAnswer(
            ErrorCode.none, CONSUMER, protocol, assignment_bytes(partitions, 0 if said is None else said.version)
        )

    # Living

    def heartbeat(self, group: ConsumerGroup, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
        error = _check(group, member_id, instance_id, generation)
        if error is not ErrorCode.none:
            return error
        now = self._host.now()
        self._groups.heard(group, member_id, now)
        self._groups.came_again(group.id, member_id)
        if not must_join(group, member_id):
            return ErrorCode.none
        self._groups.promised(group, member_id, now, anew=False)
        return ErrorCode.rebalance_in_progress

    # Leaving

    def leave(self, group_id: str, identities: Sequence[Identity]) -> asyncio.Future[Left]:
        future: asyncio.Future[Left] = asyncio.get_running_loop().create_future()
        self._groups.turns.take(group_id, partial(self._leave, identities, future), partial(_settle, future))
        return future

    def _leave(self, identities: Sequence[Identity], future: asyncio.Future[Left], group: ConsumerGroup) -> Proposal:
        errors, gone = [], []
        for each in identities:
            member_id = each.member_id or group.instances.get(each.instance_id or "", "")
            # An administrator may take out members of either protocol.
            error = _check_identity(group, member_id, each.instance_id, classic=False)
            if error is ErrorCode.none and member_id not in gone:
                gone.append(member_id)
            errors.append(error)
        entries = entries_of(consumer.remove(group, tuple(gone))) if gone else []
        return Proposal(entries, partial(self._left, group.id, gone, errors, future))

    def _left(
        self,
        group_id: str,
        gone: Sequence[str],
        errors: list[ErrorCode],
        future: asyncio.Future[Left],
        error: ErrorCode,
    ) -> None:
        if error is not ErrorCode.none:
            _settle(future, error)
            return
        group = self._groups.groups.get(group_id)
        for member_id in gone:
            if group is not None:
                group.sessions.pop(member_id, None)
            log.info("group_member_removed", group=group_id, member=member_id, reason="left")
        _settle(future, errors)


def must_join(group: ConsumerGroup, member_id: str) -> bool:
    """Whether something has changed for the member that it can only be told when it joins again: there is a new epoch,
    it has to give something up, or all that it waits for is free."""
    current = group.of(member_id)
    if current.epoch < group.epoch or current.state == consumer.UNREVOKED:
        return True
    if current.state != consumer.UNRELEASED:
        return False
    missing = group.targets.get(member_id, consumer.NOTHING) - current.assigned
    return all(group.owners.get(at, member_id) == member_id for at in missing)


def join_as_beat(group: ConsumerGroup, request: Join, topics: Mapping[str, Topic]) -> Beat | ErrorCode:
    """What the member says, in the words of KIP-848. INCONSISTENT_GROUP_PROTOCOL when it is no consumer, or knows
    none of the protocols that the other classic members know."""
    names = {name for name, _ in request.protocols}
    common = common_protocols(group)
    if request.protocol_type != CONSUMER or not names or (common is not None and common.isdisjoint(names)):
        return ErrorCode.inconsistent_group_protocol
    said = subscription_of(request.protocols[0][1])
    if said is None:
        return ErrorCode.inconsistent_group_protocol
    member_id = request.member_id
    if request.instance_id is not None and member_id:
        holder = group.instances.get(request.instance_id)
        if holder is None or holder != member_id:
            return ErrorCode.unknown_member_id if holder is None else ErrorCode.fenced_instance_id
    known = group.members.get(member_id)
    if known is not None and known.classic is None:
        return ErrorCode.unknown_member_id
    epoch = 0 if known is None else max(group.of(member_id).epoch, 0)
    beat = Beat(
        member_id or request.fresh_id,
        epoch,
        request.instance_id,
        said.rack,
        request.client_id,
        request.client_host,
        request.rebalance_ms,
        said.topics,
        None,
        None,
        by_id(said.owned, topics),
        ClassicFacts(request.session_ms, request.protocols),
    )
    return beat if epoch else replace(beat, owned=consumer.NOTHING)


def _check_identity(
    group: ConsumerGroup, member_id: str, instance_id: str | None, *, classic: bool = True
) -> ErrorCode:
    """`classic`: whether it has to be a member of that protocol."""
    if instance_id is not None:
        holder = group.instances.get(instance_id)
        if holder is None:
            return ErrorCode.unknown_member_id
        if holder != member_id:
            return ErrorCode.fenced_instance_id
    facts = group.members.get(member_id)
    unknown = facts is None or (classic and facts.classic is None)
    return ErrorCode.unknown_member_id if unknown else ErrorCode.none


def _check(group: ConsumerGroup, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
    error = _check_identity(group, member_id, instance_id)
    if error is ErrorCode.none and generation != group.of(member_id).epoch:
        return ErrorCode.illegal_generation
    return error


def _settle(future: asyncio.Future[T], answer: T) -> None:
    if not future.done():
        future.set_result(answer)
