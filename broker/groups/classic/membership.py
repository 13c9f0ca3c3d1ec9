"""Heartbeat, LeaveGroup, the passing of time, and whether a member may commit."""

from __future__ import annotations

from collections.abc import Sequence

from kio.schema.errors import ErrorCode

from ottla.broker.groups.classic import rebalance
from ottla.broker.groups.classic.group import ClassicGroup
from ottla.broker.groups.classic.model import Effects, Identity, Join, Member, Now, State, Sync


def heartbeat(
    group: ClassicGroup, member_id: str, instance_id: str | None, generation: int, now: Now
) -> tuple[ErrorCode, Effects]:
    """The member lives. REBALANCE_IN_PROGRESS asks it to join again."""
    effects = Effects()
    if group.state is State.DEAD:
        return ErrorCode.coordinator_not_available, effects
    error = group.check_member(member_id, instance_id)
    if error is ErrorCode.none and generation != group.generation:
        error = ErrorCode.illegal_generation
    if error is not ErrorCode.none:
        return error, effects
    rebalance.renew(group.members[member_id], now, effects)
    preparing = group.state is State.PREPARING_REBALANCE
    return ErrorCode.rebalance_in_progress if preparing else ErrorCode.none, effects


def leave(group: ClassicGroup, identities: Sequence[Identity], now: Now) -> tuple[list[ErrorCode], Effects]:
    """The outcome for each, and one rebalance for all of them."""
    effects = Effects()
    if group.state is State.DEAD:
        return [ErrorCode.coordinator_not_available] * len(identities), effects
    errors = [_leave(group, identity, effects) for identity in identities]
    gone = sum(error is ErrorCode.none for error in errors)
    if gone:
        rebalance.members_went(group, now, effects, f"{gone} left")
    return errors, effects


def _leave(group: ClassicGroup, identity: Identity, effects: Effects) -> ErrorCode:
    member_id = identity.member_id
    if identity.instance_id is None:
        if group.take_back(member_id):
            return ErrorCode.none
    elif member_id == "":
        member_id = group.static.get(identity.instance_id, "")
    error = group.check_member(member_id, identity.instance_id)
    if error is not ErrorCode.none:
        return error
    reason = f"left ({identity.reason[:255]})" if identity.reason else "left"
    rebalance.remove_member(group, group.members[member_id], effects, reason)
    return ErrorCode.none


def tick(group: ClassicGroup, now: Now) -> Effects:
    """Do what is due; `wake_at` is then the next deadline of all."""
    effects = Effects()
    if group.state is State.DEAD:
        return effects
    gone = [member_id for member_id, deadline in group.pending.items() if deadline <= now.at]
    for member_id in gone:
        group.take_back(member_id)
    silent = [member for member in group.members.values() if member.expired(now.at)]
    for member in silent:
        rebalance.remove_member(group, member, effects, "session expired")
    if gone or silent:
        rebalance.members_went(group, now, effects, "a session expired")
    if group.join_deadline is not None and group.join_deadline <= now.at:
        rebalance.join_time_over(group, now, effects)
    if group.sync_deadline is not None and group.sync_deadline <= now.at:
        _sync_time_over(group, now, effects)
    effects.wake_at = group.next_deadline()
    return effects


def _sync_time_over(group: ClassicGroup, now: Now, effects: Effects) -> None:
    """Who got its generation and did not ask for its assignment within the rebalance timeout is out."""
    group.sync_deadline = None
    late = [group.members[member_id] for member_id in sorted(group.unsynced)]
    for member in late:
        rebalance.remove_member(group, member, effects, "did not sync in time")
    if late:
        rebalance.members_went(group, now, effects, "a member did not sync in time")


def gave_up(group: ClassicGroup, request: Join | Sync, now: Now) -> Effects:
    """The connection over which the request came has gone before the answer.

    Who never was told a generation goes with it, a static member too: nothing was given to it, and nobody knows the id
    of one that was not handed out before. A member that has had a generation may come back, so that it stays.
    """
    effects = Effects()
    member = _waiting(group, request)
    if member is None:
        return effects
    if isinstance(request, Join) and member.is_new:
        _go(group, member, now, effects, "its connection went before it had joined", ErrorCode.unknown_member_id)
    else:
        group.newcomers.move(group, member.id, waits=False)
    return effects


def _waiting(group: ClassicGroup, request: Join | Sync) -> Member | None:
    """The member that waits for an answer to this very request."""
    if isinstance(request, Sync):
        member = group.members.get(request.member_id)
        return member if member is not None and member.sync_ticket == request.ticket else None
    for member_id in (request.member_id, request.fresh_id):
        member = group.members.get(member_id)
        if member is not None and member.join_ticket == request.ticket:
            return member
    return None


def crowd_out(group: ClassicGroup, member_id: str, now: Now, *, waits: bool) -> Effects:
    """There are too many newcomers, and this one has to go. It may come again: COORDINATOR_NOT_AVAILABLE if it waits,
    and else UNKNOWN_MEMBER_ID when it comes with its id."""
    effects = Effects()
    if group.state is State.DEAD:
        return effects
    if group.take_back(member_id):
        rebalance.members_went(group, now, effects, "an id was not used")
    elif member_id in group.members:
        error = ErrorCode.coordinator_not_available if waits else ErrorCode.unknown_member_id
        _go(group, group.members[member_id], now, effects, "there are too many newcomers", error)
    return effects


def _go(group: ClassicGroup, member: Member, now: Now, effects: Effects, reason: str, error: ErrorCode) -> None:
    rebalance.remove_member(group, member, effects, reason, error)
    rebalance.members_went(group, now, effects, reason)


def end(group: ClassicGroup, now: Now) -> Effects:
    """Its end is being written: whoever waits comes again, to find it gone, or another kind of group."""
    effects = Effects()
    rebalance.fail_joins(group, effects, ErrorCode.rebalance_in_progress)
    rebalance.fail_syncs(group, effects, ErrorCode.rebalance_in_progress)
    group.go(State.DEAD, now)
    return effects


def rejoin(group: ClassicGroup, now: Now, reason: str) -> Effects:
    """A rebalance that no member has asked for; of a stable group."""
    effects = Effects()
    rebalance.begin(group, now, effects, reason)
    return effects


def check_commit_in_transaction(
    group: ClassicGroup, member_id: str, instance_id: str | None, generation: int
) -> ErrorCode:
    """Whether offsets may be committed as a part of a transaction (KIP-447): also by who does not say who it is, as
    older producers, and while a rebalance is being completed. It is no sign of life."""
    if group.state is State.DEAD:
        return ErrorCode.coordinator_not_available
    if generation < 0 and (group.state is State.EMPTY or (member_id == "" and instance_id is None)):
        return ErrorCode.none
    error = group.check_member(member_id, instance_id)
    return ErrorCode.illegal_generation if error is ErrorCode.none and generation != group.generation else error


def check_commit(
    group: ClassicGroup, member_id: str, instance_id: str | None, generation: int, now: Now
) -> tuple[ErrorCode, Effects]:
    """Whether offsets may be committed. It counts as a sign of life.

    Without a generation (-1) only a group without members takes commits: those of consumers that assign themselves.
    """
    effects = Effects()
    if group.state is State.DEAD:
        return ErrorCode.coordinator_not_available, effects
    if generation < 0 and group.state is State.EMPTY:
        return ErrorCode.none, effects
    if generation < 0 and member_id == "" and instance_id is None:
        return ErrorCode.unknown_member_id, effects
    error = group.check_member(member_id, instance_id)
    if error is ErrorCode.none and generation != group.generation:
        error = ErrorCode.illegal_generation
    if error is ErrorCode.none and group.state is State.COMPLETING_REBALANCE:
        error = ErrorCode.rebalance_in_progress
    if error is ErrorCode.none:
        rebalance.renew(group.members[member_id], now, effects)
    return error, effects
