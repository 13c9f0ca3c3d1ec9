"""Configuration of one partition's log, with Kafka's topic-level names and defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Sizes in bytes, times in milliseconds; -1 means no limit for the two retention limits.

    `flush`: "os" leaves writing back to the page cache (Kafka's default); "synced" promises fsync before the
    acknowledgement (the caller waits on GroupCommit; the log itself only carries the wish).
    """

    segment_bytes: int = 1024 * 1024 * 1024
    segment_ms: int = 7 * 24 * 3600 * 1000
    segment_jitter_ms: int = 0
    index_interval_bytes: int = 4096
    segment_index_bytes: int = 10 * 1024 * 1024
    retention_ms: int = 7 * 24 * 3600 * 1000
    retention_bytes: int = -1
    max_message_bytes: int = 1048588
    flush: Literal["os", "synced"] = "os"
    message_timestamp_type: Literal["CreateTime", "LogAppendTime"] = "CreateTime"
    cleanup_policy: Literal["delete", "compact", "compact,delete"] = "delete"
    preallocate: bool = False
    file_delete_delay_ms: int = 60_000
    delete_retention_ms: int = 24 * 3600 * 1000
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = 2**63 - 1
    min_cleanable_dirty_ratio: float = 0.5
    producer_id_expiration_ms: int = 24 * 3600 * 1000
