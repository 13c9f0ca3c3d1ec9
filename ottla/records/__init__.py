"""Record batches (magic 2): the bytes that clients, wire and disk share."""

from ottla.records.batch import MAX_DECOMPRESSED, Record, RecordLike, decode_batch, encode_batch
from ottla.records.compression import Compression, compress, decompress
from ottla.records.header import (
    HEADER_SIZE,
    LOG_OVERHEAD,
    BatchHeader,
    CorruptBatch,
    iter_headers,
    read_header,
    stamped_prefix,
    verify_batch,
)
from ottla.records.recompress import recompress_batch
from ottla.records.rewrite import rewrite_batch

__all__ = [
    "HEADER_SIZE",
    "LOG_OVERHEAD",
    "MAX_DECOMPRESSED",
    "BatchHeader",
    "Compression",
    "CorruptBatch",
    "Record",
    "RecordLike",
    "compress",
    "decode_batch",
    "decompress",
    "encode_batch",
    "iter_headers",
    "read_header",
    "recompress_batch",
    "rewrite_batch",
    "stamped_prefix",
    "verify_batch",
]
