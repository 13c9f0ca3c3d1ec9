"""A batch in which only some of its records are left, for compaction: everything else about it stays as it was."""

from __future__ import annotations

from collections.abc import Sequence

from crc32c import crc32c

from ottla.records.batch import _COVERED, _HEADER, Record, _write_record
from ottla.records.compression import compress
from ottla.records.header import HEADER_SIZE, LOG_OVERHEAD, MAGIC, BatchHeader

_DELETE_HORIZON_BIT = 0x40


def rewrite_batch(header: BatchHeader, records: Sequence[Record], *, delete_horizon: int | None = None) -> bytes:
    """The batch of `header` with only `records`, in ascending order; there may be none of them.

    It keeps the range of its offsets and of its producer's sequences. `delete_horizon` (ms) is the time from which on
    its tombstones may go; it stands in the place of the base timestamp (KIP-534).
    """
    attributes, base_timestamp, max_timestamp = header.attributes, header.base_timestamp, header.max_timestamp
    if delete_horizon is not None:
        attributes, base_timestamp = attributes | _DELETE_HORIZON_BIT, delete_horizon
    if records and not header.timestamp_type:
        max_timestamp = max(record.timestamp for record in records)
    body = bytearray()
    for record in records:
        _write_record(body, record.offset - header.base_offset, record, base_timestamp)
    covered = _COVERED.pack(
        attributes,
        header.last_offset_delta,
        base_timestamp,
        max_timestamp,
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        len(records),
    )
    # Kafka leaves an empty batch as a bare header, whatever its codec.
    payload = compress(header.compression, bytes(body)) if header.compression and records else bytes(body)
    length = HEADER_SIZE - LOG_OVERHEAD + len(payload)
    crc = crc32c(payload, crc32c(covered))
    return b"".join((_HEADER.pack(header.base_offset, length, header.leader_epoch, MAGIC, crc), covered, payload))
