"""Preparing batches for the disk: log append time on leaders, checking a run of batches on followers."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from crc32c import crc32c

from ottla.log.disk import Buffer
from ottla.log.errors import OffsetsOutOfOrder
from ottla.records import CONTROL_BIT, BatchHeader, CorruptBatch, EndMarker, read_header, read_marker, verify_batch

_CRC_AT, _ATTRIBUTES_AT, _MAX_TIMESTAMP_AT = 17, 21, 35
_LOG_APPEND_TIME = 0x08


@dataclass(slots=True)
class Run:
    """Batches that go into one segment with one write: data[start:end]. `gap`: offsets are missing in or before it.

    `markers`: what the control batches of producers among them say, by base offset.
    """

    start: int
    end: int
    headers: list[BatchHeader] = field(default_factory=list)
    max_timestamp: int = -1
    gap: bool = False
    markers: dict[int, EndMarker | None] = field(default_factory=dict)


def split_runs(data: Buffer, offset: int, epoch: int, segment_bytes: int, *, gaps: bool = False) -> list[Run]:
    """Check batches that are to follow `offset` and `epoch`, and part them where a segment is full.

    `gaps`: offsets may be missing, as in a compacted log. Raises CorruptBatch, OffsetsOutOfOrder.
    """
    runs: list[Run] = []
    expected = offset
    for start, header in _checked(data, offset, epoch, gaps):
        if not runs or start + header.size - runs[-1].start > segment_bytes:
            runs.append(Run(start, start))
        run = runs[-1]
        run.end = start + header.size
        run.headers.append(header)
        run.max_timestamp = max(run.max_timestamp, header.max_timestamp)
        run.gap |= header.base_offset != expected
        if header.attributes & CONTROL_BIT and header.producer_id >= 0:
            run.markers[header.base_offset] = read_marker(data, start, header=header)
        expected = header.next_offset
    if not runs:
        raise CorruptBatch("no batch to append")
    return runs


def _checked(data: Buffer, offset: int, epoch: int, gaps: bool) -> Iterator[tuple[int, BatchHeader]]:
    position = 0
    while position < len(data):
        header = verify_batch(data, position)
        follows = header.base_offset == offset or (gaps and header.base_offset > offset)
        if not follows or header.last_offset_delta < 0:
            raise OffsetsOutOfOrder(f"a batch at offset {header.base_offset} where {offset} is next")
        if header.leader_epoch < epoch:
            raise OffsetsOutOfOrder(f"epoch {header.leader_epoch} at offset {offset} after {epoch}")
        yield position, header
        offset, epoch = header.next_offset, header.leader_epoch
        position += header.size


def with_append_time(batch: Buffer, header: BatchHeader, now_ms: int) -> tuple[bytes, BatchHeader]:
    """A copy of the batch whose records all count as written at `now_ms` (KIP-32): attribute, maxTimestamp, CRC."""
    copy = bytearray(batch)
    struct.pack_into(">h", copy, _ATTRIBUTES_AT, header.attributes | _LOG_APPEND_TIME)
    struct.pack_into(">q", copy, _MAX_TIMESTAMP_AT, now_ms)
    struct.pack_into(">I", copy, _CRC_AT, crc32c(memoryview(copy)[_ATTRIBUTES_AT:]))
    stamped = bytes(copy)
    return stamped, read_header(stamped)
