"""How a consumer fetches, and where it begins."""

from __future__ import annotations

from datetime import timedelta

from ottla.client.consumer.chunk import Deserializer
from ottla.client.consumer.position import Reset
from ottla.client.options import Clock


class FetchOptions:
    """Sizes in bytes, times in seconds; `reset_to` is what `auto_offset_reset` means, None for "none"."""

    def __init__(
        self,
        *,
        max_wait: float,
        min_bytes: int,
        max_bytes: int,
        max_partition_bytes: int,
        isolation_level: int,
        reset_to: Reset | None,
        rack: str,
        key: Deserializer,
        value: Deserializer,
        clock: Clock,
    ) -> None:
        self.max_wait = max_wait
        self.min_bytes = min_bytes
        self.max_bytes = max_bytes
        self.max_partition_bytes = max_partition_bytes
        self.isolation_level = isolation_level
        self.reset_to = reset_to
        self.rack = rack
        self.key = key
        self.value = value
        self.clock = clock


def time_of(reset: Reset, clock: Clock) -> int:
    """What to ask for: ms since the epoch, LATEST or EARLIEST."""
    if isinstance(reset, timedelta):
        return max(clock() - round(reset.total_seconds() * 1000), 0)
    return reset
