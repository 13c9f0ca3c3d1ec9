"""From what a member has to what it is to have, one step per heartbeat: first give up, then take what others gave up.

So no partition ever has two owners: it is taken only when nobody has it any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from ottla.broker.groups.consumer.records import NOTHING, STABLE, UNRELEASED, UNREVOKED, Current, Partitions


def reconciled(
    current: Current,
    member_id: str,
    target: Partitions,
    target_epoch: int,
    owners: Mapping[tuple[UUID, int], str],
    owned: Partitions | None,
) -> Current:
    """The member's next state. `owned` is what it says to have, None when it does not say.

    A member that has to give up keeps its epoch until it did; after that it has the epoch of the target, and waits in
    UNRELEASED for what others have not given up.
    """
    if current.state == STABLE and current.epoch == target_epoch and current.assigned == target:
        return current
    if current.state == UNREVOKED and (owned is None or owned & current.revoking):
        return current
    kept = current.assigned & target
    revoking = current.assigned - target
    if current.epoch == 0:
        # It has just come (back) and has nothing: there is nothing to wait for.
        revoking = NOTHING
    if revoking and (owned is None or owned & revoking):
        return Current(current.epoch, current.previous, UNREVOKED, kept, revoking)
    missing = target - kept
    held = frozenset(at for at in missing if owners.get(at, member_id) != member_id)
    state = UNRELEASED if held else STABLE
    previous = current.previous if current.epoch == target_epoch else current.epoch
    return Current(target_epoch, previous, state, kept | (missing - held), NOTHING)
