"""Truncation, flushing, retention and closing of one partition's log."""

from __future__ import annotations

import contextlib

from ottla.log.checkpoints import LEADER_EPOCH_FILE, encode_epochs
from ottla.log.damage import DAMAGED_FILE, UNSYNCED_FILE, leave_mark
from ottla.log.disk import overwrite
from ottla.log.errors import CorruptFile, DiskError, DiskFull, LogOffline
from ottla.log.reader import header_at, locate
from ottla.log.retention import count_deletable
from ottla.log.scan import scan_headers
from ottla.log.segment import Segment
from ottla.log.snapshots import (
    is_sound,
    keep_snapshot,
    list_snapshots,
    remove_snapshots,
    restore,
    write_snapshot,
)
from ottla.log.swapping import LogSwapping


class LogMaintenance(LogSwapping):
    """What changes a log other than by appending. Durability first: every cut is on disk before it returns."""

    # --- truncation

    def truncate_to(self, offset: int) -> None:
        """Remove every batch that has a record at or above `offset`; nothing to do at or above the log end.

        A truncation is durable when it returns, and so is a lowered recovery point: new data that is not yet synced can
        never be taken for the old that was. Raises DiskError, CorruptFile or LogOffline with the log offline.
        """
        self._check_online()
        if offset >= self.log_end_offset:
            return
        if offset < self._segments[0].base_offset:
            self.truncate_fully_and_start_at(offset, now_ms=self._active.created_ms)
            return
        try:
            self.abort_cleaning()
            at = self._segment_index(offset)
            segment = self._segments[at]
            self._aborted_of(segment)
            position = locate(segment, offset)
            header = header_at(segment, position)
            end = offset if header is None else min(offset, header.base_offset)
            if self._sparse:
                # The log ends with a batch: after a restart nothing else would tell where it does.
                end = self._end_before(segment, position)
            self._begin_cut(end)
            self._remove_from(at + 1)
            segment.truncate(position, end)
            segment.aborted.truncate(end)
            self._active = segment
            self._finish_cut(end)
        except (DiskError, CorruptFile) as error:
            self._fail(error, "truncate")
            raise

    def truncate_fully_and_start_at(self, offset: int, *, now_ms: int = -1) -> None:
        """Remove everything; the next record gets `offset`. Raises as truncate_to does."""
        self._check_online()
        try:
            self.abort_cleaning()
            self._begin_cut(min(offset, self._segments[0].base_offset))
            self._remove_from(0)
            segment = Segment.create(
                self._disk, self.directory, offset, interval=self._config.index_interval_bytes, now_ms=now_ms
            )
            self._reserve(segment)
            self._disk.sync_dir(self.directory)
            self._segments.append(segment)
            self._bases.append(offset)
            self._active = segment
            self._epochs.clear()
            self.log_start_offset = offset
            self._finish_cut(offset)
            self.recovery_point = offset
        except DiskError as error:
            self._fail(error, "truncate")
            raise

    def _begin_cut(self, end: int) -> None:
        self.purge()
        with self._state_lock:
            self._cuts += 1
            self._clean_below = min(self._clean_below, end)
            lowered = end < self.recovery_point
            self.recovery_point = min(self.recovery_point, end)
        if lowered and self.on_recovery_point_lowered is not None:
            self.on_recovery_point_lowered()

    def _end_before(self, segment: Segment, position: int) -> int:
        """The offset after the last batch that ends at or before `position`."""
        end = segment.base_offset
        start = segment.index.boundary_at_most(max(position - 1, 0))[1]
        for _, header in scan_headers(segment.file, start, position):
            end = header.next_offset
        return end

    def _remove_from(self, at: int) -> None:
        """Newest first, each removal durable before the next, so that a crash leaves no hole in the log."""
        while len(self._segments) > at:
            self._segments.pop().remove_files()
            self._bases.pop()
            self._disk.sync_dir(self.directory)

    def _finish_cut(self, end: int) -> None:
        self.log_end_offset = end
        self._hot_from, self._cooling_from = min(self._hot_from, end), min(self._cooling_from, end)
        self.log_start_offset = min(self.log_start_offset, end)
        self.last_abort = min(self.last_abort, end - 1)
        self._epochs.truncate_from_end(end)
        self.last_epoch = self._epochs.epoch_for_offset(end - 1)
        self._write_epochs()
        snapshots = list_snapshots(self._disk, self.directory)
        remove_snapshots(self._disk, self.directory, [offset for offset in snapshots if offset > end])
        before = self.producers
        if before.entries:
            usable = [offset for offset in snapshots if self.log_start_offset <= offset <= end]
            self.producers = restore(self._disk, self.directory, self._segments, usable, self.log_start_offset)
            self.producers.transactions.take_over(before.transactions, end)

    # --- flush

    def flush(self) -> int:
        """Make everything appended so far durable and return the new recovery point. Blocks; callable in an executor.

        What is appended meanwhile is not waited for. Raises DiskError (then the log is offline) or LogOffline.
        """
        self._check_online()
        with self._io_lock:
            return self._flush()

    def _flush(self) -> int:
        # The end is taken before the segments: whatever lies below it is in a segment of the list.
        with self._state_lock:
            cuts, end, done = self._cuts, self.log_end_offset, self.recovery_point
            *closed, active = self._segments
        # One that was active when all of it was synced has not had its indexes synced.
        closed = [segment for segment in closed if segment.next_offset > done or not segment.aborted.durable]
        if end == done and not closed:
            return done
        try:
            for segment in closed:
                segment.sync(indexes=True)
            if active.next_offset > done:
                active.sync(indexes=False)
            self._settle()
            if self._names_changed:
                self._names_changed = False
                self._disk.sync_dir(self.directory)
                self._rooted = True
            self._write_epochs()
        except DiskError as error:
            self._fail(error, "flush")
            if not self._closed:
                leave_mark(self._disk, self.directory, UNSYNCED_FILE, str(error))
            raise
        with self._state_lock:
            if cuts == self._cuts and self._failure is None:
                self.recovery_point = end
            return self.recovery_point

    def settle(self) -> None:
        """Make a new log durable before it has records. Blocks; for an executor. Raises DiskError, LogOffline."""
        with self._io_lock:
            if self._closed:
                return
            self._check_online()
            try:
                self._settle()
            except DiskError as error:
                self._fail(error, "settle")
                raise

    def _write_epochs(self, *, in_place: bool = False) -> None:
        """Before the recovery point moves: batches below it are not scanned again for their epochs.

        An epoch without a record is left out; whoever leads next begins one of its own. `in_place` takes no room.
        """
        with self._epochs_lock:
            end = self.log_end_offset
            data = encode_epochs([entry for entry in self._epochs.entries if entry[1] < end])
            if data != self._epochs_written:
                path = f"{self.directory}/{LEADER_EPOCH_FILE}"
                if in_place:
                    self._epochs_written = None
                    overwrite(self._disk, path, data, synced=True)
                else:
                    self._disk.write_atomic(path, data)
                self._epochs_written = data

    # --- retention

    def advance_log_start(self, offset: int) -> None:
        """Records below `offset` are no longer served; their segments go with the next retention pass."""
        if offset > self.log_start_offset:
            self.log_start_offset = min(offset, self.log_end_offset)

    def delete_old_segments(self, now_ms: int, high_watermark: int, *, defer: bool = False) -> int:
        """Let go of segments by retention time and size, and of those below the log start. Returns how many.

        With `defer` their files stay until `purge`, which may run in an executor.
        """
        self._check_online()
        if self._cleaning is not None or self._swapped is not None:
            return 0
        self._forget_old_epochs()
        count = count_deletable(self._segments, self._config, now_ms, high_watermark, self.log_start_offset)
        if count and count == len(self._segments):
            self.roll(now_ms)
        if count:
            self._standing_for_detached = self._snapshot_above(self._bases[count])
            self._detached.extend(self._segments[:count])
            with self._state_lock:
                self._segments[:count] = []
                self._bases[:count] = []
            self.advance_log_start(self._segments[0].base_offset)
            if not defer:
                self.purge()
                self._forget_old_epochs()
        return count

    def _forget_old_epochs(self) -> None:
        """Only once the files are gone for good: a crash may bring back both the segments and the old log start."""
        if not self._detached:
            self._epochs.truncate_from_start(self._bases[0])

    def purge(self) -> None:
        """Remove the files of segments that retention let go of, oldest first, each durably. For an executor.

        What they show of epochs and producers is made durable first: no scan would find it again. A crash before leaves
        them in the log, to be let go of again; never a hole.
        """
        with self._purge_lock:
            if self._detached:
                self._keep_epochs()
                keep_snapshot(self._disk, self.directory, self._standing_for_detached)
                # The names of the segments that stay must be durable before the last of the others goes.
                self._disk.sync_dir(self.directory)
            while self._detached:
                self._detached[0].remove_log_file()
                # Only then the rest: a segment that a crash brought back without its index of aborted transactions
                # would seem to have none.
                self._disk.sync_dir(self.directory)
                self._detached[0].remove_files()
                del self._detached[0]

    def _snapshot_above(self, base: int) -> int:
        """The offset of a snapshot that has what producers have written below `base`. Raises DiskError."""
        end = self.log_end_offset
        if not self.producers.entries or is_sound(self._disk, self.directory, base):
            return base
        # A crash took it, and the log has replaced it, which it cannot any more. On a full disk it goes all the same.
        with contextlib.suppress(DiskFull):
            write_snapshot(self._disk, self.directory, self.producers, end)
        return end

    def _keep_epochs(self) -> None:
        try:
            self._write_epochs()
        except DiskFull:
            # Else nothing could go to make room. Torn, it makes the next start scan a log that still has everything.
            self._write_epochs(in_place=True)

    # --- end

    def condemn(self, why: str) -> None:
        """Never open this log again: bytes of it that were sound are not any more. Offline from now on."""
        leave_mark(self._disk, self.directory, DAMAGED_FILE, why)
        self._fail(LogOffline(why), "read")

    def close(self, now_ms: int) -> None:
        """Write and sync what a clean open relies on. Raises DiskError or LogOffline when that cannot be promised.

        A log that did not change since its own clean opening has all that already.
        """
        del now_ms
        if self._closed:
            return
        try:
            self._check_online()
            self.abort_cleaning()
            self.purge()
            if self._change_mark() != self._opened_as:
                self._active.give_back()
                self._active.write_indexes()
                write_snapshot(self._disk, self.directory, self.producers, self.log_end_offset)
                self.flush()
                self._active.sync(indexes=True)
                self._disk.sync_dir(self.directory)
                self._write_epochs()
            self._settle()
        except DiskError as error:
            self._fail(error, "close")
            raise
        finally:
            self._close_files()

    def abandon(self) -> None:
        """Close the files and write nothing more: the directory is about to be renamed or removed."""
        self._close_files()

    def delete(self) -> None:
        """Remove the log and its directory."""
        self._close_files()
        self._disk.remove_tree(self.directory)

    def _close_files(self) -> None:
        self.abort_cleaning(leave=True)
        self._closed = True
        if self._failure is None:
            self._failure = LogOffline(f"{self.directory} is closed")
        for segment in (*self._segments, *self._detached):
            segment.removed = True
            segment.close_file()
