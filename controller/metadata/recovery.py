"""Who leads where nobody is known to have everything: ISR and ELR are empty, for the last that was in them may have
lost records. Pure.

In Kafka the last known leader leads again with what it has (KIP-966). That may be an empty disk, while another replica
has every record and only was not in the ISR when the disk was lost. So, beyond Kafka, the replicas tell what they have,
and it is compared as Raft compares logs in an election (section 5.4.1): the later epoch of the last record, then the
longer log. Whoever was in the ISR when a record was committed has it, or has lost it; so if one of them has kept its
log, that one or a better one leads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple
from uuid import UUID

from ottla.controller.metadata.image import NO_LEADER, MetadataImage, PartitionImage


class ReplicaLog(NamedTuple):
    """What a replica has, told in `leader_epoch` by the incarnation `broker_epoch`: the epoch of its last record, -1
    for none, and the offset after it."""

    broker_epoch: int
    leader_epoch: int
    last_epoch: int
    end: int


class Reported(NamedTuple):
    """By broker. `overdue`: the last known leader has waited long enough for the others."""

    logs: Mapping[int, ReplicaLog]
    overdue: bool


Reports = Mapping[tuple[UUID, int], Reported]
"""By topic id and partition."""


def most_complete(
    image: MetadataImage, state: PartitionImage, reported: Reported | None, eligible: Callable[[int], bool]
) -> int:
    """The best of the replicas that have told what they have; NO_LEADER while the last known leader has not, or others
    have not and it is not overdue."""
    if state.last_known_leader == NO_LEADER or reported is None:
        return NO_LEADER
    found = {
        replica: told
        for replica in state.replicas
        if (told := reported.logs.get(replica)) is not None
        and eligible(replica)
        and (told.broker_epoch, told.leader_epoch) == (image.brokers[replica].epoch, state.leader_epoch)
    }
    if state.last_known_leader not in found or not (reported.overdue or len(found) == len(state.replicas)):
        return NO_LEADER
    # The last known leader where it is as good as others: what it was asked for last it may have answered.
    return max(found, key=lambda each: (found[each].last_epoch, found[each].end, each == state.last_known_leader))
