"""A batch in another codec: its records, offsets, sequences and times stay as they are, and nobody looks at them."""

from __future__ import annotations

from crc32c import crc32c

from ottla.records.batch import _COVERED, _HEADER, MAX_DECOMPRESSED
from ottla.records.compression import compress, decompress
from ottla.records.header import COMPRESSION_MASK, HEADER_SIZE, LOG_OVERHEAD, BatchHeader, Buffer


def recompress_batch(
    batch: Buffer, header: BatchHeader, codec: int, level: int | None = None, *, max_bytes: int = MAX_DECOMPRESSED
) -> bytes:
    """The batch that begins at the front of `batch` with its records compressed by `codec` (0: not at all).

    `level` as for `compress`. Raises CorruptBatch when what is there is no sound stream of the header's codec, or
    decompresses to more than `max_bytes`.
    """
    records = decompress(header.compression, memoryview(batch)[HEADER_SIZE : header.size], max_bytes)
    payload = compress(codec, records, level) if codec else bytes(records)
    covered = _COVERED.pack(
        header.attributes & ~COMPRESSION_MASK | codec,
        header.last_offset_delta,
        header.base_timestamp,
        header.max_timestamp,
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        header.count,
    )
    length = HEADER_SIZE - LOG_OVERHEAD + len(payload)
    crc = crc32c(payload, crc32c(covered))
    prefix = _HEADER.pack(header.base_offset, length, header.leader_epoch, header.magic, crc)
    return b"".join((prefix, covered, payload))
