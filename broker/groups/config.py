"""Settings of the group coordinator, under Kafka's names; times in milliseconds, sizes in bytes, Kafka's defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class MemberTimes(NamedTuple):
    """How often the members of a KIP-848 group are to be heard of; in ms."""

    session_ms: int
    heartbeat_ms: int


@dataclass(frozen=True, slots=True)
class GroupConfig:
    group_initial_rebalance_delay_ms: int = 3000
    group_min_session_timeout_ms: int = 6000
    group_max_session_timeout_ms: int = 1_800_000
    group_max_size: int = 2**31 - 1
    group_consumer_session_timeout_ms: int = 45_000
    group_consumer_heartbeat_interval_ms: int = 5000
    group_consumer_max_size: int = 2**31 - 1
    group_consumer_migration_policy: str = "bidirectional"
    offset_metadata_max_bytes: int = 4096
    offsets_commit_timeout_ms: int = 5000
    offsets_retention_minutes: int = 10_080
    offsets_retention_check_interval_ms: int = 600_000
    offsets_topic_num_partitions: int = 50
    offsets_topic_replication_factor: int = 3
    offsets_topic_segment_bytes: int = 100 * 1024 * 1024
