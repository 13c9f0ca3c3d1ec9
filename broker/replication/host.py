"""What a partition needs of the broker around it, handed to its constructor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ottla.broker.replication.throttle import Throttle
from ottla.log import GroupCommit

if TYPE_CHECKING:
    from ottla.broker.replication.leader import IsrProposal
    from ottla.broker.replication.partition import Partition


@dataclass(frozen=True, slots=True)
class PartitionHost:
    """`now` is the time that lag is measured in (seconds; it stands still while this process is stalled).

    `eligible` gives the brokers that may be in an ISR, with their epochs. `propose` takes a change of the ISR to the
    controller. `storage_failed` is told once when a partition's log can no longer be trusted. The throttles are the
    broker's: for what it sends as leader, for what it fetches, and for what it fetches to repair a partition.
    """

    node_id: int
    max_lag_s: float
    now: Callable[[], float]
    eligible: Callable[[], Mapping[int, int]]
    propose: Callable[[Partition, IsrProposal], None]
    storage_failed: Callable[[Partition, Exception], None]
    group: GroupCommit
    leader_throttle: Throttle = field(default_factory=Throttle)
    follower_throttle: Throttle = field(default_factory=Throttle)
    repair_throttle: Throttle = field(default_factory=Throttle)
