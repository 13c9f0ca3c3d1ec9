"""The end of a log that does not check: a bit that has flipped, a write that was not over, or something else."""

from __future__ import annotations

import structlog

from ottla.log.scan import plausible
from ottla.log.segment import Segment
from ottla.records import HEADER_SIZE, MAX_SEARCHED, flip_back, read_header, sound_batch

log = structlog.get_logger(__name__)


def mend_bit(segment: Segment, file_size: int, *, sparse: bool) -> bool:
    """Whether a single bit has flipped in what stands behind the sound part of the segment; it is durably flipped back.
    `sparse`: offsets may be missing there. Raises DiskError.

    Not a bit of the offset, which no checksum covers: it could be the next batch in the place of one that is missing.
    """
    position, data = segment.size, _behind(segment, file_size)
    if len(data) < HEADER_SIZE:
        return False
    offset = read_header(data).base_offset
    if offset < segment.next_offset or (offset > segment.next_offset and not sparse):
        return False
    at = flip_back(data, 0, offset)
    if at is None:
        return False
    segment.file.pwrite(position + at, bytes(data[at : at + 1]))
    segment.file.sync()
    log.warning("log_bit_mended", file=segment.file.path, position=position + at, offset=offset)
    return True


def is_torn(segment: Segment, file_size: int) -> bool:
    """Whether what stands behind the sound part of the segment looks like a write that was not over: it is no whole
    batch, and no single bit makes it one. Of a batch that is too long to be searched for one it is not said."""
    data = _behind(segment, file_size)
    if len(data) < HEADER_SIZE:
        return True
    header = read_header(data)
    if sound_batch(data, 0) is not None or flip_back(data, 0, header.base_offset) is not None:
        return False  # of another place, or another epoch
    return not plausible(header, file_size - segment.size) or header.size <= MAX_SEARCHED


def _behind(segment: Segment, file_size: int) -> bytearray:
    length = min(file_size - segment.size, MAX_SEARCHED + HEADER_SIZE)
    return bytearray(segment.file.pread(segment.size, length) if length else b"")
