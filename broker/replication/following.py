"""What a follower does to its log: append what the leader sent, cut what diverges, start over where it must."""

from __future__ import annotations

import structlog

from ottla.broker.replication.follower import EpochEnd, FollowerState, truncation_point
from ottla.broker.replication.partition import Partition
from ottla.log import OffsetsOutOfOrder, PartitionLog
from ottla.records import read_header, verify_batch

log = structlog.get_logger(__name__)


def append_from_leader(partition: Partition, records: bytes | memoryview, asked_at: int) -> None:
    """Append whole batches as the leader sent them when it was asked for what follows `asked_at`.

    Offsets may be missing: a log that was compacted once has gaps whatever its topic's policy is now. So an answer to
    another question than the log's end now asks would make a hole that nobody could tell from such a gap. Raises
    CorruptBatch, OffsetsOutOfOrder (nothing of the batches at fault is appended), DiskError, LogError.
    """
    _, held = _following(partition)
    start = held.log_end_offset
    if start != asked_at:
        raise OffsetsOutOfOrder(f"{held.directory}: an answer about {asked_at} where {start} is next")
    first = read_header(records) if held.log_start_offset == start else None
    if first is not None and first.base_offset < start <= first.last_offset:
        # We began at the leader's log start, which lies inside a batch; batches come whole, so the log has to begin
        # with that batch's first offset, while the log start stays.
        verify_batch(records)
        held.truncate_fully_and_start_at(first.base_offset)
        held.append_as_follower(records, gaps=True)
        held.advance_log_start(start)
    else:
        held.append_as_follower(records, gaps=True)
    partition.watchers.appended(held.log_end_offset, len(records))


def adopt(partition: Partition, high_watermark: int, log_start_offset: int) -> None:
    """Take over the leader's high watermark and log start offset, as far as they apply to what is here."""
    role, held = _following(partition)
    if role.learn(high_watermark, held.log_end_offset):
        apart = held.producers.transactions.unsettled
        stable = partition.last_stable_offset if apart else role.high_watermark
        partition.watchers.committed(role.high_watermark, stable)
    if log_start_offset > held.log_start_offset:
        held.advance_log_start(min(log_start_offset, role.high_watermark))


def out_of_touch(partition: Partition, role: FollowerState) -> None:
    """The leader does not answer: consumers who read here are to ask it, or to find another one (KIP-392)."""
    if partition.role is role and role.in_step:
        role.in_step = False
        partition.watchers.changed()


def truncate(partition: Partition, diverging: EpochEnd) -> int:
    """Cut the log back towards where it left the leader's (KIP-595); returns the new end. The next fetch shows whether
    that was far enough. Raises BadDivergence, DiskError, LogError."""
    role, held = _following(partition)
    own = EpochEnd(*held.end_offset_for_epoch(diverging.epoch))
    before = held.log_end_offset
    point = truncation_point(diverging, own, before)
    if point < held.log_start_offset:
        held.truncate_fully_and_start_at(point)
    else:
        held.truncate_to(point)
    _report(partition, role, "log_truncated", before, held.log_end_offset)
    return held.log_end_offset


def start_over(partition: Partition, leader_log_start: int) -> bool:
    """The leader has nothing at our offset. Start again at its log start if nothing of ours joins on to it.

    False when our log still joins on to the leader's: then dropping it could only lose data.
    """
    role, held = _following(partition)
    end = held.log_end_offset
    empty = end == held.log_start_offset
    if leader_log_start < 0 or (leader_log_start <= end and not empty) or (empty and leader_log_start == end):
        return False
    held.truncate_fully_and_start_at(leader_log_start)
    # Below the leader's log start nothing is wanted any more, so no offset there is lost.
    if leader_log_start < role.high_watermark:
        _report(partition, role, "log_restarted", end, leader_log_start)
    else:
        role.high_watermark = leader_log_start
        log.info("log_restarted", topic=partition.topic, partition=partition.index, at=leader_log_start, was=end)
    return True


def _report(partition: Partition, role: FollowerState, event: str, before: int, after: int) -> None:
    lost = role.truncated(after)
    names = {"topic": partition.topic, "partition": partition.index, "leader_epoch": role.leader_epoch}
    if lost:
        # Only an unclean election brings this about; anything else that does has broken the promise.
        log.error(event, **names, at=after, was=before, below_high_watermark=lost)
    else:
        log.info(event, **names, at=after, was=before)


def _following(partition: Partition) -> tuple[FollowerState, PartitionLog]:
    role, held = partition.role, partition.log
    if not isinstance(role, FollowerState):
        raise AssertionError(f"{partition!r} leads, and is told to follow")  # noqa: TRY004 - an invariant, not an argument
    if held is None or partition.failure is not None:
        raise AssertionError(f"{partition!r} is offline, and is told to follow")
    return role, held
