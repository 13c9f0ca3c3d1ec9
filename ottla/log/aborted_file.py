"""One segment's index of aborted transactions on the disk: ``.txnindex``, as in Kafka, and its checksum beside it.

In memory while the segment is active, like the other indexes; but it cannot be made again from the segment alone, for
a transaction may have begun in an earlier one. So what is not on the disk yet is remembered as such, and it must be
there, durably, before the recovery point leaves the segment behind.
"""

from __future__ import annotations

from ottla.log.aborted import AbortedIndex, AbortedTransaction
from ottla.log.disk import Disk, overwrite
from ottla.log.errors import CorruptFile, DiskError

TXN_INDEX_SUFFIX, TXN_CHECKSUM_SUFFIX = ".txnindex", ".txnindex.crc32c"


class AbortedFile:
    """`durable`: nothing is known here that would be lost with the power. One owner; only `write` is thread-safe."""

    __slots__ = ("_disk", "_index", "_paths", "_saved", "durable")

    def __init__(self, disk: Disk, stem: str) -> None:
        """`stem`: path of the segment's files without their suffixes."""
        self._disk = disk
        self._paths = (stem + TXN_INDEX_SUFFIX, stem + TXN_CHECKSUM_SUFFIX)
        self._index: AbortedIndex | None = None
        self._saved = True
        self.durable = True

    def begin(self) -> None:
        """The segment is new: there are none, whatever files of the name there may be."""
        self._index = AbortedIndex()
        self._saved = False

    @property
    def index(self) -> AbortedIndex:
        """Raises CorruptFile, DiskError when it is not loaded yet and cannot be."""
        if self._index is None:
            there = [self._disk.exists(path) for path in self._paths]
            if all(there):
                self._index = AbortedIndex.decode(*map(self._disk.read, self._paths))
            elif any(there):
                raise CorruptFile(f"{self._paths[0]}: it or its checksum is missing")
            else:
                self._index = AbortedIndex()
        return self._index

    def replace(self, index: AbortedIndex) -> None:
        self._index = index
        self._saved = self.durable = False

    def add(self, transaction: AbortedTransaction) -> None:
        self.index.add(transaction)
        self._saved = self.durable = False

    def truncate(self, offset: int) -> None:
        """Forget the transactions whose abort markers are at or above `offset`."""
        self.index.truncate(offset)
        self._saved = self.durable = False

    def write(self) -> None:
        """Write the files if they are not what is on the disk; not synced. Without a row there are none.

        What a full disk leaves of them does not fit together, which whoever loads them notices.
        """
        if self._index is None or self._saved:
            return
        self._saved = True  # before it is looked at: a truncation may come while this is in an executor
        try:
            if len(self._index):
                for path, data in zip(self._paths, self._index.encode(), strict=True):
                    overwrite(self._disk, path, data)
            else:
                for path in self._paths:
                    if self._disk.exists(path):
                        self._disk.remove(path)
        except DiskError:
            self._saved = False
            raise
