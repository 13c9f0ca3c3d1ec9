"""Which transactions were aborted, for consumers that read committed records only: Kafka's transaction index. Pure.

There is one for each segment, with a row for every abort marker in it that ended a transaction which had records. What
Kafka's file lacks is a checksum; a rotten row would show records that were taken back. So one is kept beside it.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from crc32c import crc32c

from ottla.log.errors import CorruptFile

ENTRY_SIZE = 34
_ENTRY = struct.Struct(">hqqqq")
_CHECKSUM = struct.Struct(">I")
_VERSION = 0


class AbortedTransaction(NamedTuple):
    """`last_offset` is that of the abort marker, `last_stable_offset` the one that the log had from then on if all of
    it was replicated: no transaction that ends later begins below it."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class AbortedIndex:
    """The rows of one segment, by the offset of their markers, as they are on disk."""

    __slots__ = ("_data", "_last_offsets")

    def __init__(self) -> None:
        self._data = bytearray()
        self._last_offsets = array("q")

    def __len__(self) -> int:
        return len(self._last_offsets)

    def __iter__(self) -> Iterator[AbortedTransaction]:
        return (AbortedTransaction(*row[1:]) for row in _ENTRY.iter_unpack(bytes(self._data)))

    @property
    def last_offset(self) -> int:
        """Of the last abort marker, -1 if there is none."""
        return self._last_offsets[-1] if self._last_offsets else -1

    def add(self, transaction: AbortedTransaction) -> None:
        """Offsets of markers increase; the caller adds as the log grows."""
        self._data += _ENTRY.pack(_VERSION, *transaction)
        self._last_offsets.append(transaction.last_offset)

    def collect(self, start: int, end: int, found: list[tuple[int, int]]) -> bool:
        """Add `(producer id, first offset)` of the transactions with records in [start, end) to `found`.

        True when no transaction that ended later, in another segment, can have any there.
        """
        for at in range(bisect_left(self._last_offsets, start), len(self._last_offsets)):
            _, producer_id, first_offset, _, last_stable_offset = _ENTRY.unpack_from(self._data, at * ENTRY_SIZE)
            if first_offset < end:
                found.append((producer_id, first_offset))
            if last_stable_offset >= end:
                return True
        return False

    def truncate(self, offset: int) -> None:
        """Keep the rows whose markers are below `offset`."""
        at = bisect_left(self._last_offsets, offset)
        del self._last_offsets[at:]
        del self._data[at * ENTRY_SIZE :]

    def encode(self) -> tuple[bytes, bytes]:
        """The file in Kafka's format, and its checksum."""
        data = bytes(self._data)
        return data, _CHECKSUM.pack(crc32c(data))

    @staticmethod
    def decode(data: bytes, checksum: bytes) -> AbortedIndex:
        """Raises CorruptFile unless the checksum is right."""
        if len(data) % ENTRY_SIZE or _CHECKSUM.pack(crc32c(data)) != checksum:
            raise CorruptFile(f"transaction index: {len(data)} bytes do not fit their checksum")
        index = AbortedIndex()
        index._data = bytearray(data)
        index._last_offsets = array("q", [row[3] for row in _ENTRY.iter_unpack(data)])
        return index
