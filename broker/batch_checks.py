"""What a produced batch must be before it is appended; looks at the header and the checksum, and at
records only for a compacted topic.

The codes are Kafka's for the same fault (its `LogValidator` and `ProduceRequest.validateRecords`). Where Kafka lets an
exception escape as UNKNOWN_SERVER_ERROR there is a definite code here: that one makes the Java client write again
under a new sequence, and so write twice (KAFKA-14034).
"""

from __future__ import annotations

from typing import NamedTuple

from kio.schema.errors import ErrorCode

from ottla.records import (
    HEADER_SIZE,
    LOG_OVERHEAD,
    MAX_DECOMPRESSED,
    SMALLEST_RECORD,
    BatchHeader,
    Compression,
    CorruptBatch,
    Exploding,
    decode_batch,
    read_header,
    verify_batch,
)

FIRST_VERSION_WITH_ZSTD = 7
_MAGIC_AT = 16
_MAGIC = 2
_MAX_CODEC = max(Compression)
MAX_RATIO = 32
"""How many times `max.message.bytes` a batch to a compacted topic may decompress to."""


class BatchLimits(NamedTuple):
    """What a topic allows. Sizes in bytes; times in ms, how far a record's timestamp may lie behind or ahead of now.

    `codec` is the one that its log wants, -1 for the producer's own; `level` as for `ottla.records.compress`.
    """

    max_message_bytes: int
    segment_bytes: int
    log_append_time: bool
    timestamp_before_max_ms: int
    timestamp_after_max_ms: int
    compacted: bool = False
    codec: int = -1
    level: int | None = None


class BadBatch(NamedTuple):
    """Why a batch is refused."""

    error: ErrorCode
    message: str


_SEVERAL = BadBatch(ErrorCode.invalid_record, "There must be exactly one record batch per partition.")


def check_batch(
    records: bytes | memoryview | None, version: int, limits: BatchLimits, now_ms: int
) -> BatchHeader | BadBatch:
    """The header of the one batch in `records`, or why it is refused. `version` is that of the Produce request."""
    size = 0 if records is None else len(records)
    if records is None or size == 0:
        return BadBatch(ErrorCode.invalid_record, f"Produce requests with version {version} must have a record batch.")
    if size > _MAGIC_AT and records[_MAGIC_AT] != _MAGIC:
        return BadBatch(ErrorCode.invalid_record, f"Record batches must have magic 2, not {records[_MAGIC_AT]}.")
    if size < HEADER_SIZE:
        return BadBatch(ErrorCode.corrupt_message, f"{size} bytes are too few for a record batch.")
    if size > limits.max_message_bytes or size > limits.segment_bytes:
        # Before the checksum: what is too large is not worth reading. Two small batches are told apart from one large.
        return _too_large(records, size, limits)
    try:
        header = verify_batch(records)
    except CorruptBatch as error:
        return BadBatch(ErrorCode.corrupt_message, str(error))
    if header.batch_length + LOG_OVERHEAD != size:
        return _SEVERAL
    bad = _check_header(header, version, limits, now_ms)
    if bad is None and limits.compacted:
        bad = _check_keys(records, header, limits.max_message_bytes)
    return bad or header


def _check_keys(records: bytes | memoryview, header: BatchHeader, max_bytes: int) -> BadBatch | None:
    """Compaction keeps the last record of every key: what has none has no place there.

    This is where the broker opens a batch, so that it bounds what comes out; a Java client splits what is too large.
    """
    if header.count * SMALLEST_RECORD > max_bytes:
        text = f"A compacted topic takes no more records than fit into {max_bytes} bytes, not {header.count} at once."
        return BadBatch(ErrorCode.message_too_large, text)
    try:
        opened = decode_batch(records, header=header, max_bytes=min(MAX_RATIO * max_bytes, MAX_DECOMPRESSED))
        keyless = any(record.key is None for record in opened)
    except Exploding as error:
        return BadBatch(ErrorCode.message_too_large, f"The batch {error}.")
    except CorruptBatch as error:
        return BadBatch(ErrorCode.corrupt_message, str(error))
    return BadBatch(ErrorCode.invalid_record, "A compacted topic takes no record without a key.") if keyless else None


def _too_large(records: bytes | memoryview, size: int, limits: BatchLimits) -> BadBatch:
    if HEADER_SIZE <= read_header(records).size < size:
        return _SEVERAL
    if size > limits.max_message_bytes:
        return BadBatch(
            ErrorCode.message_too_large, f"The batch has {size} bytes, the topic takes {limits.max_message_bytes}."
        )
    return BadBatch(ErrorCode.record_list_too_large, f"The batch of {size} bytes exceeds the segment size.")


def _check_header(header: BatchHeader, version: int, limits: BatchLimits, now_ms: int) -> BadBatch | None:
    if header.base_offset != 0:
        return BadBatch(ErrorCode.invalid_record, f"The base offset must be 0, not {header.base_offset}.")
    if header.count <= 0 or header.count != header.last_offset_delta + 1:
        return BadBatch(
            ErrorCode.invalid_record,
            f"A batch of {header.count} records cannot have the last offset delta {header.last_offset_delta}.",
        )
    if header.attributes:
        bad = _check_attributes(header, version)
        if bad is not None:
            return bad
    if header.producer_id >= 0 and (header.base_sequence < 0 or header.producer_epoch < 0):
        return BadBatch(
            ErrorCode.invalid_record,
            f"Sequence {header.base_sequence} and epoch {header.producer_epoch} are none of an idempotent producer.",
        )
    return None if limits.log_append_time else _check_time(header, limits, now_ms)


def _check_attributes(header: BatchHeader, version: int) -> BadBatch | None:
    codec = header.compression
    if header.attributes != codec:
        if header.is_control:
            return BadBatch(ErrorCode.invalid_record, "Clients are not allowed to write control records.")
        if header.is_transactional and header.producer_id < 0:
            return BadBatch(ErrorCode.invalid_record, "A transactional batch must have a producer id.")
        if header.has_delete_horizon:
            return BadBatch(ErrorCode.invalid_record, "Clients are not allowed to set a delete horizon.")
    if codec > _MAX_CODEC or (codec == Compression.ZSTD and version < FIRST_VERSION_WITH_ZSTD):
        return BadBatch(
            ErrorCode.unsupported_compression_type,
            f"Produce requests with version {version} cannot have compression type {codec}.",
        )
    return None


def _check_time(header: BatchHeader, limits: BatchLimits, now_ms: int) -> BadBatch | None:
    if header.attributes and header.timestamp_type:
        return BadBatch(ErrorCode.invalid_timestamp, "A producer must not set the timestamp type to LogAppendTime.")
    earliest, latest = now_ms - limits.timestamp_before_max_ms, now_ms + limits.timestamp_after_max_ms
    # -1: the records have none. The base timestamp is the first record's; what lies between is not looked at.
    first, largest = header.base_timestamp, header.max_timestamp
    if (earliest <= first <= latest or first == -1) and (earliest <= largest <= latest or largest == -1):
        return None
    return BadBatch(
        ErrorCode.invalid_timestamp, f"Timestamps {first} and {largest} of the batch are out of range at {now_ms}."
    )
