"""How a log takes in what its cleaner wrote, without a moment in which a record is missing or there twice.

`begin_cleaning`, `install` and `abort_cleaning` belong to the event loop; `commit` and `finish_swap` block and are for
an executor. A truncation, a close or a deletion aborts the cleaning first.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from ottla.log.cleaner import CLEANED_SUFFIX, SWAP_SUFFIX, Cleaning, CleaningAborted, Source, plan
from ottla.log.compaction import LastOfProducer
from ottla.log.damage import mark_sparse
from ottla.log.epochs import EpochCache
from ottla.log.errors import DiskError, DiskFull
from ottla.log.log_state import LogState
from ottla.log.segment import LOG_SUFFIX, Segment
from ottla.log.snapshots import forget_open_transactions

_ANY = 2**63 - 1


class LogSwapping(LogState):
    """Adds to a log that segments of it can be replaced by cleaned ones."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._cleaning: Cleaning | None = None
        self._swapped: tuple[Segment, list[Segment]] | None = None
        self._swap_lock = threading.Lock()
        # Not if it only says so on the disk: whoever wrote that may have died, or failed, before it was durable.
        self._marked = False
        # What a checkpoint of the cleaner says of offsets from here on is of records that are gone.
        self._clean_below = 0 if self.recovered.created else _ANY

    # --- on the event loop

    def begin_cleaning(self, first_dirty: int, high_watermark: int, now_ms: int) -> Cleaning | None:
        """A plan for what is dirty from `first_dirty` on; None when nothing is, or one is under way.

        Nothing at or above the high watermark is touched, nor above the first open transaction.
        """
        if self._failure is not None or self._cleaning is not None or self._detached:
            return None
        unstable = self.producers.transactions.first_unstable(high_watermark)
        return plan(
            self._disk,
            self._config,
            self._segments,
            first_dirty=min(first_dirty, self._clean_below),
            bound=high_watermark if unstable is None else min(high_watermark, unstable),
            now_ms=now_ms,
            producers={
                entry.producer_id: LastOfProducer(entry.batches[-1].last_offset if entry.batches else -1, entry.epoch)
                for entry in self.producers.entries.values()
            },
            epochs=EpochCache(self._epochs.entries),
            sparse=self._sparse,
        )

    def start_cleaning(self, cleaning: Cleaning) -> None:
        """From here on retention waits, and whatever cuts the log aborts the cleaning.

        Raises DiskError, CorruptFile when it cannot be told which transactions were aborted.
        """
        cleaning.aborted_transactions = [row for segment in self._segments for row in self._aborted_of(segment)]
        self._cleaning = cleaning

    def end_cleaning(self, *, done: bool) -> None:
        self._cleaning = None
        if done:
            self._clean_below = _ANY

    def install(self, cleaning: Cleaning, group: Sequence[Source]) -> None:
        """Serve the committed segment in the place of `group`. Touches no file. Raises CleaningAborted."""
        cleaning.check()
        new = cleaning.committed
        assert new is not None
        old = [source.segment for source in group]
        at = self._segments.index(old[0])
        assert self._segments[at : at + len(old)] == old, "nothing takes segments away while a cleaning is under way"
        with self._state_lock:
            self._segments[at : at + len(old)] = [new]
            self._bases[at : at + len(old)] = [new.base_offset]
            self._swapped, cleaning.committed = (new, old), None
        for segment in old:
            segment.removed = True
            segment.close_file()

    def abort_cleaning(self, *, leave: bool = False) -> None:
        """Nothing of a cleaning that is under way takes effect any more; what already has is brought to its end.

        With `leave` the files stay as they are: the directory is about to go, or to be opened again.
        """
        cleaning = self._cleaning
        if cleaning is None and self._swapped is None:
            return
        if cleaning is not None:
            cleaning.aborted = True
        with self._swap_lock:
            self._cleaning = None
            if leave:
                self._swapped = None
                return
            if cleaning is not None and cleaning.committed is not None:
                cleaning.committed.close_file()
                self._disk.remove(cleaning.committed.path(SWAP_SUFFIX))
                self._disk.sync_dir(self.directory)
                cleaning.committed = None
            self._finish_swap()

    # --- in an executor

    def mark_compacted(self) -> None:
        """Durably say that offsets may be missing, before the first is. Raises DiskError."""
        if not self._marked:
            mark_sparse(self._disk, self.directory)
            self._sparse = self._marked = True

    def commit(self, cleaning: Cleaning, new: Segment) -> None:
        """From here on the new segment counts, whatever happens.

        Raises CleaningAborted and DiskFull with nothing changed, DiskError with the log offline.
        """
        with self._swap_lock:
            cleaning.check()
            renamed = False
            try:
                self._disk.rename(new.path(CLEANED_SUFFIX), new.path(SWAP_SUFFIX))
                renamed = True
                self._disk.sync_dir(self.directory)
            except DiskError as error:
                if renamed or not isinstance(error, DiskFull):
                    self._fail(error, "clean")
                raise
            cleaning.committed = new

    def finish_swap(self) -> None:
        """Remove the replaced files and give the new one its name. Raises DiskError, with the log offline."""
        with self._swap_lock:
            self._finish_swap()

    def _finish_swap(self) -> None:
        if self._swapped is None:
            return
        new, old = self._swapped
        try:
            old[0].remove_index_files()
            for segment in reversed(old[1:]):
                segment.remove_files()
            self._disk.sync_dir(self.directory)
            self._disk.rename(new.path(SWAP_SUFFIX), new.path(LOG_SUFFIX))
            if not new.write_indexes_if_room():
                # No record of an aborted transaction is left in it: nobody misses the rows.
                new.aborted.begin()
            forget_open_transactions(self._disk, self.directory, new.base_offset)
            new.sync(indexes=True)
            self._disk.sync_dir(self.directory)
        except DiskError as error:
            self._fail(error, "clean")
            raise
        self._swapped = None
        self._note_open(new)


__all__ = ["CleaningAborted", "LogSwapping"]
