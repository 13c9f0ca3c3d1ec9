"""group-states.md: the states of groups of both kinds, and of their members."""

from __future__ import annotations

from collections.abc import Iterator

from docs.pages.text import diagram, item, prose
from ottla.broker.groups.classic import TRANSITIONS, State
from ottla.broker.groups.consumer import GROUP_STEPS, MEMBER_STEPS, GroupState, MemberState


def group_states() -> Iterator[str]:
    yield "# The states of groups\n"
    yield "## A classic group\n"
    yield from prose(
        "From the table that the coordinator itself goes by; any other step ends in an error. A group that is loaded "
        "from the log begins in Stable when it has members, and else in Empty."
    )
    order = list(State).index
    steps = [(state.value, after.value) for state, all_of in TRANSITIONS.items() for after in sorted(all_of, key=order)]
    yield from diagram([("[*]", "Empty"), *steps, ("Dead", "[*]")])
    for state, meaning in GROUP_STATES.items():
        yield from item(f"*{state.value}*: {meaning}")
    yield from _consumer_group_states()


def _consumer_group_states() -> Iterator[str]:
    yield "\n## A group of the consumer protocol (KIP-848)\n"
    yield from prose(
        "Its state follows from its epochs and its members, and is kept nowhere. The table has what one decision can "
        "lead to; random schedules of the tests make every step in it, and no other."
    )
    order = list(GroupState).index
    steps = [(str(state), str(after)) for state, all_of in GROUP_STEPS.items() for after in sorted(all_of, key=order)]
    yield from diagram([("[*]", "Empty"), *steps, ("Empty", "[*]")])
    for each, meaning in CONSUMER_GROUP_STATES.items():
        yield from item(f"*{each}*: {meaning}")
    yield "\n### Its members\n"
    yield from prose(
        "The numbers are those in `__consumer_offsets`. A member goes from step to step with its heartbeats, and an "
        "instance that says that it will be back (epoch -2) is STABLE until then. No partition has two owners: a "
        "member keeps its epoch, and so may commit, until it has given up what it must, and is handed only what is "
        "nobody's."
    )
    beginnings = [("[*]", "STABLE"), ("[*]", "UNRELEASED_PARTITIONS")]
    yield from diagram(
        [*beginnings, *((one.name, next.name) for one, all_of in MEMBER_STEPS.items() for next in all_of)]
    )
    for member, meaning in MEMBER_STATES.items():
        yield from item(f"{member.value} *{member.name}*: {meaning}")
    yield "\n| from | to | why |\n|---|---|---|"
    for member, next_states in MEMBER_STEPS.items():
        for following, why in next_states.items():
            yield f"| {member.name} | {following.name} | {why} |"


CONSUMER_GROUP_STATES = {
    GroupState.EMPTY: "no members; committed offsets may be there.",
    GroupState.ASSIGNING: "its epoch is ahead of its target assignment, which the next heartbeat makes.",
    GroupState.RECONCILING: "has a target assignment, and members who do not have it yet, or are away.",
    GroupState.STABLE: "every member has what the target says, and knows its epoch.",
}

MEMBER_STATES = {
    MemberState.STABLE: "it has what it is to have in its epoch, which another target may have overtaken.",
    MemberState.UNREVOKED_PARTITIONS: "it has to give up partitions within its rebalance timeout, and keeps its epoch "
    "until it did.",
    MemberState.UNRELEASED_PARTITIONS: "it has the new epoch and part of its target; others have to give up the rest.",
}


GROUP_STATES = {
    State.EMPTY: "no members; committed offsets may be there.",
    State.PREPARING_REBALANCE: "waits for its members to join, at most for the largest of their rebalance timeouts.",
    State.COMPLETING_REBALANCE: "has a new generation, and waits for its leader's assignment to be replicated.",
    State.STABLE: "every member can have its assignment.",
    State.DEAD: "its end is being written: it is deleted, or a group of the consumer protocol from now on.",
}
