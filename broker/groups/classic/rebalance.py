"""How a rebalance begins, waits for its members, and ends in a new generation. Steps of `ClassicGroup`, without I/O.

Every function takes the group, the moment and the effects that it adds to.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.groups.classic.group import ClassicGroup
from ottla.broker.groups.classic.model import Effects, JoinAnswer, Member, Now, State, SyncAnswer, Write

NEW_MEMBER_S = 300.0
"""How long a new member may wait for its first answer (Kafka's `group.new.member.join.timeout`)."""

MIN_WAIT_S = 0.5
"""How long to wait for static members when they name no rebalance timeout themselves."""


def begin_or_go_on(group: ClassicGroup, now: Now, effects: Effects, reason: str) -> None:
    """The members changed: begin a rebalance, or see whether the present one is complete."""
    if State.PREPARING_REBALANCE is group.state:
        complete_if_all_joined(group, now, effects)
    else:
        begin(group, now, effects, reason)


def begin(group: ClassicGroup, now: Now, effects: Effects, reason: str) -> None:
    """Into PreparingRebalance: the members learn of it by their heartbeats and join again.

    From Empty the group waits `group.initial.rebalance.delay.ms` for more members to come (KIP-134), again as long as
    more do, and never longer than the rebalance timeout.
    """
    if group.state is State.COMPLETING_REBALANCE:
        fail_syncs(group, effects, ErrorCode.rebalance_in_progress)
        for member in group.members.values():
            member.assignment = b""
    group.sync_deadline = None
    group.unsynced.clear()
    first = group.state is State.EMPTY
    group.go(State.PREPARING_REBALANCE, now)
    effects.news.append(("group_rebalancing", {"reason": reason, "generation": group.generation}))
    if first:
        group.initial_left_s = max(group.rebalance_s - group.initial_delay_s, 0.0)
        group.member_came = False
        _join_until(group, now.at + group.initial_delay_s, effects)
        return
    _join_until(group, now.at + group.rebalance_s, effects)
    complete_if_all_joined(group, now, effects)


def _join_until(group: ClassicGroup, deadline: float, effects: Effects) -> None:
    group.join_deadline = deadline
    effects.wake(deadline)


def complete_if_all_joined(group: ClassicGroup, now: Now, effects: Effects) -> None:
    if group.state is State.PREPARING_REBALANCE and group.came_from is not State.EMPTY and group.all_joined:
        complete(group, now, effects)


def join_time_over(group: ClassicGroup, now: Now, effects: Effects) -> None:
    """`join_deadline` has come."""
    if group.came_from is State.EMPTY and group.member_came and group.initial_left_s > 0:
        group.member_came = False
        delay = min(group.initial_delay_s, group.initial_left_s)
        group.initial_left_s = max(group.initial_left_s - delay, 0.0)
        _join_until(group, now.at + delay, effects)
        return
    complete(group, now, effects)


def complete(group: ClassicGroup, now: Now, effects: Effects) -> None:
    """The end of the join phase: who did not come is out (static members stay until their session ends)."""
    group.join_deadline = None
    for member in tuple(group.members.values()):
        if member.join_ticket is None and member.instance_id is None:
            group.remove(member.id)
            effects.news.append(("group_member_removed", {"member": member.id, "reason": "did not rejoin in time"}))
    if group.members and not group.elect_joined_leader():
        # Only static members are left, and none has come yet: wait on.
        _join_until(group, now.at + max(group.rebalance_s, MIN_WAIT_S), effects)
        return
    group.generation += 1
    if not group.members:
        group.protocol = None
        group.leader = None
        group.go(State.EMPTY, now)
        if group.unwritten:
            return  # so it never was, and needs no end
        effects.news.append(("group_empty", {"generation": group.generation}))
        write(group, Write("empty", group.to_store({}, now)), effects)
        return
    group.protocol = group.vote()
    group.go(State.COMPLETING_REBALANCE, now)
    for member in group.members.values():
        _answer_join(group, member, now, effects)
    group.unsynced = set(group.members)
    group.sync_deadline = now.at + group.rebalance_s
    effects.wake(group.sync_deadline)


def _answer_join(group: ClassicGroup, member: Member, now: Now, effects: Effects) -> None:
    ticket, member.join_ticket = member.join_ticket, None
    effects.reply(ticket, join_answer(group, member))
    member.is_new = False
    group.newcomers.move(group, member.id, waits=False)
    renew(member, now, effects)


def join_answer(group: ClassicGroup, member: Member) -> JoinAnswer:
    """The present generation as this member is told of it: only the leader hears of the others."""
    return JoinAnswer(
        ErrorCode.none,
        member.id,
        group.generation,
        group.protocol_type,
        group.protocol,
        group.leader or "",
        group.roster() if group.leader == member.id else (),
    )


def renew(member: Member, now: Now, effects: Effects) -> None:
    """The member was heard of. No timer moves: the group is looked at when its earliest known deadline comes."""
    member.deadline = now.at + member.session_ms / 1000
    effects.wake(member.deadline)


def fail_joins(group: ClassicGroup, effects: Effects, error: ErrorCode) -> None:
    for member in group.members.values():
        effects.reply(member.join_ticket, JoinAnswer(error, member.id))
        member.join_ticket = None


def fail_syncs(group: ClassicGroup, effects: Effects, error: ErrorCode) -> None:
    for member in group.members.values():
        effects.reply(member.sync_ticket, SyncAnswer(error))
        member.sync_ticket = None
        group.newcomers.move(group, member.id, waits=False)


def remove_member(
    group: ClassicGroup,
    member: Member,
    effects: Effects,
    reason: str,
    error: ErrorCode = ErrorCode.unknown_member_id,
) -> None:
    """Out of the group; if it waits for an answer it is told why."""
    effects.reply(member.join_ticket, JoinAnswer(error, member.id))
    effects.reply(member.sync_ticket, SyncAnswer(error))
    member.join_ticket = member.sync_ticket = None
    group.remove(member.id)
    effects.news.append(("group_member_removed", {"member": member.id, "reason": reason}))


def members_went(group: ClassicGroup, now: Now, effects: Effects, reason: str) -> None:
    """After removals: those who stay share what is free now."""
    if group.state in (State.STABLE, State.COMPLETING_REBALANCE):
        begin(group, now, effects, reason)
    elif group.state is State.PREPARING_REBALANCE and group.unwritten and not group.members:
        complete(group, now, effects)
    else:
        complete_if_all_joined(group, now, effects)


def write(group: ClassicGroup, what: Write, effects: Effects) -> None:
    group.writing = what
    effects.writes.append(what)
