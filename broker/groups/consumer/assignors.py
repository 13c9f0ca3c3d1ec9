"""Server-side assignors (KIP-848): who is to have what. Pure functions of members, topics and what was before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias
from uuid import UUID

from ottla.broker.groups.consumer.records import NOTHING, Partitions

Wishes: TypeAlias = Mapping[str, frozenset[UUID]]
"""The topics that each member wants, by member id."""

Sizes: TypeAlias = Mapping[UUID, int]
"""How many partitions a topic has; topics that do not exist are not there."""

Assignor: TypeAlias = Callable[[Wishes, Sizes, Mapping[str, Partitions]], dict[str, Partitions]]


def range_assignor(wishes: Wishes, sizes: Sizes, before: Mapping[str, Partitions]) -> dict[str, Partitions]:
    """Each topic's partitions in order, in runs of equal length, so that equal numbers of different topics meet."""
    plan: dict[str, set[tuple[UUID, int]]] = {member: set() for member in wishes}
    for topic, size in sizes.items():
        members = sorted(member for member, topics in wishes.items() if topic in topics)
        if not members:
            continue
        each, extra = divmod(size, len(members))
        at = 0
        for place, member in enumerate(members):
            end = at + each + (place < extra)
            plan[member] |= {(topic, index) for index in range(at, end)}
            at = end
    return {member: frozenset(owned) for member, owned in plan.items()}


def uniform_assignor(wishes: Wishes, sizes: Sizes, before: Mapping[str, Partitions]) -> dict[str, Partitions]:
    """As even as the wishes allow, and moving as little as that allows."""
    plan: dict[str, set[tuple[UUID, int]]] = {}
    free = {(topic, index) for topic, size in sizes.items() for index in range(size)}
    for member in sorted(wishes):
        kept = {at for at in before.get(member, NOTHING) if at in free and at[0] in wishes[member]}
        plan[member] = kept
        free -= kept
    wanting: dict[UUID, list[str]] = defaultdict(list)
    for member in sorted(wishes):
        for topic in wishes[member]:
            wanting[topic].append(member)
    for at in _ordered(free):
        members = wanting.get(at[0])
        if members:
            plan[min(members, key=lambda each: len(plan[each]))].add(at)
    _even_out(plan, wanting)
    return {member: frozenset(owned) for member, owned in plan.items()}


def _even_out(plan: dict[str, set[tuple[UUID, int]]], wanting: Mapping[UUID, Sequence[str]]) -> None:
    """Move partitions to members that have at least two fewer, until there is no such move.

    Every move makes the sum of the squares of the loads smaller, so that this ends.
    """
    moved = True
    while moved:
        moved = False
        lightest = min(map(len, plan.values()), default=0)
        for member in sorted(plan, key=lambda each: (-len(plan[each]), each)):
            if len(plan[member]) <= lightest + 1:
                break
            moved |= _lighten(plan, member, wanting)


def _lighten(plan: dict[str, set[tuple[UUID, int]]], member: str, wanting: Mapping[UUID, Sequence[str]]) -> bool:
    """Whether anything was taken from this member."""
    moved = False
    least: dict[UUID, str] = {}
    for at in _ordered(plan[member]):
        topic = at[0]
        other = least.get(topic)
        if other is None:
            other = least[topic] = min(wanting[topic], key=lambda each: len(plan[each]))
        if len(plan[other]) + 1 < len(plan[member]):
            plan[member].discard(at)
            plan[other].add(at)
            least.clear()
            moved = True
    return moved


def _ordered(partitions: set[tuple[UUID, int]]) -> list[tuple[UUID, int]]:
    return sorted(partitions, key=lambda at: (at[1], at[0].int))


ASSIGNORS: Final[Mapping[str, Assignor]] = {"uniform": uniform_assignor, "range": range_assignor}
DEFAULT_ASSIGNOR: Final = "uniform"
