"""Walking over the batches of a segment file, by header only or with every CRC checked."""

from __future__ import annotations

from collections.abc import Iterator

from ottla.log.disk import File
from ottla.records import HEADER_SIZE, LOG_OVERHEAD, BatchHeader, CorruptBatch, read_header, verify_batch

CHUNK = 1 << 20
_SMALL = 16 * 1024


def plausible(header: BatchHeader, available: int) -> bool:
    """Whether a header can begin a batch that lies whole in `available` bytes: lengths are never taken on trust."""
    return (
        header.magic == 2
        and HEADER_SIZE - LOG_OVERHEAD <= header.batch_length <= available - LOG_OVERHEAD
        and header.last_offset_delta >= 0
        and header.base_offset >= 0
    )


def scan_headers(file: File, start: int, end: int, *, chunk_size: int = _SMALL) -> Iterator[tuple[int, BatchHeader]]:
    """`(position, header)` of each batch in [start, end), reading little more than the headers.

    `start` must be a batch boundary. Ends silently before the first thing that cannot be a whole batch.
    """
    position = start
    chunk, chunk_start = b"", start
    while position + HEADER_SIZE <= end:
        at = position - chunk_start
        if at + HEADER_SIZE > len(chunk):
            chunk_start = position
            chunk = file.pread(position, min(chunk_size, end - position))
            at = 0
            if len(chunk) < HEADER_SIZE:
                return
        header = read_header(chunk, at)
        if not plausible(header, end - position):
            return
        yield position, header
        position += header.size


def scan_verified(file: File, start: int, end: int) -> Iterator[tuple[int, BatchHeader]]:
    """As scan_headers, but every batch is read whole and its CRC checked; ends before the first that fails."""
    position = start
    chunk, chunk_start = b"", start
    while position + HEADER_SIZE <= end:
        at = position - chunk_start
        if at + HEADER_SIZE > len(chunk):
            chunk_start, at = position, 0
            chunk = file.pread(position, min(CHUNK, end - position))
            if len(chunk) < HEADER_SIZE:
                return
        header = read_header(chunk, at)
        if not plausible(header, end - position):
            return
        if at + header.size > len(chunk):
            chunk_start, at = position, 0
            chunk = file.pread(position, min(max(CHUNK, header.size), end - position))
        try:
            header = verify_batch(chunk, at)
        except CorruptBatch:
            return
        yield position, header
        position += header.size
