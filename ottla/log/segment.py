"""One segment: a .log file of record batches with its two sparse indexes, and its index of aborted transactions.

The file is opened when first needed. The indexes of the active segment live in memory and reach the disk when the
segment is rolled or the log closed: after an unclean stop the segment is scanned and they are rebuilt anyway. Those of
an older segment are loaded when first needed, and rebuilt from the batch headers if they do not check. The index of
aborted transactions cannot be made from one segment alone: the log does that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog

from ottla.log.aborted_file import TXN_CHECKSUM_SUFFIX, TXN_INDEX_SUFFIX, AbortedFile
from ottla.log.disk import Buffer, Disk, File, overwrite
from ottla.log.errors import CorruptFile, DiskError, DiskFull, FileClosed
from ottla.log.index import OFFSET_ENTRY_SIZE, TIME_ENTRY_SIZE, OffsetIndex, TimeIndex
from ottla.log.scan import scan_headers

log = structlog.get_logger(__name__)

LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, SNAPSHOT_SUFFIX = ".log", ".index", ".timeindex", ".snapshot"
INDEX_SUFFIXES = (INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX, TXN_CHECKSUM_SUFFIX)
DELETED_SUFFIX = ".deleted"
MAX_RELATIVE = 0x7FFFFFFF
BOUNDARIES = 128


class Segment:
    """`size` bytes of whole batches with offsets in [base_offset, next_offset). One owner; only `sync` is thread-safe.

    `first_timestamp` is the largest timestamp of the first batch (None while empty), from which rolling by time counts.
    `opened` is the .log file, None until it is needed (`file` opens it).
    `boundaries` remembers positions of recent batch starts by offset, so that sequential readers need no search.
    """

    __slots__ = (
        "_index",
        "_index_made_here",
        "_interval",
        "_since_entry",
        "_time_index",
        "aborted",
        "base_offset",
        "boundaries",
        "created_ms",
        "directory",
        "disk",
        "first_timestamp",
        "max_timestamp",
        "max_timestamp_offset",
        "next_offset",
        "opened",
        "removed",
        "reserved",
        "size",
    )

    def __init__(self, disk: Disk, directory: str, base_offset: int, *, size: int, next_offset: int, interval: int):
        self.disk = disk
        self.directory = directory
        self.base_offset = base_offset
        self.size = size
        self.next_offset = next_offset
        self.created_ms = -1
        self.first_timestamp: int | None = None
        self.max_timestamp = -1
        self.max_timestamp_offset = base_offset
        self.removed = False
        self.reserved = False
        self.boundaries: dict[int, int] = {}
        self._interval = interval
        self._since_entry = 0
        self.opened: File | None = None
        self._index: OffsetIndex | None = None
        self._index_made_here = False
        self._time_index: TimeIndex | None = None
        self.aborted = AbortedFile(disk, self.path(""))

    @classmethod
    def create(cls, disk: Disk, directory: str, base_offset: int, *, interval: int, now_ms: int) -> Segment:
        """A new empty segment; remains of an earlier file of this name are cut off."""
        segment = cls(disk, directory, base_offset, size=0, next_offset=base_offset, interval=interval)
        segment.created_ms = now_ms
        segment.opened = disk.open(segment.path(LOG_SUFFIX), create=True)
        if segment.opened.size():
            segment.opened.truncate(0)
        segment.reset_indexes()
        segment.aborted.begin()
        return segment

    def reserve(self, size: int) -> None:
        """Have room set aside for so many bytes in all; `give_back` returns what is not used (preallocate)."""
        self.reserved = self.file.reserve(size)

    def give_back(self) -> None:
        if self.reserved:
            self.reserved = False
            self.file.truncate(self.size)

    def path(self, suffix: str) -> str:
        return f"{self.directory}/{self.base_offset:020d}{suffix}"

    @property
    def file(self) -> File:
        if self.opened is None:
            self.opened = self.disk.open(self.path(LOG_SUFFIX))
        return self.opened

    def adopt(self, file: File) -> None:
        """Use this open file until it is closed, whatever its name is meanwhile."""
        self.opened = file

    @property
    def is_open(self) -> bool:
        return self.opened is not None

    # --- append

    def must_roll(self, size: int, last_offset: int, max_timestamp: int, limits: tuple[int, int, int]) -> bool:
        """Whether a batch of `size` bytes belongs into a new segment. limits: (bytes, ms, index bytes)."""
        if not self.size:
            return False
        segment_bytes, segment_ms, index_bytes = limits
        first = self.first_timestamp
        index, time_index = self._index, self._time_index
        if index is None or time_index is None:
            index, time_index = self.index, self.time_index
        return (
            self.size + size > segment_bytes
            or last_offset - self.base_offset > MAX_RELATIVE
            or (first is not None and first >= 0 and max_timestamp - first > segment_ms)
            or index.count >= index_bytes // OFFSET_ENTRY_SIZE
            or time_index.count >= index_bytes // TIME_ENTRY_SIZE - 1
        )

    def append(self, buffers: Sequence[Buffer], size: int, base_offset: int, last_offset: int, timestamp: int) -> None:
        """Write one batch and take note of it."""
        (self.opened or self.file).append(buffers)
        self.note(size, base_offset, last_offset, timestamp)

    def note(self, size: int, base_offset: int, last_offset: int, max_timestamp: int) -> None:
        """Account for a batch of `size` bytes that is in the file at `self.size`: the indexes grow with it."""
        position = self.size
        if not position:
            self.first_timestamp = max_timestamp
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.max_timestamp_offset = last_offset
        if self._since_entry > self._interval:
            self.index.append(last_offset, position)
            self.time_index.maybe_append(self.max_timestamp, self.max_timestamp_offset)
            self._since_entry = 0
        self._since_entry += size
        self.boundaries[base_offset] = position
        if len(self.boundaries) > BOUNDARIES:
            self._forget_boundaries()
        self.size = position + size
        self.next_offset = last_offset + 1

    def remember(self, offset: int, position: int) -> None:
        """Note that the batch at `position` begins with `offset`."""
        self.boundaries[offset] = position
        if len(self.boundaries) > BOUNDARIES:
            self._forget_boundaries()

    def _forget_boundaries(self) -> None:
        """The older half: what is read next is near to what was written or read last."""
        for offset in tuple(self.boundaries)[: BOUNDARIES // 2]:
            del self.boundaries[offset]

    # --- indexes

    @property
    def index(self) -> OffsetIndex:
        if self._index is None:
            self._load_indexes()
            assert self._index is not None
        return self._index

    @property
    def time_index(self) -> TimeIndex:
        if self._time_index is None:
            self._load_indexes()
            assert self._time_index is not None
        return self._time_index

    def reset_indexes(self) -> None:
        """Forget all that is derived from the file; `note` builds it again."""
        self._index = OffsetIndex(self.base_offset)
        self._index_made_here = True
        self._time_index = TimeIndex(self.base_offset)
        self._since_entry = 0
        self.first_timestamp = None
        self.max_timestamp = -1
        self.max_timestamp_offset = self.base_offset
        self.boundaries.clear()

    def _load_indexes(self) -> None:
        index_path, time_path = self.path(INDEX_SUFFIX), self.path(TIME_INDEX_SUFFIX)
        try:
            if not (self.disk.exists(index_path) and self.disk.exists(time_path)):
                raise CorruptFile("index files are missing")
            self._index = OffsetIndex.decode(self.disk.read(index_path), self.base_offset, max(self.size, 1))
            self._time_index = TimeIndex.decode(self.disk.read(time_path), self.base_offset)
        except CorruptFile as error:
            self.rebuild_indexes(str(error))
            return
        self.max_timestamp, self.max_timestamp_offset = self._time_index.last()
        self._since_entry = self.size - self._index.last_position()
        self._index_made_here = False

    def distrust(self, reason: str) -> None:
        """What was found by means of the index is not right. An index that was read from the disk is made anew. One
        that this process made is kept: then it is the batches that changed, and a new index would end before them."""
        self.boundaries.clear()
        if not self._index_made_here:
            self.rebuild_indexes(reason)

    def rebuild_indexes(self, reason: str) -> None:
        """Make the indexes anew from the batch headers, in memory; the files follow when next written."""
        log.warning("index_rebuilt", segment=self.path(LOG_SUFFIX), reason=reason)
        size, next_offset = self.size, self.next_offset
        self.reset_indexes()
        self.size, self.next_offset = 0, self.base_offset
        for _, header in scan_headers(self.file, 0, size):
            if not self.next_offset <= header.base_offset <= header.last_offset <= self.base_offset + MAX_RELATIVE:
                break  # damage, which whoever reads beyond here will find
            self.note(header.size, header.base_offset, header.last_offset, header.max_timestamp)
        self.size, self.next_offset = size, next_offset
        self.time_index.maybe_append(self.max_timestamp, self.max_timestamp_offset)

    def largest_timestamp(self) -> int:
        """The largest record timestamp (ms) of the segment, -1 if unknown."""
        self.time_index  # noqa: B018 - loads what an older segment knows
        return self.max_timestamp

    def write_indexes(self) -> None:
        """Write the index files whole; not synced. The time index ends with the segment's largest timestamp."""
        self.time_index.maybe_append(self.max_timestamp, self.max_timestamp_offset)
        for suffix, data in ((INDEX_SUFFIX, self.index.encode()), (TIME_INDEX_SUFFIX, self.time_index.encode())):
            overwrite(self.disk, self.path(suffix), data)
        self.aborted.write()

    def write_indexes_if_room(self) -> bool:
        """On a full disk there are none, and they are rebuilt when needed: half-written ones could mislead."""
        try:
            self.write_indexes()
        except DiskFull:
            self.remove_index_files()
            return False
        return True

    # --- life

    def truncate(self, position: int, next_offset: int) -> None:
        """Cut the file at the batch boundary `position` and make that durable."""
        self.index.truncate(position)
        self.time_index.truncate(next_offset)
        self.boundaries.clear()
        self.file.truncate(position)
        self.file.sync()
        self.size, self.next_offset = position, next_offset
        self.max_timestamp, self.max_timestamp_offset = self.time_index.last()
        tail = self.index.last_position()
        self._since_entry = position - tail
        if not position:
            self.first_timestamp = None
        for _, header in scan_headers(self.file, tail, position):
            if header.max_timestamp > self.max_timestamp:
                self.max_timestamp, self.max_timestamp_offset = header.max_timestamp, header.last_offset

    def sync(self, *, indexes: bool) -> None:
        """Make the log file durable, and with `indexes` the index files as written; what aborted transactions there are
        is written now, if it is not yet: nobody could tell that it is missing. Callable from any thread.

        A segment that is removed meanwhile has nothing left to make durable.
        """
        try:
            if indexes:
                self.aborted.durable = True  # as far as it is known now
            file = self.opened
            try:
                if file is None:
                    self._sync_path(LOG_SUFFIX)
                else:
                    file.sync()
            except FileClosed:
                self._sync_path(LOG_SUFFIX)
            if indexes:
                self.aborted.write()
            for suffix in INDEX_SUFFIXES if indexes else ():
                if self.disk.exists(self.path(suffix)):
                    self._sync_path(suffix)
        except DiskError:
            self.aborted.durable = False
            if not self.removed:
                raise

    def _sync_path(self, suffix: str) -> None:
        file = self.disk.open(self.path(suffix))
        try:
            file.sync()
        finally:
            file.close()

    def close_file(self) -> None:
        file, self.opened = self.opened, None
        if file is not None:
            file.close()

    def remove_files(self) -> None:
        """Remove the files, the log file first: indexes without a log are swept away when the log is opened."""
        self.remove_log_file()
        self._remove_paths((*INDEX_SUFFIXES, SNAPSHOT_SUFFIX))

    def remove_log_file(self) -> None:
        self.removed = True
        self.close_file()
        self._remove_paths((LOG_SUFFIX,))

    def remove_index_files(self) -> None:
        self._remove_paths(INDEX_SUFFIXES)

    def _remove_paths(self, suffixes: Iterable[str]) -> None:
        for path in map(self.path, suffixes):
            if self.disk.exists(path):
                self.disk.remove(path)
