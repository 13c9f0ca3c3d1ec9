"""Which segments are old enough to go: by time, by size, and below the log start offset (Kafka's rules)."""

from __future__ import annotations

from collections.abc import Sequence

from ottla.log.config import LogConfig
from ottla.log.segment import Segment


def count_deletable(
    segments: Sequence[Segment], config: LogConfig, now_ms: int, high_watermark: int, log_start_offset: int
) -> int:
    """How many of the oldest segments to delete; all of them means that the active one is to be rolled first.

    Never one that reaches above the high watermark, never the active one while it is empty. A segment without record
    timestamps does not expire by time.
    """
    total = sum(segment.size for segment in segments)
    count = 0
    for segment, following in zip(segments, [*segments[1:], None], strict=True):
        if segment.next_offset > high_watermark or (following is None and not segment.size):
            break
        below_start = following is not None and following.base_offset <= log_start_offset
        if not (below_start or ("delete" in config.cleanup_policy and _expired(segment, config, now_ms, total))):
            break
        total -= segment.size
        count += 1
    return count


def _expired(segment: Segment, config: LogConfig, now_ms: int, total: int) -> bool:
    if config.retention_bytes >= 0 and total - segment.size >= config.retention_bytes:
        return True
    if config.retention_ms < 0:
        return False
    newest = segment.largest_timestamp()
    return newest >= 0 and now_ms - newest > config.retention_ms
