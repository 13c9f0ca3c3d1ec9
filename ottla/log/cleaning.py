"""The log cleaner: which compacted log of a data directory is cleaned next, and how far each has been."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from ottla.log.checkpoints import TopicPartition, decode_offsets, encode_offsets
from ottla.log.cleaner import Cleaning, CleaningAborted, discard, is_due
from ottla.log.errors import CorruptFile, DiskError, DiskFull, LogError
from ottla.log.group_commit import GroupCommit, Truncated
from ottla.log.manager import LogManager
from ottla.log.partition_log import PartitionLog
from ottla.records import CorruptBatch

log = structlog.get_logger(__name__)

CLEANER_OFFSETS_FILE = "cleaner-offset-checkpoint"
DEDUPE_BUFFER_BYTES = 128 * 1024 * 1024
MAX_ROUNDS_ASIDE = 64

HighWatermarkOf = Callable[[str, int], int]


class CleanerStatus(NamedTuple):
    """`uncleanable`: logs whose last cleaning failed. `max_dirty_ratio`: of the dirtiest log, before the last round."""

    uncleanable: int
    max_dirty_ratio: float


@dataclass(slots=True)
class _Trouble:
    """A log whose cleaning failed so many times in a row; it is left alone for some rounds."""

    log: PartitionLog
    failures: int = 0
    rounds: int = 0


class LogCleaner:
    """Belongs to the event loop; what blocks runs through `commits`, one log at a time.

    `max_bytes` bounds the memory for keys (log.cleaner.dedupe.buffer.size): a log with more keys takes several rounds.
    A log that cannot be cleaned is tried again after one round, then after two, four and so on, up to 64: a full disk
    may have room again, and a damaged log is not read over and over.
    """

    def __init__(self, logs: LogManager, commits: GroupCommit, *, max_bytes: int = DEDUPE_BUFFER_BYTES) -> None:
        self._logs = logs
        self._commits = commits
        self._clock = logs.clock
        self._disk = logs.disk
        self._path = f"{logs.directory}/{CLEANER_OFFSETS_FILE}"
        self.max_bytes = max_bytes
        self._dirty_from: dict[TopicPartition, int] | None = None
        self._troubles: dict[TopicPartition, _Trouble] = {}
        self._max_dirty_ratio = 0.0

    @property
    def status(self) -> CleanerStatus:
        return CleanerStatus(len(self._troubles), self._max_dirty_ratio)

    async def clean(self, high_watermark_of: HighWatermarkOf) -> int:
        """One round: clean every log that is due, the dirtiest first; returns how many. One that fails is put aside."""
        if self._dirty_from is None:
            self._dirty_from = await self._commits.run_blocking(self._read)
        self._troubles = {key: each for key, each in self._troubles.items() if self._logs.get(*key) is each.log}
        self._max_dirty_ratio = 0.0
        due: list[tuple[float, TopicPartition, PartitionLog]] = []
        for key, each in self._logs:
            if "compact" not in each.config.cleanup_policy:
                self._troubles.pop(key, None)
                continue
            try:
                cleaning = each.begin_cleaning(self._dirty_from.get(key, 0), high_watermark_of(*key), self._clock())
                worth = cleaning is not None and is_due(cleaning)
            except (DiskError, LogError) as error:
                self._failed(key, each, error)
                continue
            if cleaning is not None:
                self._max_dirty_ratio = max(self._max_dirty_ratio, cleaning.ratio)
            if worth and cleaning is not None and not self._is_aside(key):
                due.append((-cleaning.ratio, key, each))
        done = 0
        for _, key, each in sorted(due, key=lambda item: item[:2]):
            done += await self._clean(key, each, high_watermark_of)
        return done

    def _is_aside(self, key: TopicPartition) -> bool:
        """Whether it is to wait for another round; each round that asks is one."""
        trouble = self._troubles.get(key)
        if trouble is None or not trouble.rounds:
            return False
        trouble.rounds -= 1
        return True

    def _failed(self, key: TopicPartition, each: PartitionLog, error: Exception) -> None:
        trouble = self._troubles.setdefault(key, _Trouble(each))
        trouble.rounds = min(2**trouble.failures, MAX_ROUNDS_ASIDE)
        trouble.failures += 1
        log.error(
            "log_cleaning_failed",
            topic=key[0],
            partition=key[1],
            error=str(error),
            failures=trouble.failures,
            rounds_until_retry=trouble.rounds,
        )

    async def _clean(self, key: TopicPartition, each: PartitionLog, high_watermark_of: HighWatermarkOf) -> bool:
        assert self._dirty_from is not None
        try:
            if each.has_rolled_unflushed:
                # What is known of epochs is on the disk before the batches that show it are gone.
                await self._commits.synced(each, each.log_end_offset)
            cleaning = each.begin_cleaning(self._dirty_from.get(key, 0), high_watermark_of(*key), self._clock())
            if cleaning is None or self._logs.get(*key) is not each:
                return False
            end = await clean_log(each, cleaning, self._commits, self.max_bytes)
        except (CleaningAborted, Truncated) as reason:
            log.info("log_cleaning_aborted", topic=key[0], partition=key[1], reason=str(reason))
            return False
        except (DiskError, LogError, CorruptBatch) as error:
            if self._logs.get(*key) is each:
                self._failed(key, each, error)
            return False
        self._troubles.pop(key, None)
        log.info(
            "log_cleaned",
            topic=key[0],
            partition=key[1],
            up_to=end,
            bytes_before=cleaning.bytes_before,
            bytes_after=cleaning.bytes_after,
        )
        self._dirty_from = {
            **{other: offset for other, offset in self._dirty_from.items() if self._logs.get(*other) is not None},
            key: end,
        }
        try:
            await self._commits.run_blocking(functools.partial(self._write, dict(self._dirty_from)))
        except DiskError as error:
            # It only spares the next process some work.
            log.warning("checkpoint_not_written", file=self._path, error=str(error))
        return True

    def _read(self) -> dict[TopicPartition, int]:
        try:
            return decode_offsets(self._disk.read(self._path)) if self._disk.exists(self._path) else {}
        except CorruptFile as error:
            log.warning("checkpoint_ignored", file=self._path, reason=str(error))
            return {}

    def _write(self, offsets: dict[TopicPartition, int]) -> None:
        self._disk.write_atomic(self._path, encode_offsets(offsets))


async def clean_log(each: PartitionLog, cleaning: Cleaning, commits: GroupCommit, max_bytes: int) -> int:
    """Carry out one cleaning; returns the offset below which the log is clean now.

    Raises CleaningAborted when the log was cut, closed or deleted meanwhile; CorruptBatch, DiskError.
    """
    each.start_cleaning(cleaning)
    done = False
    try:
        await commits.run_blocking(each.mark_compacted)
        end = await commits.run_blocking(functools.partial(cleaning.map_keys, max_bytes))
        for group in cleaning.groups():
            cleaning.check()
            new = await commits.run_blocking(functools.partial(cleaning.write, group))
            try:
                await commits.run_blocking(functools.partial(each.commit, cleaning, new))
            except (CleaningAborted, DiskFull):
                await commits.run_blocking(functools.partial(discard, new))
                raise
            each.install(cleaning, group)
            await commits.run_blocking(each.finish_swap)
        done = True
        return end
    finally:
        if not cleaning.aborted:
            each.end_cleaning(done=done)
