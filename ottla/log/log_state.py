"""The state of one partition's log that appending, reading and maintenance share, and how it goes offline."""

from __future__ import annotations

import random
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from typing import NoReturn

import structlog

from ottla.log.aborted import AbortedIndex
from ottla.log.config import LogConfig
from ottla.log.damage import COMPACTED_FILE
from ottla.log.disk import Disk
from ottla.log.errors import CorruptFile, DiskError, DiskFull, LogOffline
from ottla.log.producers import ProducerState
from ottla.log.recovery import Recovered
from ottla.log.segment import Segment
from ottla.log.snapshots import NEVER, rebuild_aborted, remove_snapshots, restore, write_snapshot

log = structlog.get_logger(__name__)

_OPEN_OLD_FILES = 4


class LogState:
    """`log_end_offset` is the offset the next record gets, `last_epoch` the epoch of the last record (-1 if none).

    `recovery_point`: everything below is durable. `recovered` tells what opening had to cut.
    `on_recovery_point_lowered` is called before a truncation below the recovery point: whoever keeps the recovery point
    on disk must lower it there at that moment, for records below it that are missing are damage. `before_durable` is
    called once, by the first flush (it may be in an executor): it makes durable what the log's own files hang on.
    `last_abort`: no marker that aborted a transaction is above this offset. `synced`: the topic asks for a sync before
    every acknowledgement.
    """

    def __init__(
        self,
        disk: Disk,
        directory: str,
        config: LogConfig,
        recovered: Recovered,
        log_start: int,
        recovery_point: int,
        high_watermark: int,
    ) -> None:
        self.directory = directory
        self.recovered = recovered
        self.log_start_offset = log_start
        self.log_end_offset = recovered.segments[-1].next_offset
        self.last_epoch = recovered.last_epoch
        self.recovery_point = min(recovery_point, self.log_end_offset)
        self.on_recovery_point_lowered: Callable[[], None] | None = None
        self.before_durable: Callable[[], None] | None = None
        self._disk = disk
        self._segments = recovered.segments
        self._bases = [segment.base_offset for segment in self._segments]
        self._active = self._segments[-1]
        self._epochs = recovered.epochs
        self._epochs_written = recovered.epochs_file
        self._detached: list[Segment] = []
        self._standing_for_detached = 0
        self._open_old: deque[Segment] = deque()
        self._failure: BaseException | None = None
        self._closed = False
        self._cuts = 0
        self._names_changed = True
        clean = recovered.scanned_from is None and not recovered.created
        # A flush syncs the names. What is merely seen may be the page cache's, of a process that died before one.
        self._rooted = clean or recovery_point > self._bases[0]
        self._state_lock = threading.Lock()
        self._io_lock = threading.Lock()
        self._epochs_lock = threading.Lock()
        self._purge_lock = threading.Lock()
        # From here on the active segment holds what this process has written or scanned lately; see `cool`.
        self._hot_from = 0
        self._cooling_from = self.log_end_offset
        # Offsets may be missing, also after the log was told not to be compacted any more.
        self._sparse = disk.exists(f"{directory}/{COMPACTED_FILE}")
        self._rng: random.Random | None = None
        self.config = config
        if recovered.created:
            self._reserve(self._active)
        usable = [offset for offset in recovered.snapshots if self._is_usable_snapshot(offset)]
        remove_snapshots(disk, directory, set(recovered.snapshots) - set(usable))
        reindex_from = self._not_indexed_from(recovery_point)
        self.producers: ProducerState = restore(
            disk,
            directory,
            self._segments,
            [offset for offset in usable if offset <= reindex_from],
            log_start,
            reindex_from=reindex_from,
            high_watermark=high_watermark,
        )
        self._aborted_of(self._active)
        self.last_abort = -1 if recovered.created else self.log_end_offset - 1
        # What a clean opening found needs no second writing when the log is closed.
        self._opened_as = self._change_mark() if clean else None

    def _change_mark(self) -> tuple[int, int, int]:
        return self.log_end_offset, self._cuts, self._bases[0]

    def _not_indexed_from(self, recovery_point: int) -> int:
        """Where the first segment begins whose index of aborted transactions may not be on the disk, or be an older
        one: of those that were scanned, and of the one that ends with the recovery point (see `_flush`)."""
        scanned_from = self.recovered.scanned_from
        if scanned_from is None:
            return NEVER
        return scanned_from if recovery_point > scanned_from else self._bases[self._segment_index(scanned_from - 1)]

    def _is_usable_snapshot(self, offset: int) -> bool:
        """Not beyond the log, and not from before a scan: a crash may have undone its removal by a truncation. Nor one
        of a log whose segments are lost."""
        if self.recovered.created:
            return False
        scanned_from = self.recovered.scanned_from
        return self.log_start_offset <= offset <= (self.log_end_offset if scanned_from is None else scanned_from)

    # --- what there is

    @property
    def config(self) -> LogConfig:
        return self._config

    @config.setter
    def config(self, config: LogConfig) -> None:
        self._config = config
        self._append_time = config.message_timestamp_type == "LogAppendTime"
        self.synced = config.flush == "synced"
        self._set_limits()

    def jitter_with(self, rng: random.Random) -> None:
        """Draw segment.jitter.ms from `rng` from now on; without one there is none."""
        self._rng = rng
        self._set_limits()

    def _set_limits(self) -> None:
        """When the active segment is full; its jitter is drawn anew."""
        config = self._config
        compacted = "compact" in config.cleanup_policy
        # A record cannot be cleaned before its segment is closed.
        segment_ms = min(config.segment_ms, config.max_compaction_lag_ms) if compacted else config.segment_ms
        jitter_ms = min(config.segment_jitter_ms, segment_ms)
        if jitter_ms > 0 and self._rng is not None:
            segment_ms -= self._rng.randrange(jitter_ms)
        self._limits = (config.segment_bytes, segment_ms, config.segment_index_bytes)

    def _reserve(self, segment: Segment) -> None:
        if self._config.preallocate:
            segment.reserve(self._config.segment_bytes)

    @property
    def segments(self) -> Sequence[Segment]:
        return tuple(self._segments)

    @property
    def size(self) -> int:
        """Bytes in all segments."""
        return sum(segment.size for segment in self._segments)

    @property
    def failure(self) -> BaseException | None:
        """Why the log is offline, None while it is not."""
        return self._failure

    @property
    def has_detached(self) -> bool:
        """Whether `purge` has files to remove."""
        return bool(self._detached)

    @property
    def has_rolled_unflushed(self) -> bool:
        """Whether a segment that is no longer written to waits for a flush."""
        return self._active.base_offset > self.recovery_point

    def cool(self) -> None:
        """What was written before the last call of this is checked from now on when it is read: by then it may have
        changed on the disk. To be called every few seconds, on the event loop."""
        self._hot_from, self._cooling_from = self._cooling_from, self.log_end_offset

    def _aborted_of(self, segment: Segment) -> AbortedIndex:
        """The transactions that markers in `segment` aborted. Those of the active one are always at hand.

        Raises DiskError, and CorruptFile when they have rotted and so has the log.
        """
        try:
            return segment.aborted.index
        except CorruptFile:
            rebuild_aborted(self._disk, self.directory, self._segments, segment, self.log_start_offset)
            return segment.aborted.index

    def _segment_index(self, offset: int) -> int:
        return max(bisect_right(self._bases, offset) - 1, 0)

    def roll(self, now_ms: int) -> None:
        """Begin a new segment unless the active one is empty. Raises as append_as_leader does."""
        if self._failure is not None:
            self._raise_offline()
        if self._active.size:
            try:
                self._roll(now_ms)
            except DiskError as error:
                self._append_failed(error)

    def _append_failed(self, error: DiskError) -> NoReturn:
        """Cut off what the failed write may have left; offline if that fails, or if the disk is worse than full."""
        segment = self._active
        try:
            if not isinstance(error, DiskFull):
                raise error
            segment.file.truncate(segment.size)
        except DiskError as failure:
            self._fail(failure, "append")
        raise error

    def _roll(self, now_ms: int) -> Segment:
        """Indexes are written before the new segment exists, so a full disk leaves nothing half done."""
        old, end = self._active, self.log_end_offset
        old.write_indexes()
        write_snapshot(self._disk, self.directory, self.producers, end)
        if not self._rooted:
            # A crash must not leave the second segment without the first.
            self._settle()
            self._disk.sync_dir(self.directory)
            self._rooted = True
        new = Segment.create(self._disk, self.directory, end, interval=self._config.index_interval_bytes, now_ms=now_ms)
        self._reserve(new)
        old.give_back()
        if self._config.segment_jitter_ms:
            self._set_limits()
        self._names_changed = True
        self._segments.append(new)
        self._bases.append(end)
        self._active = new
        self._note_open(old)
        return new

    def _settle(self) -> None:
        if self.before_durable is not None:
            self.before_durable()
            self.before_durable = None

    # --- files of older segments: a few stay open

    def _note_open(self, segment: Segment) -> None:
        """Keep the files of the latest few older segments open; a flush opens what it needs by itself."""
        self._open_old.append(segment)
        if len(self._open_old) > _OPEN_OLD_FILES:
            self._open_old.popleft().close_file()

    # --- offline

    def _check_online(self) -> None:
        if self._failure is not None:
            self._raise_offline()

    def _raise_offline(self) -> NoReturn:
        raise LogOffline(f"{self.directory}: {self._failure}") from self._failure

    def _fail(self, error: BaseException, during: str) -> None:
        if self._failure is None:
            self._failure = error
            log.error("log_offline", directory=self.directory, during=during, error=str(error))
