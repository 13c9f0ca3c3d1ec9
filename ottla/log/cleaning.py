"""The log cleaner: which compacted log of a data directory is cleaned next, and how far each has been."""

from __future__ import annotations

import functools
from collections.abc import Callable

import structlog

from ottla.log.checkpoints import TopicPartition, decode_offsets, encode_offsets
from ottla.log.cleaner import Cleaning, CleaningAborted, is_due
from ottla.log.errors import CorruptFile, DiskError, LogError
from ottla.log.group_commit import GroupCommit
from ottla.log.manager import LogManager
from ottla.log.partition_log import PartitionLog
from ottla.records import CorruptBatch

log = structlog.get_logger(__name__)

CLEANER_OFFSETS_FILE = "cleaner-offset-checkpoint"
DEDUPE_BUFFER_BYTES = 128 * 1024 * 1024


class LogCleaner:
    """Belongs to the event loop; what blocks runs through `commits`, one log at a time.

    `max_bytes` bounds the memory for keys (log.cleaner.dedupe.buffer.size): a log with more keys takes several rounds.
    """

    def __init__(self, logs: LogManager, commits: GroupCommit, *, max_bytes: int = DEDUPE_BUFFER_BYTES) -> None:
        self._logs = logs
        self._commits = commits
        self._clock = logs.clock
        self._disk = logs.disk
        self._path = f"{logs.directory}/{CLEANER_OFFSETS_FILE}"
        self._max_bytes = max_bytes
        self._dirty_from: dict[TopicPartition, int] | None = None
        self._unsound: set[PartitionLog] = set()

    async def clean(self, high_watermark_of: Callable[[str, int], int]) -> int:
        """Clean every log that is due, the dirtiest first; returns how many. A log that fails is left as it is."""
        if self._dirty_from is None:
            self._dirty_from = await self._commits.run_blocking(self._read)
        due: list[tuple[float, TopicPartition, PartitionLog]] = []
        for key, each in self._logs:
            if "compact" not in each.config.cleanup_policy or each in self._unsound:
                continue
            cleaning = each.begin_cleaning(self._dirty_from.get(key, 0), high_watermark_of(*key), self._clock())
            if cleaning is not None and is_due(cleaning):
                due.append((-cleaning.ratio, key, each))
        done = 0
        for _, key, each in sorted(due, key=lambda item: item[:2]):
            done += await self._clean(key, each, high_watermark_of)
        return done

    async def _clean(
        self, key: TopicPartition, each: PartitionLog, high_watermark_of: Callable[[str, int], int]
    ) -> bool:
        assert self._dirty_from is not None
        try:
            if each.has_rolled_unflushed:
                # What is known of epochs is on the disk before the batches that show it are gone.
                await self._commits.synced(each, each.log_end_offset)
            cleaning = each.begin_cleaning(self._dirty_from.get(key, 0), high_watermark_of(*key), self._clock())
            if cleaning is None or self._logs.get(*key) is not each:
                return False
            end = await clean_log(each, cleaning, self._commits, self._max_bytes)
        except CleaningAborted as reason:
            log.info("log_cleaning_aborted", topic=key[0], partition=key[1], reason=str(reason))
            return False
        except (DiskError, LogError, CorruptBatch) as error:
            self._unsound.add(each)
            log.error("log_cleaning_failed", topic=key[0], partition=key[1], error=str(error))
            return False
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
        await self._commits.run_blocking(functools.partial(self._write, dict(self._dirty_from)))
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
            except CleaningAborted:
                new.close_file()
                raise
            each.install(cleaning, group)
            await commits.run_blocking(each.finish_swap)
        done = True
        return end
    finally:
        if not cleaning.aborted:
            each.end_cleaning(done=done)
