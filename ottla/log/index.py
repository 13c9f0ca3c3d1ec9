"""The sparse indexes of a segment, in memory as arrays and on disk in Kafka's .index and .timeindex format."""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right
from operator import lt

from ottla.log.errors import CorruptFile

OFFSET_ENTRY_SIZE = 8
TIME_ENTRY_SIZE = 12
_TIME_ENTRY = struct.Struct(">qi")


class OffsetIndex:
    """`(last offset of a batch, position of that batch)` about every index.interval.bytes; offsets relative to base.
    `count` is the number of entries."""

    __slots__ = ("_base", "_offsets", "_positions", "count")

    def __init__(self, base_offset: int) -> None:
        self._base = base_offset
        self._offsets = array("i")
        self._positions = array("i")
        self.count = 0

    def append(self, last_offset: int, position: int) -> None:
        """Entries must increase in both; the caller appends as the log grows."""
        self._offsets.append(last_offset - self._base)
        self._positions.append(position)
        self.count += 1

    def position_for(self, offset: int) -> int:
        """A batch boundary at or before the batch that contains `offset`."""
        at = bisect_right(self._offsets, offset - self._base)
        return self._positions[at - 1] if at else 0

    def boundary_at_most(self, position: int) -> tuple[int, int]:
        """`(last offset of the batch there, its position)` of the last entry up to `position`; (-1, 0) if none."""
        at = bisect_right(self._positions, position)
        return (self._base + self._offsets[at - 1], self._positions[at - 1]) if at else (-1, 0)

    def last_position(self) -> int:
        return self._positions[-1] if self._positions else 0

    def truncate(self, position: int) -> None:
        """Keep the entries of batches before `position`."""
        at = bisect_right(self._positions, position - 1)
        del self._offsets[at:]
        del self._positions[at:]
        self.count = at

    def encode(self) -> bytes:
        both = array("i", bytes(OFFSET_ENTRY_SIZE * len(self._offsets)))
        both[0::2] = self._offsets
        both[1::2] = self._positions
        if sys.byteorder == "little":
            both.byteswap()
        return both.tobytes()

    @staticmethod
    def decode(data: bytes, base_offset: int, segment_size: int) -> OffsetIndex:
        """Raises CorruptFile unless entries increase and lie inside the segment."""
        if len(data) % OFFSET_ENTRY_SIZE:
            raise CorruptFile(f"offset index: {len(data)} bytes")
        both = array("i")
        both.frombytes(data)
        if sys.byteorder == "little":
            both.byteswap()
        index = OffsetIndex(base_offset)
        offsets, positions = both[0::2], both[1::2]
        index._offsets, index._positions, index.count = offsets, positions, len(offsets)
        if len(offsets) and (offsets[0] < 0 or positions[0] < 0 or positions[-1] >= segment_size):
            raise CorruptFile("offset index: entry outside the segment")
        if not (all(map(lt, offsets, offsets[1:])) and all(map(lt, positions, positions[1:]))):
            raise CorruptFile("offset index: entries do not increase")
        return index


class TimeIndex:
    """`(timestamp, offset)`: no record at or below `offset` has a larger timestamp. Timestamps strictly increase.
    `count` is the number of entries."""

    __slots__ = ("_base", "_offsets", "_timestamps", "count")

    def __init__(self, base_offset: int) -> None:
        self._base = base_offset
        self._timestamps = array("q")
        self._offsets = array("i")
        self.count = 0

    def maybe_append(self, timestamp: int, offset: int) -> None:
        """Add the largest timestamp so far, unless it is the last entry's already."""
        if timestamp >= 0 and (not self._timestamps or timestamp > self._timestamps[-1]):
            self._timestamps.append(timestamp)
            self._offsets.append(offset - self._base)
            self.count += 1

    def last(self) -> tuple[int, int]:
        """`(largest timestamp, its offset)`, (-1, base offset) when empty."""
        return (self._timestamps[-1], self._base + self._offsets[-1]) if self._timestamps else (-1, self._base)

    def offset_before(self, timestamp: int) -> int:
        """An offset at or before the first record whose timestamp is at least `timestamp`."""
        at = bisect_right(self._timestamps, timestamp - 1)
        return self._base + self._offsets[at - 1] if at else self._base

    def truncate(self, offset: int) -> None:
        """Keep the entries of offsets below `offset`."""
        at = bisect_right(self._offsets, offset - self._base - 1)
        del self._timestamps[at:]
        del self._offsets[at:]
        self.count = at

    def encode(self) -> bytes:
        return b"".join(map(_TIME_ENTRY.pack, self._timestamps, self._offsets))

    @staticmethod
    def decode(data: bytes, base_offset: int) -> TimeIndex:
        """Raises CorruptFile unless timestamps and offsets increase."""
        if len(data) % TIME_ENTRY_SIZE:
            raise CorruptFile(f"time index: {len(data)} bytes")
        index = TimeIndex(base_offset)
        for timestamp, offset in _TIME_ENTRY.iter_unpack(data):
            index._timestamps.append(timestamp)
            index._offsets.append(offset)
        index.count = len(index._offsets)
        timestamps, offsets = index._timestamps, index._offsets
        if len(offsets) and offsets[0] < 0:
            raise CorruptFile("time index: negative offset")
        if not (all(map(lt, timestamps, timestamps[1:])) and all(map(lt, offsets, offsets[1:]))):
            raise CorruptFile("time index: entries do not increase")
        return index
