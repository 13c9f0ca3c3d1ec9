"""SyncGroup, and the outcome of writing a generation down."""

from __future__ import annotations

from dataclasses import replace

from kio.schema.errors import ErrorCode

from ottla.broker.groups.classic import rebalance
from ottla.broker.groups.classic.group import ClassicGroup
from ottla.broker.groups.classic.model import Effects, Now, State, Sync, SyncAnswer, Write


def sync(group: ClassicGroup, request: Sync, now: Now) -> Effects:
    """The answer comes once the leader's assignment is replicated; for a stable group at once."""
    effects = Effects()
    error = _check(group, request)
    if error is not ErrorCode.none:
        effects.reply(request.ticket, SyncAnswer(error))
        return effects
    member = group.members[request.member_id]
    group.unsynced.discard(member.id)
    if group.state is State.STABLE:
        rebalance.renew(member, now, effects)
        effects.reply(request.ticket, _answer(group, member.assignment))
        return effects
    if member.sync_ticket is not None:
        effects.reply(member.sync_ticket, SyncAnswer(ErrorCode.rebalance_in_progress))
    member.sync_ticket = request.ticket
    group.newcomers.move(group, member.id, waits=True)
    if group.leader == member.id and not _is_writing(group):
        given = dict(request.assignments)
        assignments = {each: given.get(each, b"") for each in group.members}
        rebalance.write(group, Write("assignment", group.to_store(assignments, now)), effects)
    return effects


def _check(group: ClassicGroup, request: Sync) -> ErrorCode:
    if group.state is State.DEAD:
        return ErrorCode.coordinator_not_available
    error = group.check_member(request.member_id, request.instance_id)
    if error is not ErrorCode.none:
        return error
    if request.generation != group.generation:
        return ErrorCode.illegal_generation
    for given, own in ((request.protocol_type, group.protocol_type), (request.protocol, group.protocol)):
        if given is not None and given != own:
            return ErrorCode.inconsistent_group_protocol
    if group.state is State.PREPARING_REBALANCE:
        return ErrorCode.rebalance_in_progress
    return ErrorCode.unknown_member_id if group.state is State.EMPTY else ErrorCode.none


def _is_writing(group: ClassicGroup) -> bool:
    writing = group.writing
    return writing is not None and writing.purpose == "assignment" and writing.value.generation == group.generation


def _answer(group: ClassicGroup, assignment: bytes) -> SyncAnswer:
    return SyncAnswer(ErrorCode.none, group.protocol_type, group.protocol, assignment)


def written(group: ClassicGroup, what: Write, error: ErrorCode, now: Now) -> Effects:
    """The outcome of a write: committed (and replayed before this), or not, with the error to tell."""
    effects = Effects()
    if group.writing is what:
        group.writing = None
    for ticket, answer in what.answers:
        if error is ErrorCode.none:
            effects.reply(ticket, answer)
        else:
            effects.reply(ticket, replace(answer, error=error, generation=-1, members=(), skip_assignment=False))
    of_now = what.value.generation == group.generation and group.state is State.COMPLETING_REBALANCE
    if what.purpose != "assignment" or not of_now:
        # The group has moved on: whoever waited for this was told so when it did.
        return effects
    if error is not ErrorCode.none:
        rebalance.fail_syncs(group, effects, error)
        rebalance.begin(group, now, effects, "the assignment could not be written")
        return effects
    for row in what.value.members:
        group.members[row.id].assignment = row.assignment
        group.newcomers.drop(group, row.id)
    group.go(State.STABLE, now)
    for member in group.members.values():
        if member.sync_ticket is not None:
            effects.reply(member.sync_ticket, _answer(group, member.assignment))
            member.sync_ticket = None
            rebalance.renew(member, now, effects)
    effects.news.append(
        ("group_stable", {"generation": group.generation, "members": len(group.members), "protocol": group.protocol})
    )
    return effects
