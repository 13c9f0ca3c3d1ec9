"""Reading from the replica that is nearest to the consumer (KIP-392): whom the leader names, and what a follower gives.

Nothing above the follower's own high watermark is given, which is the leader's as far as the own log reaches; and
nothing at all before this leader has shown that the own log is a part of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from kio.schema.errors import ErrorCode

from ottla.broker.replication.follower import EpochEnd, FollowerState, diverges
from ottla.broker.replication.leader import LeaderState
from ottla.broker.replication.leading import read_below
from ottla.broker.replication.partition import Partition
from ottla.broker.replication.reading import FetchResult, FetchWant


def nearest_replica(partition: Partition, offset: int, rack: str, racks: Mapping[int, str]) -> int | None:
    """The member of the ISR that a consumer in `rack` shall fetch `offset` from, None if that is this leader.

    A leader in that rack is the choice; otherwise the follower there that has most, and of several the one that was
    caught up last (Kafka's RackAwareReplicaSelector). `racks` are those of the brokers that the consumer can reach.
    A replica outside the ISR is not named, or a consumer could stay behind with it for ever.
    """
    role = partition.role
    if not isinstance(role, LeaderState) or not rack or racks.get(role.node_id) == rack:
        return None
    near = [
        follower
        for follower in role.followers.values()
        if follower.id in role.isr.committed
        and racks.get(follower.id) == rack
        and 0 <= follower.log_start <= offset <= follower.end_offset
    ]
    best = max(near, key=lambda one: (one.end_offset, one.caught_up_at, one.id), default=None)
    return None if best is None else best.id


def read_as_follower(partition: Partition, want: FetchWant, *, min_one: bool = True) -> FetchResult:
    """Read for a consumer where this broker follows.

    OFFSET_NOT_AVAILABLE where only the leader can tell: an offset that is not (or no longer) here, or no word from this
    leader yet. NOT_LEADER_OR_FOLLOWER outside the ISR. Up to the log's end the consumer may wait for the high
    watermark.
    """
    error = partition.check_epoch(want.current_leader_epoch)
    if error is not ErrorCode.none:
        return FetchResult(error)
    role, held = partition.role, partition.log
    assert isinstance(role, FollowerState) and held is not None
    if not partition.in_isr:
        return FetchResult(ErrorCode.not_leader_or_follower)
    if not role.in_step or not held.log_start_offset <= want.offset <= held.log_end_offset:
        return FetchResult(ErrorCode.offset_not_available)
    if want.last_fetched_epoch >= 0 and want.offset <= role.high_watermark:
        # Above that the own log is no measure: what it holds there may yet be cut.
        end = EpochEnd(*held.end_offset_for_epoch(want.last_fetched_epoch))
        if end.epoch < 0 or diverges(want.offset, want.last_fetched_epoch, end):
            return FetchResult(ErrorCode.offset_not_available)
    up_to = partition.last_stable_offset if want.committed_only else role.high_watermark
    return read_below(partition, want, up_to, min_one=min_one)
