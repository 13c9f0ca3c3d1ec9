"""What has to be done now and then: lagging replicas, high-watermark checkpoint, flushing and retention."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable

import structlog

from ottla.broker.replication.config import ReplicationConfig
from ottla.broker.replication.partition import Partition
from ottla.log import CleanerStatus, DiskError, GroupCommit, LogCleaner, LogError, LogManager
from ottla.tasks import start_task, stop_tasks

log = structlog.get_logger(__name__)


REMOVAL_MS = 1_000
"""How often the files of deleted logs are looked for that have waited for file.delete.delay.ms."""

COOLING_MS = 5_000
"""After one to two times as long what was written is checked when it is read."""

Interval = Callable[[ReplicationConfig], int]
"""Milliseconds between two rounds."""


class Housekeeping:
    """One task for each kind of work, from `start` to `stop`. A disk error ends one round of one kind of work."""

    def __init__(
        self,
        config: ReplicationConfig,
        logs: LogManager,
        group: GroupCommit,
        partitions: Callable[[], Iterable[Partition]],
    ) -> None:
        self._config = config
        self._logs = logs
        self._group = group
        self._partitions = partitions
        self._cleaner = LogCleaner(logs, group, max_bytes=config.log_cleaner_dedupe_buffer_size)
        self._tasks: list[asyncio.Task[None]] = []
        self._reconfigured = asyncio.Event()

    def start(self) -> None:
        work: tuple[tuple[str, Interval, Callable[[], Awaitable[object]]], ...] = (
            ("isr-shrink", lambda config: config.replica_lag_time_max_ms // 2, self._shrink),
            ("high-watermarks", lambda config: config.replica_high_watermark_checkpoint_interval_ms, self.checkpoint),
            ("log-flush", lambda config: config.log_flush_offset_checkpoint_interval_ms, self._logs.flush_pass),
            ("log-retention", lambda config: config.log_retention_check_interval_ms, self._retain),
            ("log-removal", lambda _: REMOVAL_MS, self._logs.removal_pass),
            ("log-cooling", lambda _: COOLING_MS, self._logs.cooling_pass),
            ("log-cleaner", lambda config: config.log_cleaner_backoff_ms, self._clean),
        )
        self._tasks = [start_task(self._every(interval, name, what), name) for name, interval, what in work]

    def reconfigure(self, config: ReplicationConfig) -> None:
        """Go by other intervals from now on; whoever waits begins to wait anew."""
        self._config = config
        self._cleaner.max_bytes = config.log_cleaner_dedupe_buffer_size
        woken, self._reconfigured = self._reconfigured, asyncio.Event()
        woken.set()

    async def _every(self, interval: Interval, name: str, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            changed = self._reconfigured
            try:
                async with asyncio.timeout(interval(self._config) / 1000):
                    await changed.wait()
            except TimeoutError:
                await _round(name, work)

    async def stop(self) -> None:
        """Stop, and write the high watermarks a last time."""
        await stop_tasks(self._tasks)
        self._tasks = []
        await _round("high-watermarks", self.checkpoint)

    @property
    def cleaner(self) -> CleanerStatus:
        return self._cleaner.status

    async def checkpoint(self) -> None:
        """Settle new logs, and write down all high watermarks, and log starts that moved. Raises DiskError."""
        await self._group.run_blocking(self._logs.settle)
        offsets = {
            (partition.topic, partition.index): (partition.log, partition.high_watermark)
            for partition in self._partitions()
            if partition.log is not None
        }
        await self._group.run_blocking(functools.partial(self._logs.write_high_watermarks, offsets))
        await self._group.run_blocking(self._logs.write_log_starts)

    async def _shrink(self) -> None:
        for partition in tuple(self._partitions()):
            partition.shrink_isr()

    async def _retain(self) -> None:
        await self._logs.retention_pass(self._high_watermarks())

    async def _clean(self) -> None:
        if not self._config.log_cleaner_enable:
            return
        await self._cleaner.clean(self._high_watermarks())

    def _high_watermarks(self) -> Callable[[str, int], int]:
        """Nothing above the high watermark goes, nor anything of a log that is no partition's."""
        found = {(partition.topic, partition.index): partition.high_watermark for partition in self._partitions()}
        return lambda topic, index: found.get((topic, index), 0)


async def _round(name: str, work: Callable[[], Awaitable[object]]) -> None:
    try:
        await work()
    except (DiskError, LogError) as error:
        log.error("housekeeping_failed", work=name, error=str(error))
