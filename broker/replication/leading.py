"""What a leader does for its clients and followers: append, read, and take note of a follower's fetch.

Outcomes are data: error codes, never exceptions, except where an invariant of ours is broken.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.replication.follower import EpochEnd, diverges
from ottla.broker.replication.leader import LeaderState
from ottla.broker.replication.partition import NO_EPOCH, Acks, Partition
from ottla.broker.replication.reading import FetchResult, FetchWant
from ottla.log import (
    Appended,
    CorruptFile,
    DiskError,
    DiskFull,
    Duplicate,
    LogError,
    New,
    OffsetOutOfRange,
    PartitionLog,
    Verification,
)
from ottla.records import CONTROL_BIT, BatchHeader, CorruptBatch

log = structlog.get_logger(__name__)


def append(
    partition: Partition,
    batch: bytes | memoryview,
    header: BatchHeader,
    *,
    acks: Acks,
    now_ms: int,
    verification: Verification | None = None,
    sequenced: bool = True,
) -> Appended | ErrorCode:
    """Append one verified batch to the leader's log.

    The first batch of a transaction here needs the `verification` that its coordinator has answered (KIP-890), or is
    INVALID_TXN_STATE. `sequenced`: not so for what a coordinator writes on behalf of a producer. A marker is judged by
    `append_marker`.

    A retry of one of the producer's last five batches is not written again and answers with its offsets (KIP-98).
    acks=all is refused before anything is written when the ISR is too small (NOT_ENOUGH_REPLICAS).
    """
    role, held = partition.role, partition.log
    if partition.failure is not None or held is None or not isinstance(role, LeaderState):
        return partition.check_leader()
    if acks == -1 and role.under_min_isr:
        return ErrorCode.not_enough_replicas
    if header.producer_id >= 0 and not header.attributes & CONTROL_BIT:
        verdict = held.producers.check(header, verification, sequenced=sequenced)
        if not isinstance(verdict, New):
            return _again(held, verdict) if isinstance(verdict, Duplicate) else verdict
    try:
        appended = held.append_as_leader(batch, header, role.leader_epoch, now_ms)
    except DiskFull as full:
        # Nothing was written and the log is whole: reads go on, and so do writes once there is room again.
        log.warning("disk_full", topic=partition.topic, partition=partition.index, error=str(full))
        return ErrorCode.kafka_storage_error
    except (DiskError, LogError) as broken:
        partition.fail(broken)
        return ErrorCode.kafka_storage_error
    partition.appended(len(batch))
    return appended


def _again(held: PartitionLog, found: Duplicate) -> Appended:
    append_time = found.timestamp if held.config.message_timestamp_type == "LogAppendTime" else -1
    return Appended(found.base_offset, found.last_offset, found.timestamp, append_time, held.log_start_offset)


def read(partition: Partition, want: FetchWant, *, min_one: bool = True, checked: bool = False) -> FetchResult:
    """Read for a consumer (below the high watermark or the last stable offset) or a follower (all), after checking the
    epochs (KIP-320, KIP-595).

    With `min_one`, the first batch comes whole even if it is larger than `want.max_bytes`. With `checked` nothing comes
    that does not check, however lately it was written.
    """
    role, held, epoch = partition.role, partition.log, want.current_leader_epoch
    agrees = epoch == NO_EPOCH or epoch == role.leader_epoch
    if not agrees or partition.failure is not None or not isinstance(role, LeaderState):
        error = partition.check_leader(epoch)
        if error is not ErrorCode.none:
            return FetchResult(error)
    assert held is not None
    start, end = held.log_start_offset, held.log_end_offset
    offset, fetched_epoch = want.offset, want.last_fetched_epoch
    if fetched_epoch > role.leader_epoch:
        # It has read what a later leader has appended, and knows better than this one who leads.
        return FetchResult(ErrorCode.unknown_leader_epoch)
    if offset < start:
        return _out_of_range(partition)
    if offset > end and fetched_epoch < 0:
        return _beyond(partition, want)
    if fetched_epoch >= 0 and (offset > end or fetched_epoch != held.last_epoch):
        # Otherwise it goes on in the epoch that ends where the log does.
        epoch_end = EpochEnd(*held.end_offset_for_epoch(fetched_epoch))
        if epoch_end.epoch < 0:
            # The fetcher's epoch is above every one of ours, which its leader epoch should have excluded.
            return _out_of_range(partition)
        if diverges(offset, fetched_epoch, epoch_end):
            return _result(partition, diverging=epoch_end)
    if want.replica_id >= 0:
        up_to = end
    else:
        up_to = partition.last_stable_offset if want.committed_only else role.high_watermark
    return read_below(partition, want, up_to, min_one=min_one, checked=checked)


def _beyond(partition: Partition, want: FetchWant) -> FetchResult:
    """For a consumer there is nothing yet at an offset above the end, until it is certain that there never was."""
    role = partition.role
    if want.replica_id >= 0 or not isinstance(role, LeaderState) or role.is_beyond(want.offset, partition.host.now()):
        return _out_of_range(partition)
    return _result(partition)


def read_below(
    partition: Partition, want: FetchWant, up_to: int, *, min_one: bool, checked: bool = False
) -> FetchResult:
    """The batches from `want.offset` on that end at or before `up_to`."""
    held, offset = partition.log, want.offset
    assert held is not None
    if offset >= up_to:
        return _result(partition)
    max_bytes, throttle = want.max_bytes, None
    if partition.throttled_as_leader and want.replica_id >= 0:
        throttle = partition.throttle_for(want.replica_id)
    if throttle is not None:
        max_bytes = min(max_bytes, throttle.allowance(partition.host.now()))
        if max_bytes == 0:
            # It asks again, at the latest when its long poll is over.
            return _result(partition)
        # Even if others come first: they may do so every time.
        min_one = True
    try:
        records = held.read(offset, max_bytes, up_to=up_to, min_one=min_one, checked=checked)
        aborted = held.aborted_in(records, offset) if want.committed_only and offset <= held.last_abort else ()
    except OffsetOutOfRange:
        return _out_of_range(partition)
    except (CorruptBatch, CorruptFile) as corrupt:
        return FetchResult(damaged(partition, corrupt))
    except (DiskError, LogError) as broken:
        partition.fail(broken)
        return FetchResult(ErrorCode.kafka_storage_error)
    if throttle is not None:
        throttle.spend(len(records), partition.host.now())
    return _result(partition, records, aborted=aborted)


def damaged(partition: Partition, found: CorruptBatch | CorruptFile) -> ErrorCode:
    """A read has found that the bytes on disk have changed under us: they are not served.

    Where others have all that is committed, this replica gives way and starts over from them. Alone it goes on: the
    rest of its log is all that there is.
    """
    role, held = partition.role, partition.log
    assert held is not None
    if isinstance(role, LeaderState) and role.isr.committed == {partition.host.node_id}:
        log.error("corrupt_log", topic=partition.topic, partition=partition.index, error=str(found))
        return ErrorCode.corrupt_message
    held.condemn(str(found))
    partition.fail(found)
    return ErrorCode.kafka_storage_error


def _result(
    partition: Partition,
    records: bytes = b"",
    diverging: EpochEnd | None = None,
    aborted: Sequence[tuple[int, int]] = (),
) -> FetchResult:
    held, high_watermark = partition.log, partition.role.high_watermark
    assert held is not None
    stable = partition.last_stable_offset if held.producers.transactions.unsettled else high_watermark
    return FetchResult(ErrorCode.none, records, high_watermark, stable, held.log_start_offset, diverging, -1, aborted)


def _out_of_range(partition: Partition) -> FetchResult:
    """With the offsets there are, so that a follower need not ask for them."""
    return FetchResult(
        ErrorCode.offset_out_of_range,
        high_watermark=partition.high_watermark,
        last_stable_offset=partition.last_stable_offset,
        log_start_offset=partition.log_start_offset,
    )


def read_for_follower(partition: Partition, want: FetchWant, *, min_one: bool = True) -> FetchResult:
    """A follower's fetch, once per request: read, and count what its offset says it has.

    A fetch from a broker that is no replica, or from an earlier incarnation of one (KIP-903), counts for nothing and
    is refused. A fetch that diverges or is out of range proves nothing about what the follower holds. One that asks for
    what it was given before could perhaps not take it: it gets nothing that does not check.
    """
    role = partition.role
    if not isinstance(role, LeaderState) or partition.failure is not None:
        return read(partition, want, min_one=min_one)
    host, replica_id, epoch = partition.host, want.replica_id, want.broker_epoch
    follower, eligible = role.followers.get(replica_id), host.eligible()
    if follower is None or epoch < follower.broker_epoch or epoch < eligible.get(replica_id, -1):
        return FetchResult(ErrorCode.not_leader_or_follower)
    result = read(partition, want, min_one=min_one, checked=want.offset == follower.given)
    if result.error is not ErrorCode.none or result.diverging is not None:
        return result
    follower.fetched(epoch, want.offset, role.log_end, host.now(), want.log_start)
    if result.records:
        follower.given = want.offset
    if partition.start_acks.waiters:
        partition.release_starts()
    if replica_id not in role.maximal:
        proposal = role.expand(follower, eligible)
        if proposal is not None:
            partition.propose(proposal)
    before, end = role.high_watermark, role.log_end
    if role.durable_end > before:  # after most fetches there is nothing that could be committed
        partition.advance()
    if role.high_watermark == before:
        return result
    if role.log_end > end and not result.records:
        # A coordinator that heard of it has gone on to its next record, before this fetch waits for any.
        result = read(partition, want, min_one=min_one)
        if result.records:
            follower.given = want.offset
        return result
    return _result(partition, result.records)
