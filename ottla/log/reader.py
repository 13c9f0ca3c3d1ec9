"""Reading from one segment: finding a batch by offset or by time, and taking whole batches from there.

These functions check what they walk over (lengths, magic, offsets that increase) but not the CRC of every batch that
is passed on. Whoever calls them does that, unless the process has written the batch lately.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from ottla.log.errors import CorruptFile
from ottla.log.scan import plausible, scan_headers
from ottla.log.segment import Segment
from ottla.records import HEADER_SIZE, LOG_OVERHEAD, BatchHeader, decode_batch, read_header

_OFFSET = struct.Struct(">q")
_OFFSET_AND_LENGTH = struct.Struct(">qi")


def locate(segment: Segment, offset: int) -> int:
    """The position of the first batch whose last offset is at least `offset`; the segment's size if there is none.

    Raises CorruptFile when the file does not hold together even with a freshly built index.
    """
    found = segment.boundaries.get(offset)
    if found is not None:
        return found
    if offset <= segment.base_offset:
        return 0
    if offset >= segment.next_offset:
        return segment.size
    position = _walk(segment, offset)
    if position is None:
        segment.distrust(f"entry for offset {offset} is not at a batch boundary")
        position = _walk(segment, offset)
        if position is None:
            raise CorruptFile(f"{segment.path('.log')}: no batch boundary before offset {offset}")
    return position


def _walk(segment: Segment, offset: int) -> int | None:
    """From the index entry forward; None when what stands there shows that the entry is wrong."""
    start = segment.index.position_for(offset)
    end = start
    for position, header in scan_headers(segment.file, start, segment.size):
        if position == start and start and header.base_offset > offset:
            return None
        if header.last_offset >= offset:
            segment.remember(header.base_offset, position)
            return position
        end = position + header.size
    return segment.size if end == segment.size else None


def read_segment(segment: Segment, offset: int, max_bytes: int, up_to: int, min_one: bool) -> bytes:
    """Whole batches from the one that contains `offset`, at most `max_bytes`, none that begins at or after `up_to`.

    The first batch comes even if it is larger when `min_one`. b"" when nothing qualifies.
    """
    position = segment.boundaries.get(offset)
    if position is None:
        position = locate(segment, offset)
    limit, known = segment.size, True
    if up_to < segment.next_offset:
        bound = segment.boundaries.get(up_to)
        known = bound is not None
        limit = limit if bound is None else bound
    available = limit - position
    if available <= 0:
        return b""
    if known and available <= max_bytes:
        # Where the reader will go on is remembered already, or is the segment's end.
        return (segment.opened or segment.file).pread(position, available)
    last, boundary = segment.index.boundary_at_most(position + max_bytes)
    if boundary - position > max_bytes // 2 and boundary <= limit and last < up_to:
        # An index entry is a batch boundary: no walking. The eight bytes tell where the reader will go on.
        following = _OFFSET.unpack(segment.file.pread(boundary, 8))[0]
        segment.remember(following, boundary)
        return segment.file.pread(position, boundary - position)
    return _read_walking(segment, position, min(available, max_bytes), up_to, min_one, limit)


def _read_walking(segment: Segment, position: int, size: int, up_to: int, min_one: bool, limit: int) -> bytes:
    """Read a chunk and cut it after the last whole batch that begins below `up_to`."""
    wanted = min(max(size, HEADER_SIZE), limit - position)
    chunk = segment.file.pread(position, wanted)
    at, end, following = 0, len(chunk), -1
    while at + LOG_OVERHEAD <= end:
        base, length = _OFFSET_AND_LENGTH.unpack_from(chunk, at)
        if base >= up_to:
            following = base
            break
        whole = length + LOG_OVERHEAD
        if whole < HEADER_SIZE or position + at + whole > limit:
            raise CorruptFile(f"{segment.path('.log')}: a batch of {whole} bytes at {position + at}")
        if at + whole > size:
            if at == 0 and min_one:
                return chunk[:whole] if whole <= end else segment.file.pread(position, whole)
            following = base
            break
        at += whole
    if following >= 0:
        segment.remember(following, position + at)
    return chunk if at == end else chunk[:at]


def find_timestamp(segment: Segment, timestamp: int, start_offset: int) -> tuple[int, int, int] | None:
    """`(offset, timestamp, leader epoch)` of the first record at or after `start_offset` not older than `timestamp`.

    Decodes the few batches that can hold it. Raises CorruptBatch when such a batch is unsound.
    """
    start = locate(segment, max(segment.time_index.offset_before(timestamp), start_offset))
    for position, header in scan_headers(segment.file, start, segment.size):
        if header.max_timestamp >= timestamp:
            for offset, record_timestamp in _timestamps(segment, position, header):
                if record_timestamp >= timestamp and offset >= start_offset:
                    return offset, record_timestamp, header.leader_epoch
    return None


def find_max_timestamp(segment: Segment) -> tuple[int, int, int] | None:
    """`(offset, timestamp, leader epoch)` of the first record with the segment's largest timestamp."""
    newest, offset = segment.time_index.last()
    if segment.max_timestamp > newest:
        newest, offset = segment.max_timestamp, segment.max_timestamp_offset
    if newest < 0:
        return None
    for position, header in scan_headers(segment.file, locate(segment, offset), segment.size):
        for record_offset, record_timestamp in _timestamps(segment, position, header):
            if record_timestamp == newest:
                return record_offset, record_timestamp, header.leader_epoch
    return None


def find_max_timestamp_from(segment: Segment, start_offset: int) -> tuple[int, int, int] | None:
    """The same among the records from `start_offset` on: reads the headers of all batches behind it."""
    best: tuple[int, int, int] | None = None
    for position, header in scan_headers(segment.file, locate(segment, start_offset), segment.size):
        if best is not None and header.max_timestamp <= best[1]:
            continue
        for offset, timestamp in _timestamps(segment, position, header):
            if offset >= start_offset and timestamp >= 0 and (best is None or timestamp > best[1]):
                best = offset, timestamp, header.leader_epoch
    return best


def _timestamps(segment: Segment, position: int, header: BatchHeader) -> Iterable[tuple[int, int]]:
    if header.timestamp_type == 1:
        return ((header.base_offset + delta, header.max_timestamp) for delta in range(header.last_offset_delta + 1))
    batch = segment.file.pread(position, header.size)
    return ((record.offset, record.timestamp) for record in decode_batch(batch))


def tail_batches(segment: Segment, before: int, limit: int) -> list[BatchHeader]:
    """Headers of the batches below offset `before` in about the last `limit` bytes ahead of it, oldest first."""
    end = locate(segment, before)
    _, start = segment.index.boundary_at_most(max(end - limit, 0))
    return [header for _, header in scan_headers(segment.file, start, end)]


def header_at(segment: Segment, position: int) -> BatchHeader | None:
    """The header at a batch boundary, None if no whole batch stands there."""
    data = segment.file.pread(position, HEADER_SIZE)
    if len(data) < HEADER_SIZE:
        return None
    header = read_header(data)
    return header if plausible(header, segment.size - position) else None
