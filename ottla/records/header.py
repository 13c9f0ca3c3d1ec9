"""The fixed part of a record batch (magic 2, KIP-98): reading it, checking it, stamping it.

Layout, big-endian::

    0  baseOffset int64            21 attributes int16        43 producerId int64
    8  batchLength int32           23 lastOffsetDelta int32   51 producerEpoch int16
    12 partitionLeaderEpoch int32  27 baseTimestamp int64     53 baseSequence int32
    16 magic int8                  35 maxTimestamp int64      57 recordCount int32
    17 crc uint32                                             61 records ...

`batchLength` counts what follows it. The CRC-32C covers everything from `attributes` on, so that
a broker can set offset and leader epoch (bytes 0-15) without touching the checksum.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from crc32c import crc32c

Buffer = bytes | bytearray | memoryview

HEADER_SIZE = 61
LOG_OVERHEAD = 12
MAGIC = 2

_CRC_START = 21
_HEADER = struct.Struct(">qiibIhiqqqhii")
_FRONT = struct.Struct(">qiibIhi")
_PREFIX = struct.Struct(">qii")
_LENGTH = struct.Struct(">i")

COMPRESSION_MASK = 0x07
TIMESTAMP_TYPE_BIT = 0x08
TRANSACTIONAL_BIT = 0x10
CONTROL_BIT = 0x20
_DELETE_HORIZON_BIT = 0x40


class CorruptBatch(Exception):
    """The bytes are not a whole, sound record batch: truncated, wrong length, magic or CRC, or nonsense inside."""


class BatchHeader(NamedTuple):
    """The fields of the header in their order on disk. Offsets and sequences are counts, timestamps are ms."""

    base_offset: int
    batch_length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    count: int  # type: ignore[assignment]  # over tuple.count, which nobody asks a header for

    @property
    def size(self) -> int:
        """Bytes of the whole batch, header included."""
        return self.batch_length + LOG_OVERHEAD

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def compression(self) -> int:
        """The codec's number, 0 to 7; only those of `Compression` exist."""
        return self.attributes & COMPRESSION_MASK

    @property
    def timestamp_type(self) -> int:
        """0: the producer's time; 1: the time of the append, which is `max_timestamp` for every record."""
        return (self.attributes & TIMESTAMP_TYPE_BIT) >> 3

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL_BIT)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL_BIT)

    @property
    def has_delete_horizon(self) -> bool:
        """`base_timestamp` holds the time at which tombstones may go (KIP-534)."""
        return bool(self.attributes & _DELETE_HORIZON_BIT)

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record; sequences wrap from 2^31 - 1 to 0. -1 when the batch has none."""
        if self.base_sequence < 0:
            return -1
        return (self.base_sequence + self.last_offset_delta) & 0x7FFFFFFF


# What BatchHeader._make does, without Python code: headers are read many times for every batch.
_new = tuple.__new__


def read_header(buf: Buffer, pos: int = 0) -> BatchHeader:
    """The header at `pos`, unchecked.

    Raises CorruptBatch if fewer than 61 bytes are there.
    """
    try:
        return _new(BatchHeader, _HEADER.unpack_from(buf, pos))
    except struct.error as error:
        raise CorruptBatch(f"{len(buf) - pos} bytes cannot hold a batch header of {HEADER_SIZE}") from error


def verify_batch(buf: Buffer, pos: int = 0, header: BatchHeader | None = None) -> BatchHeader:
    """The header of the batch at `pos` once the batch is known to be complete, of magic 2 and of the right CRC.

    `header` is what stands there, if the caller has read it already. What it says about the records (their count, their
    offsets) is not checked.

    Raises CorruptBatch.
    """
    end = len(buf)
    if header is None:
        if pos + HEADER_SIZE > end:
            read_header(buf, pos)  # which says so
        header = _new(BatchHeader, _HEADER.unpack_from(buf, pos))
    size = header.batch_length + LOG_OVERHEAD
    if size < HEADER_SIZE:
        raise CorruptBatch(f"a batch of {size} bytes is shorter than its header")
    if pos + size > end:
        raise CorruptBatch(f"a batch of {size} bytes is cut off after {end - pos}")
    if header.magic != MAGIC:
        raise CorruptBatch(f"magic {header.magic} is not {MAGIC}")
    crc = crc32c(memoryview(buf)[pos + _CRC_START : pos + size])
    if crc != header.crc:
        raise CorruptBatch(f"CRC-32C is {crc:08x}, the header says {header.crc:08x}")
    return header


def iter_verified(buf: Buffer) -> Iterator[tuple[int, int, int]]:
    """`(base offset, last offset, leader epoch)` of one batch after the other, each one checked as by `verify_batch`.

    For many small batches: no object is made of a header. Raises CorruptBatch, also at an incomplete tail.
    """
    view, end, pos = memoryview(buf), len(buf), 0
    while pos < end:
        if pos + HEADER_SIZE > end:
            raise _unsound(buf, pos)
        base, length, epoch, magic, crc, _, delta = _FRONT.unpack_from(buf, pos)
        following = pos + length + LOG_OVERHEAD
        if (
            magic != MAGIC
            or following > end
            or length < HEADER_SIZE - LOG_OVERHEAD
            or crc32c(view[pos + _CRC_START : following]) != crc
        ):
            raise _unsound(buf, pos)
        yield base, base + delta, epoch
        pos = following


def _unsound(buf: Buffer, pos: int) -> CorruptBatch:
    try:
        verify_batch(buf, pos)
    except CorruptBatch as error:
        return error
    raise AssertionError(f"the batch at {pos} is sound")


def iter_headers(buf: Buffer, pos: int = 0) -> Iterator[tuple[int, BatchHeader]]:
    """Position and header of each whole batch from `pos` on; ends before an incomplete tail. CRCs are not checked.

    Raises CorruptBatch at a length that no batch can have.
    """
    end = len(buf)
    while pos + HEADER_SIZE <= end:
        header = _new(BatchHeader, _HEADER.unpack_from(buf, pos))
        size = header.batch_length + LOG_OVERHEAD
        if size < HEADER_SIZE:
            raise CorruptBatch(f"a batch of {size} bytes at {pos} is shorter than its header")
        if pos + size > end:
            return
        yield pos, header
        pos += size


def stamped_prefix(header: BatchHeader, base_offset: int, leader_epoch: int) -> bytes:
    """The 16 bytes before the magic with another offset and leader epoch; the rest of the batch stays as it is."""
    return _PREFIX.pack(base_offset, header.batch_length, leader_epoch)
