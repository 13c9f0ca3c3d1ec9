"""The states of a KIP-848 group and of its members, and the steps between them. All data.

Neither is kept beside the rest: a group's follows from its epochs and its members, a member's stands in its record. So
the tables bind nobody, and the random schedules of the tests are held to them: no other step, and each of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Final


class GroupState(StrEnum):
    """By the names that clients are told."""

    EMPTY = "Empty"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    STABLE = "Stable"


class MemberState(IntEnum):
    """By the numbers that stand in the records."""

    STABLE = 0
    UNREVOKED_PARTITIONS = 1
    UNRELEASED_PARTITIONS = 2


GROUP_STEPS: Final[Mapping[GroupState, frozenset[GroupState]]] = {
    GroupState.EMPTY: frozenset({GroupState.STABLE}),
    GroupState.ASSIGNING: frozenset({GroupState.EMPTY, GroupState.RECONCILING, GroupState.STABLE}),
    GroupState.RECONCILING: frozenset({GroupState.EMPTY, GroupState.ASSIGNING, GroupState.STABLE}),
    GroupState.STABLE: frozenset({GroupState.EMPTY, GroupState.ASSIGNING, GroupState.RECONCILING}),
}
"""What one decision can lead to; several that are written as one batch may pass over states."""

MEMBER_STEPS: Final[Mapping[MemberState, Mapping[MemberState, str]]] = {
    MemberState.STABLE: {
        MemberState.UNREVOKED_PARTITIONS: "it has what the new target gives to others",
        MemberState.UNRELEASED_PARTITIONS: "the new target has more for it, and others still have that",
    },
    MemberState.UNREVOKED_PARTITIONS: {
        MemberState.STABLE: "it has given up, and all that it is to have is free",
        MemberState.UNRELEASED_PARTITIONS: "it has given up, and waits for others",
    },
    MemberState.UNRELEASED_PARTITIONS: {
        MemberState.STABLE: "the others have given up, or are gone",
        MemberState.UNREVOKED_PARTITIONS: "there is another target meanwhile, with less of what it has",
    },
}
"""And why. A member may also stay in its state with other partitions, or in another epoch."""
