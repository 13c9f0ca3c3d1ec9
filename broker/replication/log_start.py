"""Deleting records on request: the log start moves up here, and the request waits for the followers' (KIP-107)."""

from __future__ import annotations

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.replication.leader import LeaderState
from ottla.broker.replication.partition import Partition
from ottla.broker.replication.produce_wait import ProduceWait

log = structlog.get_logger(__name__)

HIGH_WATERMARK = -1


def delete_records(partition: Partition, offset: int, wait: ProduceWait, slot: int) -> ErrorCode:
    """Serve nothing below `offset` (-1: the high watermark) any more; files go with the next pass of retention.

    `wait` then waits until no replica on a live broker holds anything below either, so that no election among them
    brings it back. OFFSET_OUT_OF_RANGE for what is not committed, NOT_LEADER_OR_FOLLOWER, KAFKA_STORAGE_ERROR.
    """
    error = partition.check_leader()
    if error is not ErrorCode.none:
        return error
    role, held = partition.role, partition.log
    assert isinstance(role, LeaderState) and held is not None
    wanted = role.high_watermark if offset == HIGH_WATERMARK else offset
    if not 0 <= wanted <= role.high_watermark:
        return ErrorCode.offset_out_of_range
    if wanted > held.log_start_offset:
        before = held.log_start_offset
        held.advance_log_start(wanted)
        partition.watchers.log_start_moved()
        log.info("records_deleted", topic=partition.topic, partition=partition.index, below=wanted, log_start=before)
    if low_watermark(partition) < wanted:
        partition.start_acks.push(wanted, wait, slot)
    return ErrorCode.none


def low_watermark(partition: Partition) -> int:
    """The smallest log start of a replica on a live broker, in this leader's eyes; -1 when it does not lead."""
    role = partition.role
    if not isinstance(role, LeaderState):
        return -1
    return role.low_watermark(partition.log_start_offset, partition.host.eligible())
