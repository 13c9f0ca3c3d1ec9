"""Settings of replication, under Kafka's names; sizes in bytes, times in milliseconds, Kafka's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ottla.broker.replication.throttle import UNLIMITED
from ottla.log import LogConfig

_NEVER = 2**63 - 1
"""Kafka's default of the flush configs: leave it to the operating system."""

ConfigValue = bool | int | float | str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReplicationConfig:
    """Broker-wide settings. `inter_broker_listener_name` says which advertised listener followers fetch from."""

    node_id: int
    inter_broker_listener_name: str = "PLAINTEXT"
    replica_lag_time_max_ms: int = 30_000
    replica_fetch_wait_max_ms: int = 500
    replica_fetch_min_bytes: int = 1
    replica_fetch_max_bytes: int = 1024 * 1024
    replica_fetch_response_max_bytes: int = 10 * 1024 * 1024
    leader_replication_throttled_rate: int = UNLIMITED
    follower_replication_throttled_rate: int = UNLIMITED
    ottla_repair_throttled_rate: int = UNLIMITED
    replica_socket_timeout_ms: int = 30_000
    replica_high_watermark_checkpoint_interval_ms: int = 5_000
    log_retention_check_interval_ms: int = 300_000
    log_flush_offset_checkpoint_interval_ms: int = 60_000
    log_cleaner_enable: bool = True
    log_cleaner_backoff_ms: int = 15_000
    log_cleaner_dedupe_buffer_size: int = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """What a topic's configs mean to its replicas."""

    log: LogConfig = field(default_factory=LogConfig)
    min_insync_replicas: int = 1
    leader_throttled_replicas: tuple[str, ...] = ()
    follower_throttled_replicas: tuple[str, ...] = ()


def topic_settings(values: Mapping[str, ConfigValue]) -> TopicSettings:
    """From resolved topic configs by Kafka's names.

    Whoever asks for any flush.messages or flush.ms gets a sync before every acknowledgement, shared by all that wait.
    """

    def number(name: str, default: int) -> int:
        value = values.get(name, default)
        return value if isinstance(value, int) else default

    def names(name: str) -> tuple[str, ...]:
        value = values.get(name, ())
        return value if isinstance(value, tuple) else ()

    base = LogConfig()
    asked = number("flush.messages", _NEVER) != _NEVER or number("flush.ms", _NEVER) != _NEVER
    flush: Literal["os", "synced"] = "synced" if asked else "os"
    append_time = values.get("message.timestamp.type") == "LogAppendTime"
    ratio = values.get("min.cleanable.dirty.ratio")
    policy = values.get("cleanup.policy")
    policies = frozenset(policy if isinstance(policy, tuple) else str(policy or "delete").split(","))
    compact: Literal["compact", "compact,delete"] = "compact,delete" if "delete" in policies else "compact"
    return TopicSettings(
        LogConfig(
            segment_bytes=number("segment.bytes", base.segment_bytes),
            segment_ms=number("segment.ms", base.segment_ms),
            segment_jitter_ms=number("segment.jitter.ms", base.segment_jitter_ms),
            index_interval_bytes=number("index.interval.bytes", base.index_interval_bytes),
            segment_index_bytes=number("segment.index.bytes", base.segment_index_bytes),
            retention_ms=number("retention.ms", base.retention_ms),
            retention_bytes=number("retention.bytes", base.retention_bytes),
            max_message_bytes=number("max.message.bytes", base.max_message_bytes),
            flush=flush,
            message_timestamp_type="LogAppendTime" if append_time else "CreateTime",
            cleanup_policy=compact if "compact" in policies else "delete",
            preallocate=values.get("preallocate") is True,
            file_delete_delay_ms=number("file.delete.delay.ms", base.file_delete_delay_ms),
            delete_retention_ms=number("delete.retention.ms", base.delete_retention_ms),
            min_compaction_lag_ms=number("min.compaction.lag.ms", base.min_compaction_lag_ms),
            max_compaction_lag_ms=number("max.compaction.lag.ms", base.max_compaction_lag_ms),
            min_cleanable_dirty_ratio=float(ratio)
            if isinstance(ratio, int | float)
            else base.min_cleanable_dirty_ratio,
        ),
        number("min.insync.replicas", 1),
        names("leader.replication.throttled.replicas"),
        names("follower.replication.throttled.replicas"),
    )
