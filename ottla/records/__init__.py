"""Record batches (magic 2): the bytes that clients, wire and disk share."""

from ottla.records.batch import (
    MAX_DECOMPRESSED,
    SMALLEST_RECORD,
    Record,
    RecordLike,
    decode_batch,
    encode_batch,
    encode_empty_batch,
)
from ottla.records.compression import Compression, Exploding, compress, decompress
from ottla.records.control import EndMarker, encode_marker, read_marker
from ottla.records.header import (
    CONTROL_BIT,
    HEADER_SIZE,
    LOG_OVERHEAD,
    TRANSACTIONAL_BIT,
    BatchHeader,
    CorruptBatch,
    iter_headers,
    iter_verified,
    read_header,
    stamped_prefix,
    verify_batch,
)
from ottla.records.one_bit import MAX_SEARCHED, flip_back, sound_batch
from ottla.records.recompress import recompress_batch
from ottla.records.rewrite import rewrite_batch

__all__ = [
    "CONTROL_BIT",
    "HEADER_SIZE",
    "LOG_OVERHEAD",
    "MAX_DECOMPRESSED",
    "MAX_SEARCHED",
    "SMALLEST_RECORD",
    "TRANSACTIONAL_BIT",
    "BatchHeader",
    "Compression",
    "CorruptBatch",
    "EndMarker",
    "Exploding",
    "Record",
    "RecordLike",
    "compress",
    "decode_batch",
    "decompress",
    "encode_batch",
    "encode_empty_batch",
    "encode_marker",
    "flip_back",
    "iter_headers",
    "iter_verified",
    "read_header",
    "read_marker",
    "recompress_batch",
    "rewrite_batch",
    "sound_batch",
    "stamped_prefix",
    "verify_batch",
]
