"""One partition's log: append, read, truncate, flush, retention, over a list of segments.

Everything but `flush` and `purge` belongs to one thread (the event loop); those two may run in an executor meanwhile.
Appending and reading are the data path: nothing there is done per record, and nothing needs a system call besides the
one write or read.

A failure of the disk other than a full one, and any failed sync, takes the log offline for good: what a failed fsync
left behind cannot be known, so it is never tried again (LogOffline from then on, until the log is opened anew).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from ottla.log.config import LogConfig
from ottla.log.damage import check_batches
from ottla.log.disk import Buffer, Disk
from ottla.log.errors import CorruptFile, DiskError, OffsetOutOfRange, OffsetsOutOfOrder
from ottla.log.log_maintenance import LogMaintenance
from ottla.log.reader import find_max_timestamp, find_max_timestamp_from, find_timestamp, read_segment
from ottla.log.recovery import open_segments
from ottla.log.segment import Segment
from ottla.log.snapshots import NEVER
from ottla.log.stamping import Run, split_runs, with_append_time
from ottla.records import (
    CONTROL_BIT,
    LOG_OVERHEAD,
    BatchHeader,
    CorruptBatch,
    EndMarker,
    iter_headers,
    read_header,
    read_marker,
    stamped_prefix,
)

_STAMP = 16


@dataclass(slots=True)
class Appended:
    """Offsets given to an append. `log_append_time` is ms, -1 when records keep the producer's timestamps."""

    base_offset: int
    last_offset: int
    max_timestamp: int
    log_append_time: int
    log_start_offset: int


class PartitionLog(LogMaintenance):
    """A log in one directory, made by `open`."""

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: str,
        config: LogConfig,
        *,
        clean: bool,
        recovery_point: int = 0,
        log_start_offset: int = 0,
        now_ms: int,
        required_end: int = 0,
        high_watermark: int = NEVER,
        before_cut: Callable[[bool], None] = lambda _torn: None,
    ) -> Self:
        """Open or create the log in `directory`.

        `clean`: the last owner called `close`, so nothing is scanned. Otherwise everything from the segment of
        `recovery_point` on is checked and a bad tail is cut, after `before_cut` was called. Transactions that ended
        beyond `high_watermark` (the last that is known of it) hold back the last stable offset. Raises DiskError, and
        CorruptFile, with no record removed, when a log that has to be checked is sound only below `required_end`, or
        was found damaged before.
        """
        disk.mkdir(directory)
        recovered = open_segments(
            disk,
            directory,
            clean=clean,
            recovery_point=recovery_point,
            log_start_offset=log_start_offset,
            interval=config.index_interval_bytes,
            now_ms=now_ms,
            required_end=required_end,
            before_cut=before_cut,
        )
        start = max(log_start_offset, recovered.segments[0].base_offset)
        start_at = min(start, recovered.segments[-1].next_offset)
        self = cls(disk, directory, config, recovered, start_at, recovery_point, high_watermark)
        if clean and recovered.scanned_from is None:
            self._hot_from = self.log_end_offset
            self.recovery_point = self.log_end_offset
        if start > self.log_end_offset:
            # The records up to the log start were deleted on request, and the file behind it was lost.
            self.truncate_fully_and_start_at(start, now_ms=now_ms)
        return self

    # --- append

    def append_as_leader(self, batch: Buffer, header: BatchHeader, leader_epoch: int, now_ms: int) -> Appended:
        """Append ONE verified batch at the log end, stamped with its offset and `leader_epoch`.

        Raises DiskFull with the log as it was before, DiskError or LogOffline when the log is (now) offline.
        """
        if self._failure is not None:
            self._raise_offline()
        if leader_epoch != self.last_epoch:
            self._check_epoch(leader_epoch)
        append_time = -1
        if self._append_time:
            batch, header = with_append_time(batch, header, now_ms)
            append_time = now_ms
        base = self.log_end_offset
        last = base + header.last_offset_delta
        timestamp = header.max_timestamp
        size = len(batch)
        segment = self._active
        try:
            if segment.must_roll(size, last, timestamp, self._limits):
                segment = self._roll(now_ms)
            prefix = stamped_prefix(header, base, leader_epoch)
            segment.append((prefix, memoryview(batch)[_STAMP:]), size, base, last, timestamp)
        except DiskError as error:
            self._append_failed(error)
        if leader_epoch != self.last_epoch:
            self._epochs.assign(leader_epoch, base)
            self.last_epoch = leader_epoch
        if header.producer_id >= 0:
            if header.attributes & CONTROL_BIT:
                self._note_marker(segment, header, base, read_marker(batch, header=header))
            else:
                self.producers.update(header, base)
        self.log_end_offset = last + 1
        return Appended(base, last, timestamp, append_time, self.log_start_offset)

    def append_as_follower(self, data: Buffer, *, gaps: bool = False) -> None:
        """Append whole batches as a leader handed them out, with their own offsets and epochs.

        `gaps`: offsets may be missing, for the leader's log may have been compacted; this one is marked, durably,
        before the first is. Raises CorruptBatch (CRC, length, an incomplete batch at the end) and OffsetsOutOfOrder
        (the first does not begin at the log end, one does not follow the other, or an epoch goes back), both with
        nothing appended; DiskFull with whole batches only appended; DiskError or LogOffline when the log is (now)
        offline.
        """
        if self._failure is not None:
            self._raise_offline()
        runs = split_runs(data, self.log_end_offset, self.last_epoch, self._config.segment_bytes, gaps=gaps)
        view = memoryview(data)
        for run in runs:
            if run.gap and not self._sparse:
                self._mark_gap()
            self._append_run(view[run.start : run.end], run)

    def _append_run(self, data: memoryview, run: Run) -> None:
        first, last = run.headers[0], run.headers[-1]
        segment = self._active
        try:
            last_offset = last.base_offset + last.last_offset_delta
            if segment.must_roll(len(data), last_offset, first.max_timestamp, self._limits):
                segment = self._roll(segment.created_ms)
            (segment.opened or segment.file).append((data,))
        except DiskError as error:
            self._append_failed(error)
        for header in run.headers:
            base = header.base_offset
            end = base + header.last_offset_delta + 1
            segment.note(header.batch_length + LOG_OVERHEAD, base, end - 1, header.max_timestamp)
            if header.leader_epoch != self._epochs.latest:
                # Not only when it differs from the last record's: an epoch that this log was to lead, and got no
                # record in, may stand there with a claim to this very offset.
                self._epochs.assign(header.leader_epoch, base)
            self.last_epoch = header.leader_epoch
            if header.producer_id >= 0:
                if header.attributes & CONTROL_BIT:
                    self._note_marker(segment, header, base, run.markers[base])
                else:
                    self.producers.update(header, base)
            self.log_end_offset = end

    def _note_marker(self, segment: Segment, header: BatchHeader, base: int, marker: EndMarker | None) -> None:
        aborted = self.producers.end_transaction(header, base, marker)
        if aborted is not None:
            segment.aborted.add(aborted)
            self.last_abort = base

    def _mark_gap(self) -> None:
        """Whoever opens this log has to know that offsets may be missing before the first is."""
        try:
            self.mark_compacted()
        except DiskError as error:
            self._append_failed(error)

    def _check_epoch(self, leader_epoch: int) -> None:
        if leader_epoch < self.last_epoch:
            raise OffsetsOutOfOrder(f"{self.directory}: epoch {leader_epoch} after {self.last_epoch}")

    # --- read

    def read(self, offset: int, max_bytes: int, *, up_to: int, min_one: bool = True, checked: bool = False) -> bytes:
        """Whole batches from the one that contains `offset`, about `max_bytes`, none that begins at or above `up_to`.

        The first batch comes even if it is larger than `max_bytes`, unless `min_one` is false. b"" at the end. One
        read ends with its segment. What this process has not written lately (see `cool`) is checked, and with
        `checked` that as well: it may have changed on the disk. Raises OffsetOutOfRange, DiskError, and CorruptFile or
        CorruptBatch for bytes that have.
        """
        if offset < self.log_start_offset or offset > self.log_end_offset:
            raise OffsetOutOfRange(f"{self.directory}: {offset} of {self.log_start_offset}..{self.log_end_offset}")
        if offset >= up_to:
            return b""
        segment = self._active
        if offset >= segment.base_offset:
            if offset >= self._hot_from and not checked:
                return read_segment(segment, offset, max_bytes, up_to, min_one)
            return self._read_checked(segment, offset, max_bytes, up_to, min_one)
        for at in range(self._segment_index(offset), len(self._segments)):
            segment = self._segments[at]
            if not segment.is_open and segment is not self._active:
                self._note_open(segment)
            data = self._read_checked(segment, max(offset, segment.base_offset), max_bytes, up_to, min_one)
            if data or segment.next_offset >= up_to or not min_one:
                return data
        return b""

    def _read_checked(self, segment: Segment, offset: int, max_bytes: int, up_to: int, min_one: bool) -> bytes:
        """Read and check. What does not check is read once more with an index that is right, in case that was wrong."""
        try:
            data = read_segment(segment, offset, max_bytes, up_to, min_one)
            check_batches(data, offset, self._epochs, gaps=self._sparse)
        except (CorruptBatch, CorruptFile) as error:
            segment.distrust(str(error))
            data = read_segment(segment, offset, max_bytes, up_to, min_one)
            check_batches(data, offset, self._epochs, gaps=self._sparse)
        if not data and min_one and offset < min(up_to, segment.next_offset) and not self._sparse:
            raise CorruptFile(f"{segment.path('.log')}: no batch at offset {offset}")
        return data

    # --- transactions

    def first_unstable_offset(self, high_watermark: int) -> int | None:
        """The first offset that no committed-only reader may see yet, at or above the log start: that of an open
        transaction, or of one whose marker is not below the high watermark. None when there is none."""
        first = self.producers.transactions.first_unstable(high_watermark)
        return None if first is None else max(first, self.log_start_offset)

    def aborted_transactions(self, start: int, end: int) -> list[tuple[int, int]]:
        """`(producer id, first offset)` of the aborted transactions that have records in [start, end), or may have.

        None of those whose marker is below `start`: the producer's next transaction may be a committed one. Raises
        DiskError, CorruptFile, CorruptBatch.
        """
        found: list[tuple[int, int]] = []
        newest = start - 1
        for at in range(self._segment_index(start), len(self._segments)):
            segment = self._segments[at]
            if segment.base_offset > self.last_abort:
                return found
            index = self._aborted_of(segment)
            if index.collect(start, end, found):
                return found
            newest = max(newest, index.last_offset)
        self.last_abort = min(self.last_abort, newest)
        return found

    def aborted_in(self, data: bytes, start: int) -> list[tuple[int, int]]:
        """The same for what a read from `start` gave."""
        if not data or start > self.last_abort:
            return []
        # A read ends with its segment: where in it is only worth a look at each batch if there is something to tell.
        segment = self._segments[self._segment_index(max(read_header(data).base_offset, start))]
        found = self.aborted_transactions(start, segment.next_offset)
        if not found:
            return found
        return self.aborted_transactions(start, max(header.next_offset for _, header in iter_headers(data)))

    # --- time

    def offset_for_timestamp(self, timestamp: int, *, up_to: int) -> tuple[int, int, int] | None:
        """`(offset, timestamp, leader epoch)` of the first record not older than `timestamp` (ms) and below `up_to`."""
        for segment in self._segments:
            if segment.next_offset > self.log_start_offset and segment.largest_timestamp() >= timestamp:
                found = find_timestamp(segment, timestamp, self.log_start_offset)
                if found is not None:
                    return found if found[0] < up_to else None
        return None

    def max_timestamp_offset(self) -> tuple[int, int, int] | None:
        """`(offset, timestamp, leader epoch)` of the first record from the log start on with the largest timestamp
        (KIP-734)."""
        start = self.log_start_offset
        newest = max(self._segments, key=lambda segment: segment.largest_timestamp())
        found = find_max_timestamp(newest)
        if found is None or found[0] >= start:
            return found
        # That one was deleted. The log start lies within one segment; what the others have is known.
        first, *others = self._segments[self._segment_index(start) :]
        best = find_max_timestamp_from(first, start)
        for segment in others:
            if best is None or segment.largest_timestamp() > best[1]:
                best = find_max_timestamp(segment) or best
        return best

    # --- epochs

    @property
    def epochs(self) -> Sequence[tuple[int, int]]:
        """`(epoch, start offset)`, ascending; the last may have no record yet."""
        return self._epochs.entries

    def assign_epoch(self, epoch: int) -> None:
        """A leader begins `epoch` at the log end. Raises OffsetsOutOfOrder if the log holds a later one's."""
        self._check_epoch(epoch)
        self._epochs.assign(epoch, self.log_end_offset)

    def epoch_for_offset(self, offset: int) -> int:
        """The leader epoch of the record at `offset`, -1 if not known."""
        return self._epochs.epoch_for_offset(offset)

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        """`(largest known epoch <= epoch, its end offset)`; see EpochCache.end_offset_for (KIP-101, KIP-279)."""
        return self._epochs.end_offset_for(epoch, self.log_end_offset)
