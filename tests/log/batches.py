"""Batches for the tests of the log."""

from __future__ import annotations

from collections.abc import Sequence

from ottla.log import PartitionLog
from ottla.records import BatchHeader, Record, encode_batch, iter_headers, read_header


def batch(
    values: Sequence[bytes] = (b"v",),
    *,
    timestamp: int = 1000,
    base_offset: int = 0,
    leader_epoch: int = -1,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    control: bool = False,
    transactional: bool = False,
) -> bytes:
    records = [Record(base_offset + at, timestamp + at, None, value, ()) for at, value in enumerate(values)]
    return encode_batch(
        records,
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        control=control,
        transactional=transactional,
    )


def lead(log: PartitionLog, data: bytes, epoch: int = 0, now_ms: int = 1000) -> int:
    """Append as leader; the base offset."""
    return log.append_as_leader(data, read_header(data), epoch, now_ms).base_offset


def headers(data: bytes) -> list[BatchHeader]:
    return [header for _, header in iter_headers(data)]


def read_all(log: PartitionLog, max_bytes: int = 1 << 20) -> bytes:
    chunks = []
    offset = log.log_start_offset
    while True:
        data = log.read(offset, max_bytes, up_to=log.log_end_offset)
        if not data:
            return b"".join(chunks)
        chunks.append(data)
        offset = headers(data)[-1].next_offset
