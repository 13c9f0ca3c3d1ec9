"""One partition on its way from its leader: what the leader's answer means for it, and how it fares."""

from __future__ import annotations

import asyncio

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.replication import following
from ottla.broker.replication.follower import EpochEnd, FollowerState
from ottla.broker.replication.follower_session import Key, key_of
from ottla.broker.replication.partition import Partition
from ottla.wire import FetchPartitionResponse

log = structlog.get_logger(__name__)

FIRST_BACKOFF_S = 0.005
MAX_BACKOFF_S = 0.5
MAX_REST_S = 1.0

# A leader that has not read the metadata as far as we have, or has read further: normal after an election.
PASSING = frozenset(
    error.name
    for error in (
        ErrorCode.not_leader_or_follower,
        ErrorCode.fenced_leader_epoch,
        ErrorCode.unknown_leader_epoch,
        ErrorCode.unknown_topic_id,
        ErrorCode.unknown_topic_or_partition,
        ErrorCode.inconsistent_topic_id,
    )
)


class Followed:
    """A partition as long as it has this role. `asked_at`: the offset that a request has named, None before the first;
    `retry_at` (loop time): when to fetch it again once it was put aside, and `trouble` why it was."""

    __slots__ = ("_backoff", "asked_at", "key", "partition", "retry_at", "role", "trouble")

    def __init__(self, partition: Partition, role: FollowerState) -> None:
        self.partition = partition
        self.role = role
        self.key: Key = key_of(partition.topic_id, partition.index)
        self.asked_at: int | None = None
        self.retry_at = 0.0
        self._backoff = FIRST_BACKOFF_S
        self.trouble: str | None = None

    @property
    def current(self) -> bool:
        return self.partition.role is self.role and self.partition.failure is None

    def rests(self) -> bool:
        """Whether a throttle lets nothing through now; then `retry_at` is when to look again."""
        throttle = self.partition.fetch_throttle
        if throttle is None:
            return False
        wait_s = throttle.ready_in(self.partition.host.now())
        # Not longer at once than MAX_REST_S: the throttle may be taken away, and others spend from it.
        self.retry_at = asyncio.get_running_loop().time() + min(wait_s, MAX_REST_S)
        return wait_s > 0

    def most(self, max_bytes: int) -> int:
        """As many bytes may be asked for: no more than a throttle lets through."""
        throttle = self.partition.fetch_throttle
        return max_bytes if throttle is None else min(max_bytes, max(throttle.allowance(self.partition.host.now()), 1))

    def failed(self, trouble: str) -> None:
        """Put aside for a while, longer each time. A new kind of trouble is logged; an election's echo is not."""
        self.retry_at = asyncio.get_running_loop().time() + self._backoff
        self._backoff = min(self._backoff * 2, MAX_BACKOFF_S)
        if trouble != self.trouble and trouble not in PASSING:
            log.warning("partition_not_fetched", **self._names(), trouble=trouble)
        self.trouble = trouble

    def recovered(self) -> None:
        """It is fetched again, after some trouble."""
        if self.trouble not in PASSING:
            log.info("partition_fetched_again", **self._names())
        self.trouble = None
        self._backoff = FIRST_BACKOFF_S

    def _names(self) -> dict[str, object]:
        partition = self.partition
        return {"topic": partition.topic, "partition": partition.index, "leader": self.role.leader_id}


def take(followed: Followed, row: FetchPartitionResponse) -> str | None:
    """Do what the leader's answer asks for; the trouble that keeps this partition from being fetched, if any.

    Raises CorruptBatch, OffsetsOutOfOrder, BadDivergence, DiskError, LogError.
    """
    partition = followed.partition
    if row.error_code:
        error = ErrorCode(row.error_code)
        if error is ErrorCode.offset_out_of_range and following.start_over(partition, row.log_start_offset):
            return None
        return error.name
    if row.diverging_epoch is not None:
        following.truncate(partition, EpochEnd(*row.diverging_epoch))
        return None
    records = row.records
    if records:
        assert isinstance(records, bytes | memoryview) and followed.asked_at is not None
        throttle = partition.fetch_throttle
        following.append_from_leader(partition, records, followed.asked_at)
        if throttle is not None:
            throttle.spend(len(records), partition.host.now())
    following.adopt(partition, row.high_watermark, row.log_start_offset)
    return None
