"""Record batches as lists of records: for clients, tests and the few places of a broker that look inside."""

import struct
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from crc32c import crc32c

from ottla.records.compression import compress, decompress
from ottla.records.header import (
    COMPRESSION_MASK,
    HEADER_SIZE,
    LOG_OVERHEAD,
    MAGIC,
    TIMESTAMP_TYPE_BIT,
    BatchHeader,
    Buffer,
    CorruptBatch,
    verify_batch,
)

MAX_DECOMPRESSED = 128 * 1024 * 1024
"""Default limit on the bytes that one batch may decompress to."""

Headers = Sequence[tuple[str, bytes | None]]

_HEADER = struct.Struct(">qiibI")
_COVERED = struct.Struct(">hiqqqhii")
SMALLEST_RECORD = 7
_NULL = 1  # zigzag of -1, the length of what is not there
_NULL_LENGTH = bytes((_NULL,))


class Record(NamedTuple):
    """One record. `timestamp` is in ms since the epoch (-1: none)."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class RecordLike(Protocol):
    """What `encode_batch` needs of a record; its offset follows from its place."""

    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


def encode_batch(
    records: Sequence[RecordLike],
    *,
    base_offset: int = 0,
    leader_epoch: int = -1,
    compression: int = 0,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    control: bool = False,
    timestamp_type: int = 0,
) -> bytes:
    """The records as one batch of consecutive offsets from `base_offset` on.

    Raises ValueError for no records or an unknown codec.
    """
    if not records:
        raise ValueError("a batch has at least one record")
    count = len(records)
    base_timestamp = records[0].timestamp
    max_timestamp = base_timestamp if count == 1 else max([record.timestamp for record in records])
    body = bytearray()
    for delta, record in enumerate(records):
        _write_record(body, delta, record, base_timestamp)
    attributes = compression | timestamp_type << 3 | transactional << 4 | control << 5
    covered = _COVERED.pack(
        attributes,
        count - 1,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        count,
    )
    payload = compress(compression, bytes(body)) if compression else body
    length = HEADER_SIZE - LOG_OVERHEAD + len(payload)
    crc = crc32c(payload, crc32c(covered))
    return b"".join((_HEADER.pack(base_offset, length, leader_epoch, MAGIC, crc), covered, payload))


def encode_empty_batch(timestamp: int) -> bytes:
    """A batch of one offset and no record, as compaction leaves them behind."""
    covered = _COVERED.pack(0, 0, timestamp, timestamp, -1, -1, -1, 0)
    return _HEADER.pack(0, HEADER_SIZE - LOG_OVERHEAD, -1, MAGIC, crc32c(covered)) + covered


def decode_batch(
    buf: Buffer, pos: int = 0, *, header: BatchHeader | None = None, max_bytes: int = MAX_DECOMPRESSED
) -> list[Record]:
    """The records of the batch at `pos`, which is verified first; keys and values are copied out.

    `header` is that batch's if the caller has read it already. Raises CorruptBatch, also for a batch that decompresses
    to more than `max_bytes`.
    """
    header = verify_batch(buf, pos, header)
    payload = memoryview(buf)[pos + HEADER_SIZE : pos + LOG_OVERHEAD + header.batch_length]
    count = header.count
    if not count and not payload:
        return []  # compaction has emptied it, whatever its codec
    codec = header.attributes & COMPRESSION_MASK
    data = bytes(decompress(codec, payload, max_bytes) if codec else payload)
    if count < 0 or count * SMALLEST_RECORD > len(data):
        raise CorruptBatch(f"{count} records cannot stand in {len(data)} bytes")
    return _read_records(data, header)


# The zigzag varints of 0 to 1023: of most lengths and deltas. One byte holds those below 64, two the others.
_VARINTS = tuple(
    bytes((each << 1,)) if each < 64 else bytes((each << 1 & 0x7F | 0x80, each >> 6)) for each in range(1024)
)
_SMALL = len(_VARINTS)


def _varint(value: int) -> bytes:
    """A zigzag varint, of int32 and int64 alike."""
    if 0 <= value < _SMALL:
        return _VARINTS[value]
    out = bytearray()
    value = (value << 1) ^ (value >> 63)
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _write_bytes(out: bytearray, data: bytes | None) -> None:
    if data is None:
        out += _NULL_LENGTH
    else:
        out += _varint(len(data))
        out += data


def _write_record(out: bytearray, delta: int, record: RecordLike, base_timestamp: int) -> None:
    key, value, headers = record.key, record.value, record.headers
    elapsed = record.timestamp - base_timestamp
    body = bytearray(1)  # attributes: none are in use
    body += _VARINTS[elapsed] if 0 <= elapsed < _SMALL else _varint(elapsed)
    body += _VARINTS[delta] if delta < _SMALL else _varint(delta)
    if key is None:
        body += _NULL_LENGTH
    else:
        _write_bytes(body, key)
    _write_bytes(body, value)
    if headers:
        _write_headers(body, headers)
    else:
        body += _VARINTS[0]
    out += _varint(len(body))
    out += body


def _write_headers(out: bytearray, headers: Headers) -> None:
    out += _varint(len(headers))
    for name, value in headers:
        _write_bytes(out, name.encode())
        _write_bytes(out, value)


def _read_varint(data: bytes, pos: int) -> tuple[int, int]:
    byte = data[pos]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), pos + 1
    value = shift = 0
    while True:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), pos
        shift += 7
        if shift > 63:
            raise CorruptBatch("a varint does not end")


# What Record._make does, without Python code.
_new = tuple.__new__


def _read_bytes(data: bytes, pos: int, end: int) -> tuple[bytes | None, int]:
    byte = data[pos]
    length, pos = (byte >> 1 ^ -(byte & 1), pos + 1) if byte < 0x80 else _read_varint(data, pos)
    if length < 0:
        if length != -1:
            raise CorruptBatch(f"negative length {length}")
        return None, pos
    if pos + length > end:
        raise CorruptBatch(f"{length} bytes announced, {end - pos} left")
    return data[pos : pos + length], pos + length


def _read_records(data: bytes, header: BatchHeader) -> list[Record]:
    """All records. Varints of one byte, which most are, and lengths of two are read where they stand: a call for each
    would cost more than all else here. Raises CorruptBatch."""
    base_offset, base_timestamp = header.base_offset, header.base_timestamp
    log_append_time = header.max_timestamp if header.attributes & TIMESTAMP_TYPE_BIT else None
    records: list[Record] = []
    value: bytes | None
    size = len(data)
    at = 0
    try:
        for _ in range(header.count):
            if (byte := data[at]) < 0x80:
                length, pos = (byte >> 1) ^ -(byte & 1), at + 1
            elif (more := data[at + 1]) < 0x80:
                length, pos = (byte & 0x7F | more << 7) >> 1 ^ -(byte & 1), at + 2
            else:
                length, pos = _read_varint(data, at)
            end = pos + length
            if length < 0 or end > size:
                raise CorruptBatch(f"a record of {length} bytes with {size - pos} left")
            pos += 1  # attributes: none are in use
            if (byte := data[pos]) < 0x80:
                timestamp, pos = base_timestamp + ((byte >> 1) ^ -(byte & 1)), pos + 1
            else:
                timestamp, pos = _read_varint(data, pos)
                timestamp += base_timestamp
            if (byte := data[pos]) < 0x80:
                offset, pos = base_offset + ((byte >> 1) ^ -(byte & 1)), pos + 1
            else:
                offset, pos = _read_varint(data, pos)
                offset += base_offset
            if data[pos] == _NULL:
                key, pos = None, pos + 1
            else:
                key, pos = _read_bytes(data, pos, end)
            if (byte := data[pos]) < 0x80:
                begin, stop = pos + 1, pos + 1 + (byte >> 1)
            else:
                begin, stop = pos + 2, pos + 2 + ((byte & 0x7F | (more := data[pos + 1]) << 7) >> 1)
                if more >= 0x80:
                    stop = end + 1  # a longer one
            if not byte & 1 and stop <= end:
                value, pos = data[begin:stop], stop
            else:
                value, pos = _read_bytes(data, pos, end)
            headers, pos = ((), pos + 1) if data[pos] == 0 else _read_headers(data, pos, end)
            if pos != end:
                raise CorruptBatch(f"a record of {length} bytes ends at another place than it says")
            if log_append_time is not None:
                timestamp = log_append_time
            records.append(_new(Record, (offset, timestamp, key, value, headers)))
            at = end
    except (IndexError, UnicodeDecodeError) as error:
        raise CorruptBatch(f"record {len(records)} of {header.count} makes no sense: {error}") from error
    if at != size:
        raise CorruptBatch(f"{size - at} bytes after the last record")
    return records


def _read_headers(data: bytes, pos: int, end: int) -> tuple[tuple[tuple[str, bytes | None], ...], int]:
    count, pos = _read_varint(data, pos)
    if count < 0 or count > end - pos:
        raise CorruptBatch(f"{count} record headers with {end - pos} bytes left")
    headers = []
    for _ in range(count):
        name, pos = _read_bytes(data, pos, end)
        if name is None:
            raise CorruptBatch("a record header without a name")
        content, pos = _read_bytes(data, pos, end)
        headers.append((name.decode(), content))
    return tuple(headers), pos
