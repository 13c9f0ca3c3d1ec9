"""One cleaning of one log: which segments, the map of their keys, and the new segments in place of the old.

The plan is made on the event loop; what reads and writes runs in an executor, on files of its own, and stops when
`aborted` is set. A new segment is written as ``.cleaned`` and made durable; renamed to ``.swap`` it counts, also after
a crash; then the old files go, and it takes its name. How the log takes it in is in `ottla.log.swapping`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ottla.log.aborted import AbortedTransaction
from ottla.log.compaction import KeyOffsets, LastOfProducer, Rules, clean_batch, emptied
from ottla.log.config import LogConfig
from ottla.log.damage import check_batches
from ottla.log.disk import Disk, File
from ottla.log.epochs import EpochCache
from ottla.log.errors import DiskError, LogError
from ottla.log.passed_transactions import PassedTransactions
from ottla.log.reader import header_at
from ottla.log.scan import CHUNK, scan_headers
from ottla.log.segment import LOG_SUFFIX, MAX_RELATIVE, Segment
from ottla.records import BatchHeader, CorruptBatch

_NEVER = 2**63 - 1
CLEANED_SUFFIX, SWAP_SUFFIX = ".log.cleaned", ".log.swap"


class CleaningAborted(LogError):
    """The log was truncated, closed or deleted meanwhile."""


@dataclass(frozen=True, slots=True)
class Source:
    """A segment as it was when the plan was made; no longer written to."""

    segment: Segment
    base_offset: int
    next_offset: int
    size: int


@dataclass(slots=True)
class Cleaning:
    """`sources` are all segments from the log's first; keys are taken from `first_dirty` on. `ratio`: what is dirty.

    `epochs` and `sparse` are what the log knows of its epochs, and whether offsets may be missing. Of
    `aborted_transactions` all are there whose markers are in the log, also above what may be cleaned.
    """

    disk: Disk
    config: LogConfig
    sources: Sequence[Source]
    first_dirty: int
    ratio: float
    now_ms: int
    producers: Mapping[int, LastOfProducer]
    epochs: EpochCache
    sparse: bool
    aborted_transactions: Sequence[AbortedTransaction] = ()
    aborted: bool = False
    committed: Segment | None = None
    bytes_before: int = 0
    bytes_after: int = 0
    keys: KeyOffsets = field(init=False)
    _rules: Rules = field(init=False)

    def check(self) -> None:
        if self.aborted:
            raise CleaningAborted("the log was truncated, closed or deleted")

    def map_keys(self, max_bytes: int) -> int:
        """Read the dirty part; returns the offset below which it fits into the map. Blocks.

        Raises CleaningAborted, CorruptBatch, DiskError.
        """
        self.keys = KeyOffsets(self.first_dirty, max_bytes)
        dirty = [source for source in self.sources if source.next_offset > self.first_dirty]
        transactions = PassedTransactions(self.aborted_transactions)
        for source in dirty:
            for header, data in self._batches(source):
                if header.is_control:
                    transactions.end(header)
                counts = not header.is_control and not transactions.is_aborted(header)
                if header.last_offset < self.first_dirty:
                    continue
                if not counts:
                    self.keys.pass_over(header)
                elif not self.keys.add(header, data):
                    return self.keys.end
            self.keys.end = max(self.keys.end, source.next_offset)
        return self.keys.end

    def groups(self) -> list[list[Source]]:
        """Neighbours that together make no more than one segment; all that have something below the end of the map.
        They are to be written in this order, each once."""
        self._rules = Rules(
            self.keys,
            self.now_ms,
            self.config.delete_retention_ms,
            self.producers,
            PassedTransactions(self.aborted_transactions),
        )
        groups: list[list[Source]] = []
        size = 0
        for source in self.sources:
            if source.base_offset >= self.keys.end:
                break
            size += source.size
            small = size <= self.config.segment_bytes
            if groups and small and source.next_offset - groups[-1][0].base_offset <= MAX_RELATIVE:
                groups[-1].append(source)
            else:
                groups.append([source])
                size = source.size
        return groups

    def write(self, group: Sequence[Source]) -> Segment:
        """The survivors of a group as a durable ``.cleaned`` file. Its last batch stays, empty if need be, so that the
        segment says itself where it ends. Blocks; raises as map_keys does, and leaves no file then.
        """
        first = group[0]
        new = Segment(
            self.disk,
            first.segment.directory,
            first.base_offset,
            size=0,
            next_offset=first.base_offset,
            interval=self.config.index_interval_bytes,
        )
        new.reset_indexes()
        new.aborted.begin()
        new.created_ms = first.segment.created_ms
        self.check()
        file = self.disk.open(new.path(CLEANED_SUFFIX), create=True)
        new.adopt(file)
        try:
            self._fill(new, file, group)
        except (LogError, DiskError, CorruptBatch):
            discard(new)
            raise
        new.next_offset = group[-1].next_offset
        self.bytes_after += new.size
        return new

    def _fill(self, new: Segment, file: File, group: Sequence[Source]) -> None:
        file.truncate(0)
        pending: list[bytes] = []
        last: BatchHeader | None = None
        for source in group:
            self.bytes_before += source.size
            for header, data in self._batches(source):
                kept, aborted = clean_batch(header, data, self._rules)
                last = header if kept is None else None
                if kept is not None:
                    _add(new, pending, header, kept)
                if aborted is not None:
                    new.aborted.add(aborted)
            self._write_out(file, pending)
        if last is not None:
            _add(new, pending, last, emptied(last))
            self._write_out(file, pending)
        file.sync()
        self.disk.sync_dir(new.directory)

    def _write_out(self, file: File, pending: list[bytes]) -> None:
        self.check()
        for batch in pending:
            file.append((batch,))
        pending.clear()

    def _batches(self, source: Source) -> Iterator[tuple[BatchHeader, bytes]]:
        file = self.disk.open(source.segment.path(LOG_SUFFIX))
        try:
            position, offset = 0, source.base_offset
            chunk, start = b"", 0
            for position, header in scan_headers(file, 0, source.size, chunk_size=CHUNK):
                if position + header.size > start + len(chunk):
                    self.check()
                    chunk, start = file.pread(position, min(max(CHUNK, header.size), source.size - position)), position
                data = chunk[position - start : position - start + header.size]
                check_batches(data, offset, self.epochs, gaps=self.sparse)
                yield header, data
                position, offset = position + header.size, header.next_offset
            if position != source.size or offset != source.next_offset:
                raise CorruptBatch(
                    f"{source.segment.path(LOG_SUFFIX)}: it ends at byte {position} of {source.size}, "
                    f"with offset {offset} of {source.next_offset}"
                )
        finally:
            file.close()


def discard(cleaned: Segment) -> None:
    """Remove a ``.cleaned`` file that is not wanted: it only takes room. Raises DiskError."""
    cleaned.close_file()
    path = cleaned.path(CLEANED_SUFFIX)
    if cleaned.disk.exists(path):
        cleaned.disk.remove(path)


def _add(new: Segment, pending: list[bytes], header: BatchHeader, batch: bytes) -> None:
    pending.append(batch)
    new.note(len(batch), header.base_offset, header.last_offset, header.max_timestamp)


def plan(
    disk: Disk,
    config: LogConfig,
    segments: Sequence[Segment],
    *,
    first_dirty: int,
    bound: int,
    now_ms: int,
    producers: Mapping[int, LastOfProducer],
    epochs: EpochCache,
    sparse: bool,
) -> Cleaning | None:
    """What may be cleaned: closed segments below `bound` whose records are all older than min.compaction.lag.ms.

    None when there is nothing dirty among them. Whether it is worth the while, `is_due` says.
    """
    sources = []
    for segment in segments[:-1]:
        young = config.min_compaction_lag_ms and segment.largest_timestamp() > now_ms - config.min_compaction_lag_ms
        if segment.next_offset > bound or young:
            break
        sources.append(Source(segment, segment.base_offset, segment.next_offset, segment.size))
    if not segments[0].base_offset <= first_dirty <= segments[-1].next_offset:
        first_dirty = segments[0].base_offset
    total = sum(source.size for source in sources)
    dirty = sum(source.size for source in sources if source.next_offset > first_dirty)
    if not dirty:
        return None
    return Cleaning(disk, config, sources, first_dirty, dirty / total, now_ms, producers, epochs, sparse)


def is_due(cleaning: Cleaning) -> bool:
    """Enough of it is dirty, or something has been for longer than max.compaction.lag.ms."""
    if cleaning.ratio > cleaning.config.min_cleanable_dirty_ratio:
        return True
    if cleaning.config.max_compaction_lag_ms >= _NEVER:
        return False
    firsts = [_first_timestamp(source) for source in cleaning.sources if source.next_offset > cleaning.first_dirty]
    oldest = min((timestamp for timestamp in firsts if timestamp >= 0), default=cleaning.now_ms)
    return cleaning.now_ms - oldest > cleaning.config.max_compaction_lag_ms


def _first_timestamp(source: Source) -> int:
    """That of the first batch, as in Kafka; -1 if it has none."""
    was_open = source.segment.is_open
    header = header_at(source.segment, 0)
    if not was_open:
        source.segment.close_file()
    return -1 if header is None else header.max_timestamp
