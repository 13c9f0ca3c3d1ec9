"""ListOffsets, v1-v11: offsets by time, and the two ends of a log (KIP-79).

v2 isolation level · v4 leader epochs (KIP-320) · v5 OFFSET_NOT_AVAILABLE (KIP-207) · v7 -3, the largest timestamp
(KIP-734) · v8 -4, the earliest local offset (KIP-405) · v9 -5, the latest tiered offset (KIP-1005) · v10 a timeout for
remote reads · v11 -6, the earliest offset that waits to be tiered (KIP-1023).

Differences from Kafka: nothing is tiered, so -4 is the log start, -5 and -6 are always -1 with no error, and the
timeout of v10 has nothing to bound. -3 never finds a record that was deleted, as it can in Kafka. The log end goes only
to an authenticated broker, not to whoever says to be one.
"""

from __future__ import annotations

from typing import NamedTuple

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.leadership import led_partition
from ottla.broker.replication import Partition
from ottla.log import DiskError, LogError
from ottla.records import CorruptBatch
from ottla.wire import Request

log = structlog.get_logger(__name__)

ISOLATION_SINCE = 2
READ_COMMITTED = 1

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5
EARLIEST_PENDING_UPLOAD = -6
# The version from which on each special timestamp may be asked for.
_SINCE = {
    LATEST: 1,
    EARLIEST: 1,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
    EARLIEST_PENDING_UPLOAD: 11,
}


class Found(NamedTuple):
    """Error, offset, timestamp (ms) and leader epoch of it; -1 for what there is not."""

    error: ErrorCode
    offset: int = -1
    timestamp: int = -1
    epoch: int = -1


class Asker(NamedTuple):
    """Who asks: by which version, whether as a broker, and whether only what is committed is read."""

    version: int
    follower: bool
    committed_only: bool

    def end(self, partition: Partition) -> int:
        """Where the log ends for it."""
        if self.follower:
            return partition.log_end_offset
        return partition.last_stable_offset if self.committed_only else partition.high_watermark


def handle(context: BrokerContext, request: Request) -> Answer:
    body, version = request.body, request.api_version
    follower = body.replica_id >= 0
    asker = Asker(version, follower, version >= ISOLATION_SINCE and body.isolation_level == READ_COMMITTED)
    allowed = not follower or request.connection.principal == f"node:{body.replica_id}"
    topics = []
    seen: set[tuple[str, int]] = set()
    for topic in body.topics:
        rows = []
        for row in topic.partitions:
            index = row.partition_index
            if not allowed:
                found = Found(ErrorCode.cluster_authorization_failed)
            elif (topic.name, index) in seen:
                found = Found(ErrorCode.invalid_request)
            else:
                found = _find(context, topic.name, row, asker)
            seen.add((topic.name, index))
            rows.append(
                {
                    "partition_index": index,
                    "error_code": found.error,
                    "timestamp": found.timestamp,
                    "offset": found.offset,
                    "leader_epoch": found.epoch,
                }
            )
        topics.append({"name": topic.name, "partitions": rows})
    return {"topics": topics}


def _find(context: BrokerContext, topic: str, row: object, asker: Asker) -> Found:
    timestamp: int = getattr(row, "timestamp", LATEST)
    if timestamp < 0 and asker.version < _SINCE.get(timestamp, 1 << 15):
        return Found(ErrorCode.unsupported_version)
    index: int = getattr(row, "partition_index", -1)
    partition = led_partition(context, topic, index, getattr(row, "current_leader_epoch", -1))
    if isinstance(partition, ErrorCode):
        return Found(partition)
    try:
        return _offset(partition, timestamp, asker)
    except (DiskError, LogError, CorruptBatch) as error:
        log.error("offset_lookup_failed", topic=topic, partition=index, reason=str(error))
        return Found(ErrorCode.kafka_storage_error)


def _offset(partition: Partition, timestamp: int, asker: Asker) -> Found:
    """KIP-207: a new leader does not tell where the log ends before all that was committed is known as such."""
    held = partition.log
    assert held is not None, "what leads has a log"
    end = asker.end(partition)
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        start = held.log_start_offset
        return Found(ErrorCode.none, start, -1, held.epoch_for_offset(start))
    if timestamp in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
        return Found(ErrorCode.none)
    catching_up = not asker.follower and not partition.settled
    if timestamp == LATEST:
        return _not_yet(asker.version) if catching_up else Found(ErrorCode.none, end, -1, partition.leader_epoch)
    if timestamp == MAX_TIMESTAMP:
        hit = held.max_timestamp_offset()
        if hit is not None and hit[0] >= end:
            hit = None
    else:
        hit = held.offset_for_timestamp(timestamp, up_to=end)
    if hit is not None:
        return Found(ErrorCode.none, *hit)
    return _not_yet(asker.version) if catching_up else Found(ErrorCode.none)


def _not_yet(version: int) -> Found:
    return Found(ErrorCode.offset_not_available if version >= 5 else ErrorCode.leader_not_available)
