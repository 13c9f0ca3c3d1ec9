"""JoinGroup: who comes in, under which id, and whether that makes a rebalance (KIP-62, KIP-345, KIP-394, KIP-814)."""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.groups.classic import rebalance
from ottla.broker.groups.classic.group import CONSUMER, ClassicGroup, names_of
from ottla.broker.groups.classic.model import Effects, Join, JoinAnswer, Member, Now, State, SyncAnswer, Write
from ottla.broker.groups.classic.subscription import given_up, subscribed_topics


def join(group: ClassicGroup, request: Join, now: Now) -> Effects:
    """The answer may be in the effects, or come with a later event under the request's ticket."""
    effects = Effects()
    error = _join(group, request, now, effects)
    if error is not ErrorCode.none:
        member_id = "" if error is ErrorCode.group_max_size_reached else request.member_id
        effects.reply(request.ticket, JoinAnswer(error, member_id))
    return effects


def _join(group: ClassicGroup, request: Join, now: Now, effects: Effects) -> ErrorCode:
    if group.state is State.DEAD:
        return ErrorCode.coordinator_not_available
    if not _has_room(group, request.member_id):
        group.take_back(request.member_id)
        if request.member_id in group.members:
            member = group.members[request.member_id]
            rebalance.remove_member(group, member, effects, "the group is full")
            rebalance.members_went(group, now, effects, "the group is full")
        return ErrorCode.group_max_size_reached
    if not group.accepts(request.protocol_type, names_of(request.protocols)):
        return ErrorCode.inconsistent_group_protocol
    if request.member_id == "":
        return _join_anew(group, request, now, effects)
    if request.member_id in group.pending and request.instance_id is None:
        _add(group, request, request.member_id, now, effects)
        return ErrorCode.none
    error = group.check_member(request.member_id, request.instance_id)
    if error is not ErrorCode.none:
        return error
    return _join_again(group, group.members[request.member_id], request, now, effects)


def _has_room(group: ClassicGroup, member_id: str) -> bool:
    """KIP-389. While a rebalance waits for its members, those count who have come."""
    if group.state is State.EMPTY:
        return True
    member = group.members.get(member_id)
    if group.state is State.PREPARING_REBALANCE:
        return (member is not None and member.join_ticket is not None) or group.waiting_to_join() < group.max_size
    return member is not None or len(group.members) < group.max_size


def _join_anew(group: ClassicGroup, request: Join, now: Now, effects: Effects) -> ErrorCode:
    if request.instance_id is not None:
        known = group.static.get(request.instance_id)
        if known is not None:
            _replace(group, group.members[known], request, now, effects)
        else:
            _add(group, request, request.fresh_id, now, effects)
    elif request.may_defer_id:
        deadline = now.at + request.session_ms / 1000
        group.hand_out(request.fresh_id, deadline)
        effects.wake(deadline)
        effects.reply(request.ticket, JoinAnswer(ErrorCode.member_id_required, request.fresh_id))
    else:
        _add(group, request, request.fresh_id, now, effects)
    return ErrorCode.none


def _add(group: ClassicGroup, request: Join, member_id: str, now: Now, effects: Effects) -> None:
    group.take_back(member_id)
    member = Member(
        member_id,
        request.instance_id,
        request.client_id,
        request.client_host,
        request.session_ms,
        request.rebalance_ms,
        request.protocols,
        deadline=now.at + rebalance.NEW_MEMBER_S,
        is_new=True,
        join_ticket=request.ticket,
    )
    effects.wake(member.deadline)
    if not group.members:
        group.protocol_type = request.protocol_type
    group.add(member)
    if group.state is State.PREPARING_REBALANCE and group.came_from is State.EMPTY:
        group.member_came = True
    rebalance.begin_or_go_on(group, now, effects, f"member {member_id} joined{_because(request)}")


def _update(group: ClassicGroup, member: Member, request: Join, effects: Effects) -> None:
    if member.join_ticket is not None and member.join_ticket != request.ticket:
        # The client asked again, so it has given the first request up; Kafka leaves that one without an answer.
        effects.reply(member.join_ticket, JoinAnswer(ErrorCode.rebalance_in_progress, member.id))
    member.join_ticket = request.ticket
    member.protocols = request.protocols
    member.rebalance_ms, member.session_ms = request.rebalance_ms, request.session_ms
    member.client_id, member.client_host = request.client_id, request.client_host
    if (group, member.id) in group.newcomers:
        group.newcomers.put(group, member.id, member.size, waits=True)


def _join_again(group: ClassicGroup, member: Member, request: Join, now: Now, effects: Effects) -> ErrorCode:
    unchanged = member.protocols == request.protocols
    if group.state is State.PREPARING_REBALANCE:
        _update(group, member, request, effects)
        rebalance.complete_if_all_joined(group, now, effects)
    elif group.state is State.COMPLETING_REBALANCE and unchanged:
        # It never got the answer of this generation.
        effects.reply(request.ticket, rebalance.join_answer(group, member))
    elif group.state is State.STABLE and unchanged and group.leader != member.id:
        effects.reply(request.ticket, rebalance.join_answer(group, member))
    elif group.state is State.EMPTY:
        return ErrorCode.unknown_member_id
    else:
        # A leader joins again when it has seen something that asks for another assignment.
        _update(group, member, request, effects)
        rebalance.begin(group, now, effects, f"member {member.id} joined again{_because(request)}")
    return ErrorCode.none


def _replace(group: ClassicGroup, old: Member, request: Join, now: Now, effects: Effects) -> None:
    """A static member has come back under its instance id: it takes the old one's place, under a new member id."""
    effects.reply(old.join_ticket, JoinAnswer(ErrorCode.fenced_instance_id, old.id))
    effects.reply(old.sync_ticket, SyncAnswer(ErrorCode.fenced_instance_id))
    told = ((each.metadata(group.protocol), each.assignment) for each in group.members.values())
    waits_for_partitions = bool(given_up(told))
    old_id, old_leader = old.id, group.leader or ""
    was_unsynced = old_id in group.unsynced
    member = Member(
        request.fresh_id,
        old.instance_id,
        request.client_id,
        request.client_host,
        request.session_ms,
        request.rebalance_ms,
        request.protocols,
        old.assignment,
        now.at + rebalance.NEW_MEMBER_S,
        is_new=old.is_new,
        join_ticket=request.ticket,
    )
    group.members = {each.id: each for each in (member if one is old else one for one in group.members.values())}
    group.unsynced.discard(old_id)
    if was_unsynced:
        group.unsynced.add(member.id)
    if (group, old_id) in group.newcomers:
        group.newcomers.drop(group, old_id)
        group.newcomers.put(group, member.id, member.size, waits=True)
    assert member.instance_id is not None
    group.static[member.instance_id] = member.id
    if group.leader == old_id:
        group.leader = member.id
    if not member.is_new:
        rebalance.renew(member, now, effects)
    effects.news.append(("group_static_member_replaced", {"instance": member.instance_id, "member": member.id}))
    asks_for_more = waits_for_partitions or _reads_others(group, old, member)
    if group.state is State.STABLE and group.vote() == group.protocol and not asks_for_more:
        _keep_assignment(group, member, old_leader, request, now, effects)
    else:
        rebalance.begin_or_go_on(group, now, effects, f"static member {member.instance_id} came back")


def _reads_others(group: ClassicGroup, old: Member, member: Member) -> bool:
    """Whether a consumer has come back with other topics than before (KAFKA-12759). What else it says of itself is new
    in every life."""
    if group.protocol_type != CONSUMER:
        return False
    before, now = (subscribed_topics(each.metadata(group.protocol)) for each in (old, member))
    return before != now


def _keep_assignment(
    group: ClassicGroup, member: Member, old_leader: str, request: Join, now: Now, effects: Effects
) -> None:
    """No rebalance: the generation stays, and the new member id is written down before it is told.

    A leader that knows `skip_assignment` is told that it leads and has nothing to assign (KIP-814); another is told
    the old leader's id, so that it does not assign.
    """
    member.join_ticket = None
    leads = group.leader == member.id and request.may_skip
    answer = JoinAnswer(
        ErrorCode.none,
        member.id,
        group.generation,
        group.protocol_type,
        group.protocol,
        member.id if leads else old_leader,
        group.roster() if leads else (),
        skip_assignment=leads,
    )
    assignments = {each.id: each.assignment for each in group.members.values()}
    what = Write("static", group.to_store(assignments, now), ((request.ticket, answer),))
    rebalance.write(group, what, effects)


def _because(request: Join) -> str:
    return f" ({request.reason[:255]})" if request.reason else ""
