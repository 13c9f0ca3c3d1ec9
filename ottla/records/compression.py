"""The codecs of record batches, as Kafka's clients write them, with bounded decompression.

- gzip: RFC 1952.
- snappy: Java and librdkafka frame raw blocks in the "xerial" stream; older C clients send one raw
  block. Both are read, xerial is written.
- lz4: the LZ4 frame format.
- zstd: a zstd frame (KIP-110).

The bound matters: gzip reaches 1:1000, so that a batch within the broker's size limit could fill its memory.
"""

import struct
import zlib
from collections.abc import Callable
from enum import IntEnum

import cramjam

from ottla.records.header import Buffer, CorruptBatch


class Compression(IntEnum):
    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER = _XERIAL_MAGIC + struct.pack(">ii", 1, 1)
_XERIAL_BLOCK = 32 * 1024
_INT = struct.Struct(">i")
_LZ4_FAST = 0
_LZ4_USUAL = 9


def compress(codec: int, data: Buffer, level: int | None = None) -> bytes:
    """`data` compressed with `codec`. Raises ValueError for an unknown codec.

    `level` is the codec's own (KIP-390): gzip 1 to 9, lz4 1 to 17, zstd -131072 to 22; None is the usual one (6, 9
    and 3). For lz4 the usual one is no level of the slow compressor but the fast one, as in Kafka and librdkafka.
    """
    match codec:
        case Compression.NONE:
            return bytes(data)
        case Compression.GZIP:
            return bytes(cramjam.gzip.compress(data, level))
        case Compression.SNAPPY:
            return _compress_xerial(data)
        case Compression.LZ4:
            return _compress_lz4(data, level)
        case Compression.ZSTD:
            return bytes(cramjam.zstd.compress(data, level))
    raise ValueError(f"no compression codec {codec}")


class Exploding(CorruptBatch):
    """The bytes decompress to more than was allowed, sound or not."""


def decompress(codec: int, data: Buffer, max_bytes: int) -> bytes | memoryview:
    """`data` decompressed with `codec`, never more than `max_bytes` bytes.

    Raises CorruptBatch if the codec is unknown or the data is no stream of it, Exploding if the limit is passed.
    """
    try:
        match codec:
            case Compression.NONE:
                return memoryview(data)
            case Compression.GZIP:
                return _inflate(data, max_bytes)
            case Compression.SNAPPY:
                return _decompress_snappy(data, max_bytes)
            case Compression.LZ4:
                return _decompress_growing(cramjam.lz4.decompress_into, data, max_bytes)
            case Compression.ZSTD:
                return _decompress_growing(cramjam.zstd.decompress_into, data, max_bytes)
    except (cramjam.DecompressionError, zlib.error) as error:
        raise CorruptBatch(f"not a sound {Compression(codec).name.lower()} stream: {error}") from error
    raise CorruptBatch(f"no compression codec {codec}")


def _too_big(max_bytes: int) -> Exploding:
    return Exploding(f"decompresses to more than {max_bytes} bytes")


def _inflate(data: Buffer, max_bytes: int) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    out = inflater.decompress(data, max_bytes + 1)
    if len(out) > max_bytes:
        raise _too_big(max_bytes)
    if not inflater.eof:
        raise CorruptBatch("a gzip stream is cut off")
    return out


def _decompress_growing(
    decompress_into: Callable[[Buffer, bytearray], int], data: Buffer, max_bytes: int
) -> memoryview:
    """Into a buffer of a likely size, and again into a larger one when that was too small, up to the limit.

    The library can neither stop at a limit nor say which of its errors means a full buffer.
    """
    size = min(max_bytes, max(64 * 1024, 6 * len(data)))
    while True:
        out = bytearray(size)
        try:
            return memoryview(out)[: decompress_into(data, out)]
        except cramjam.DecompressionError as error:
            if size < max_bytes:
                size = min(max_bytes, size * 8)
            elif "whole buffer" in str(error):
                raise _too_big(max_bytes) from error
            else:
                raise


def _compress_xerial(data: Buffer) -> bytes:
    parts = [_XERIAL_HEADER]
    for start in range(0, len(data), _XERIAL_BLOCK):
        block = bytes(cramjam.snappy.compress_raw(data[start : start + _XERIAL_BLOCK]))
        parts.append(_INT.pack(len(block)))
        parts.append(block)
    return b"".join(parts)


def _compress_lz4(data: Buffer, level: int | None) -> bytes:
    if level is None or level == _LZ4_USUAL:
        level = _LZ4_FAST
    # Java's reader refuses blocks that refer to earlier ones, which the library's default makes.
    compressor = cramjam.lz4.Compressor(level=level, content_checksum=False, block_linked=False)
    compressor.compress(bytes(data))
    return bytes(compressor.finish())


def _decompress_snappy(data: Buffer, max_bytes: int) -> bytes:
    if bytes(data[: len(_XERIAL_MAGIC)]) != _XERIAL_MAGIC:
        return _snappy_block(data, max_bytes, max_bytes)
    parts: list[bytes] = []
    left = max_bytes
    pos, end = len(_XERIAL_HEADER), len(data)
    while pos < end:
        if pos + 4 > end:
            raise CorruptBatch("a xerial snappy stream is cut off")
        (length,) = _INT.unpack_from(data, pos)
        pos += 4
        if length < 0 or pos + length > end:
            raise CorruptBatch(f"a xerial snappy block of {length} bytes with {end - pos} left")
        block = _snappy_block(data[pos : pos + length], left, max_bytes)
        left -= len(block)
        parts.append(block)
        pos += length
    return b"".join(parts)


def _snappy_block(data: Buffer, left: int, max_bytes: int) -> bytes:
    # The length stands at the front of a raw block, so that it is known before anything is allocated.
    if cramjam.snappy.decompress_raw_len(data) > left:
        raise _too_big(max_bytes)
    return bytes(cramjam.snappy.decompress_raw(data))
