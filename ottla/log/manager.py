"""One data directory: all partition logs in it, their checkpoints, and how they are opened, kept and closed."""

from __future__ import annotations

import asyncio
import functools
import random
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Self
from uuid import UUID

import structlog

from ottla.log.checkpoints import HIGH_WATERMARK_FILE, LOCK_FILE, LOG_START_FILE, RECOVERY_POINT_FILE, TopicPartition
from ottla.log.config import LogConfig
from ottla.log.disk import Disk, Lock
from ottla.log.errors import CorruptFile, DiskError, InconsistentTopicId, LogError
from ottla.log.group_commit import GroupCommit
from ottla.log.last_stop import LastStop
from ottla.log.offset_files import OffsetFiles, Offsets
from ottla.log.partition_log import PartitionLog
from ottla.log.removal import DELETED, STRAY, Removal
from ottla.log.topic_ids import read_topic_id, sync_topic_id, write_topic_id

log = structlog.get_logger(__name__)

Clock = Callable[[], int]
ConfigOf = Callable[[str], LogConfig]

_NAME = re.compile(r"([a-zA-Z0-9._-]{1,249})-(\d{1,10})")
# A metadata log is the Raft storage's own, in the same directory.
_FOREIGN = "__cluster_metadata-"


class LogManager:
    """Made by `open`. Logs are keyed by (topic, partition); those that failed to open are in `offline`.

    `was_clean` tells whether the last shutdown was clean, `last_broker_epoch` which broker epoch it ended (-1 unknown).
    Its own methods that are not async touch the disk briefly and belong to the event loop's thread.
    """

    def __init__(self, disk: Disk, directory: str, clock: Clock, rng: random.Random, commits: GroupCommit) -> None:
        self.directory = directory
        self.offline: dict[TopicPartition, Exception] = {}
        self._disk = disk
        self._clock = clock
        self._rng = rng
        self._commits = commits
        self._stop = LastStop(disk, directory)
        self._offsets = OffsetFiles(disk, directory)
        self._removal = Removal(disk, directory, rng, asyncio.get_running_loop().time)
        self._logs: dict[TopicPartition, PartitionLog] = {}
        self.high_watermarks: dict[TopicPartition, int] = {}
        """replication-offset-checkpoint as it was found; empty when missing or torn."""
        self._topic_ids: dict[TopicPartition, UUID] = {}
        self._lock: Lock | None = None
        self._unsettled: deque[PartitionLog] = deque()

    @classmethod
    async def open(
        cls,
        disk: Disk,
        directory: str,
        config_of: ConfigOf,
        *,
        clock: Clock,
        rng: random.Random,
        commits: GroupCommit,
        locked: bool = False,
    ) -> Self:
        """Lock the directory (unless the caller has it `locked`) and open every log in it, in the executor.

        The clean-shutdown marker is durably removed before the first log is touched: a crash while recovering must find
        an unclean directory again (KAFKA-10471). Raises DiskLocked, DiskError; a log that cannot be opened is offline.
        """
        self = cls(disk, directory, clock, rng, commits)
        await commits.run_blocking(functools.partial(self._begin, locked=locked))
        try:
            await commits.run_blocking(functools.partial(self._open_all, config_of))
        except BaseException:
            self._unlock()
            raise
        return self

    def _begin(self, *, locked: bool) -> None:
        self._disk.mkdir(self.directory)
        if not locked:
            self._lock = self._disk.lock(f"{self.directory}/{LOCK_FILE}")
        try:
            self._stop.take()
        except BaseException:
            self._unlock()
            raise

    def _found(self) -> list[tuple[TopicPartition, str]]:
        """The directories of logs; those of deleted topics are noted to go. Anything else is left alone."""
        found = []
        for name in self._disk.listdir(self.directory):
            path = f"{self.directory}/{name}"
            if name.endswith(DELETED):
                self._removal.doom(path, 0)
                continue
            match = _NAME.fullmatch(name)
            if match and not name.startswith(_FOREIGN) and not name.endswith("-checkpoint"):
                found.append(((match[1], int(match[2])), path))
        return found

    def _open_all(self, config_of: ConfigOf) -> None:
        recovery_points = self._offsets.read(RECOVERY_POINT_FILE)
        log_starts = self._offsets.read(LOG_START_FILE)
        self.high_watermarks = self._offsets.read(HIGH_WATERMARK_FILE)
        for key, path in self._found():
            checkpoints = (recovery_points.get(key, 0), log_starts.get(key, 0), self.high_watermarks.get(key, 0))
            self._open_log(key, path, config_of(key[0]), *checkpoints)
        if self.was_clean:
            self._miss(recovery_points)

    def _miss(self, recovery_points: Offsets) -> None:
        """After a clean stop every log is there that was closed: who took one away has taken what was answered for."""
        there = self._logs.keys() | self.offline.keys()
        missing = [key for key, point in recovery_points.items() if point and key not in there]
        if missing:
            self._stop.note_loss()
            log.error("logs_missing", logs=[f"{topic}-{partition}" for topic, partition in missing])

    def _open_log(
        self,
        key: TopicPartition,
        path: str,
        config: LogConfig,
        recovery_point: int,
        log_start: int,
        high_watermark: int,
    ) -> None:
        try:
            topic_id = read_topic_id(self._disk, path, was_clean=self.was_clean)
            if topic_id is not None:
                self._topic_ids[key] = topic_id
            opened = PartitionLog.open(
                self._disk,
                path,
                config,
                clean=self.was_clean,
                recovery_point=recovery_point,
                log_start_offset=log_start,
                now_ms=self._clock(),
                required_end=recovery_point,
                high_watermark=high_watermark,
                before_cut=self._stop.before_cut,
            )
        except (DiskError, LogError) as error:
            log.error("log_offline", topic=key[0], partition=key[1], during="open", error=str(error))
            self.offline[key] = error
            return
        if topic_id is None and recovery_point:
            # There are records that were answered for, but nobody can tell of which topic: it will be set aside.
            self._stop.note_loss()
            log.error("log_without_topic_id", topic=key[0], partition=key[1])
        if not self.was_clean and topic_id is not None:
            # Who made it may have been killed before its names were durable.
            opened.before_durable = functools.partial(sync_topic_id, self._disk, self.directory, path, topic_id)
        self._adopt(key, opened)

    def _adopt(self, key: TopicPartition, opened: PartitionLog) -> None:
        opened.on_recovery_point_lowered = self._write_recovery_points
        opened.jitter_with(self._rng)
        self._logs[key] = opened

    @property
    def was_clean(self) -> bool:
        return self._stop.was_clean

    @property
    def last_broker_epoch(self) -> int:
        return self._stop.broker_epoch

    @property
    def kept_everything(self) -> bool:
        """Whether every log holds all that the last process here answered for: see `LastStop`; and none was found
        damaged."""
        return self._stop.kept_promises and not self.offline

    async def note_running(self, broker_epoch: int, *, synced: bool) -> None:
        """Remember under which registration this process runs. Called before it answers for any record.

        Raises DiskError; LogOffline when a log cannot be made durable.
        """
        await self._commits.run_blocking(functools.partial(self._note_running, broker_epoch, synced=synced))

    def _note_running(self, broker_epoch: int, *, synced: bool) -> None:
        if synced and not self._stop.was_durable:
            # The processes before this one may have answered for what is only in the page cache.
            for _, each in self:
                each.flush()
        self._stop.note_running(broker_epoch, synced=synced)

    def is_damaged(self, topic: str, partition: int) -> bool:
        """Whether the log was not opened because records in it that had been sound are not any more."""
        return isinstance(self.offline.get((topic, partition)), CorruptFile)

    # --- logs

    def __iter__(self) -> Iterator[tuple[TopicPartition, PartitionLog]]:
        return iter(list(self._logs.items()))

    def __len__(self) -> int:
        return len(self._logs)

    @property
    def disk(self) -> Disk:
        return self._disk

    @property
    def clock(self) -> Clock:
        return self._clock

    def get(self, topic: str, partition: int) -> PartitionLog | None:
        return self._logs.get((topic, partition))

    def topic_id(self, topic: str, partition: int) -> UUID | None:
        """The topic id that the directory carries, None when there is no such log or it carries none."""
        return self._topic_ids.get((topic, partition))

    def create_log(self, topic: str, topic_id: UUID, partition: int, config: LogConfig) -> PartitionLog:
        """The log of this partition, made if it is not there.

        Raises InconsistentTopicId when the directory belongs to an older topic of this name, DiskError when the log
        cannot be made or is offline.
        """
        key = (topic, partition)
        if key in self.offline:
            raise LogError(f"{topic}-{partition} is offline: {self.offline[key]}") from self.offline[key]
        existing = self._logs.get(key)
        known = self._topic_ids.get(key)
        if existing is not None and known is not None:
            if known != topic_id:
                raise InconsistentTopicId(f"{topic}-{partition} on disk has topic id {known}, not {topic_id}")
            existing.config = config
            return existing
        if existing is not None and existing.log_end_offset:
            raise InconsistentTopicId(f"{topic}-{partition} on disk has records, but no topic id")
        path = f"{self.directory}/{topic}-{partition}"
        # This is on the event loop, for every partition of a new topic: nothing here may wait for the disk. Names and
        # topic id become durable with the first records, or soon after (`settle`).
        self._disk.mkdir(path, durable=False)
        write_topic_id(self._disk, path, topic_id)
        self._topic_ids[key] = topic_id
        if existing is None:
            self._offsets.forget(key, (RECOVERY_POINT_FILE, LOG_START_FILE, HIGH_WATERMARK_FILE))
            existing = PartitionLog.open(self._disk, path, config, clean=False, now_ms=self._clock())
            self._adopt(key, existing)
        existing.config = config
        existing.before_durable = functools.partial(sync_topic_id, self._disk, self.directory, path, topic_id)
        self._unsettled.append(existing)
        return existing

    def settle(self) -> None:
        """Make the logs that were created lately durable, empty as they may be. Blocks; for an executor."""
        while self._unsettled:
            each = self._unsettled.popleft()
            if each.failure is None:
                each.settle()

    def delete_log(self, topic: str, partition: int) -> None:
        """Take the log away at once; its files go after file.delete.delay.ms, in `removal_pass`."""
        doomed = self._logs.get((topic, partition))
        target = self._take_away(topic, partition, DELETED)
        if target is not None:
            self._removal.doom(target, doomed.config.file_delete_delay_ms if doomed else 0)
        log.info("log_deleted", topic=topic, partition=partition)

    def set_aside(self, topic: str, partition: int) -> None:
        """Take the log away and keep its files, as Kafka does with logs that the metadata does not know: that may as
        well be the fault of the metadata."""
        target = self._take_away(topic, partition, STRAY)
        log.warning("log_set_aside", topic=topic, partition=partition, directory=target)

    def _take_away(self, topic: str, partition: int, suffix: str) -> str | None:
        """Forget a log and give its directory a name that is not a log's. None when there is no directory."""
        key = (topic, partition)
        held = self._logs.pop(key, None)
        self._topic_ids.pop(key, None)
        self.offline.pop(key, None)
        if held is not None:
            held.abandon()
        return self._removal.take_away(f"{topic}-{partition}", suffix)

    # --- checkpoints

    def write_high_watermarks(self, offsets: Mapping[TopicPartition, tuple[PartitionLog, int]]) -> None:
        """Write replication-offset-checkpoint unless nothing changed: those of logs that are still what they were when
        this was asked for, so that a namesake does not get them. Blocks; for an executor."""
        self._offsets.write(
            HIGH_WATERMARK_FILE, lambda: {key: mark for key, (of, mark) in offsets.items() if self._logs.get(key) is of}
        )

    def checkpoint(self) -> None:
        """Write recovery points and log start offsets; nothing when they did not change. Blocks; for an executor."""
        self.settle()
        self._write_recovery_points()
        self.write_log_starts()

    def write_log_starts(self) -> None:
        """Write log-start-offset-checkpoint unless nothing changed. Blocks; for an executor."""
        self._offsets.write(LOG_START_FILE, self._log_starts)

    def _write_recovery_points(self) -> None:
        self._offsets.write(RECOVERY_POINT_FILE, lambda: {key: each.recovery_point for key, each in self})

    def _log_starts(self) -> dict[TopicPartition, int]:
        return {
            key: each.log_start_offset for key, each in self if each.log_start_offset > each.segments[0].base_offset
        }

    # --- upkeep

    async def retention_pass(self, high_watermark_of: Callable[[str, int], int]) -> int:
        """Let go of old segments and idle producers. Returns the segments let go of."""
        now_ms, count = self._clock(), 0
        for (topic, partition), each in self:
            if each.failure is not None:
                continue
            try:
                count += each.delete_old_segments(now_ms, high_watermark_of(topic, partition), defer=True)
                each.producers.expire(now_ms, each.config.producer_id_expiration_ms)
                if each.has_detached:
                    await self._commits.run_blocking(each.purge)
            except (DiskError, LogError) as error:
                log.error("retention_failed", topic=topic, partition=partition, error=str(error))
        return count

    async def removal_pass(self) -> None:
        """Remove the directories of deleted logs that have waited for file.delete.delay.ms. Raises DiskError."""
        for path in self._removal.due():
            await self._commits.run_blocking(functools.partial(self._removal.remove, path))

    async def cooling_pass(self) -> None:
        """What was written before the last pass is checked from now on when it is read: see `LogState.cool`."""
        for _, each in self:
            each.cool()

    async def flush_pass(self) -> None:
        """Flush logs that rolled since their last flush, then checkpoint: bounds what a start after a crash scans."""
        for _, each in self:
            if each.failure is None and each.has_rolled_unflushed:
                try:
                    await self._commits.synced(each, each.log_end_offset)
                except (DiskError, LogError) as error:
                    log.error("flush_failed", directory=each.directory, error=str(error))
        await self._commits.run_blocking(self.checkpoint)

    async def close(self, broker_epoch: int = -1) -> bool:
        """Close every log, and mark the directory clean if each of them could be closed cleanly. Returns whether.

        `broker_epoch`: the registration that ends with it, -1 for a process that has had none, and so has answered for
        nothing: it leaves the mark of the process before it, if all that this one had answered for is still there.
        """
        clean = not self.offline
        for _, each in self:
            try:
                await self._commits.run_blocking(functools.partial(each.close, self._clock()))
            except (DiskError, LogError) as error:
                clean = False
                log.error("log_not_closed_cleanly", directory=each.directory, error=str(error))
        try:
            await self._commits.run_blocking(functools.partial(self._finish, clean, broker_epoch))
        finally:
            self._unlock()
        return clean

    def _finish(self, clean: bool, broker_epoch: int) -> None:
        self.checkpoint()
        if clean:
            before = self.last_broker_epoch if self.kept_everything else -1
            self._stop.mark_clean(broker_epoch if broker_epoch >= 0 else before)

    def abandon(self) -> None:
        """Let go of everything without writing: what a kill leaves, for tests and simulation."""
        for _, each in self:
            each.abandon()
        self._unlock()

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()
