"""Preparing batches for the disk: log append time on leaders, checking a run of batches on followers."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from crc32c import crc32c

from ottla.log.disk import Buffer
from ottla.log.errors import OffsetsOutOfOrder
from ottla.records import (
    CONTROL_BIT,
    LOG_OVERHEAD,
    BatchHeader,
    CorruptBatch,
    EndMarker,
    read_header,
    read_marker,
    verify_batch,
)

_CRC_AT, _ATTRIBUTES_AT, _MAX_TIMESTAMP_AT = 17, 21, 35
_LOG_APPEND_TIME = 0x08


@dataclass(slots=True)
class Run:
    """Batches that go into one segment with one write: data[start:end]. `gap`: offsets are missing in or before it.

    `markers`: what the control batches of producers among them say, by base offset.
    """

    start: int
    end: int
    headers: list[BatchHeader]
    gap: bool = False
    markers: dict[int, EndMarker | None] = field(default_factory=dict)


def split_runs(data: Buffer, offset: int, epoch: int, segment_bytes: int, *, gaps: bool = False) -> list[Run]:
    """Check batches that are to follow `offset` and `epoch`, and part them where a segment is full.

    `gaps`: offsets may be missing, as in a compacted log. Raises CorruptBatch, OffsetsOutOfOrder.
    """
    runs: list[Run] = []
    run: Run | None = None
    start, size = 0, len(data)
    while start < size:
        header = verify_batch(data, start)
        base, delta = header.base_offset, header.last_offset_delta
        if delta < 0 or base < offset or (base > offset and not gaps):
            raise OffsetsOutOfOrder(f"a batch at offset {base} where {offset} is next")
        if header.leader_epoch < epoch:
            raise OffsetsOutOfOrder(f"epoch {header.leader_epoch} at offset {offset} after {epoch}")
        end = start + header.batch_length + LOG_OVERHEAD
        if run is None or end - run.start > segment_bytes:
            run = Run(start, end, [header])
            runs.append(run)
        else:
            run.end = end
            run.headers.append(header)
        if base != offset:
            run.gap = True
        if header.attributes & CONTROL_BIT and header.producer_id >= 0:
            run.markers[base] = read_marker(data, start, header=header)
        start, offset, epoch = end, base + delta + 1, header.leader_epoch
    if run is None:
        raise CorruptBatch("no batch to append")
    return runs


def with_append_time(batch: Buffer, header: BatchHeader, now_ms: int) -> tuple[bytes, BatchHeader]:
    """A copy of the batch whose records all count as written at `now_ms` (KIP-32): attribute, maxTimestamp, CRC."""
    copy = bytearray(batch)
    struct.pack_into(">h", copy, _ATTRIBUTES_AT, header.attributes | _LOG_APPEND_TIME)
    struct.pack_into(">q", copy, _MAX_TIMESTAMP_AT, now_ms)
    struct.pack_into(">I", copy, _CRC_AT, crc32c(memoryview(copy)[_ATTRIBUTES_AT:]))
    stamped = bytes(copy)
    return stamped, read_header(stamped)
