"""How a log is read into which the cleaner reaches: its batches are some of those that were committed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from ottla.log import ModelledDisk, PartitionLog
from ottla.log.modelled_file import ModelledFile
from ottla.log.segment import LOG_SUFFIX, Segment
from ottla.records import LOG_OVERHEAD

Batch = tuple[int, int, int, int]
"""Base offset, next offset, leader epoch, CRC."""

BATCH = Struct(">qiibIhi")
"""Base offset, length, leader epoch, magic, CRC, attributes, last offset delta."""


class Place(NamedTuple):
    """Where a batch begins, for as long as the log has this very segment."""

    segment: Segment
    position: int


class Found(NamedTuple):
    """`contents`: those of the file, in which the batch begins at `position`; after it comes `next`."""

    batch: Batch
    contents: bytearray
    position: int
    next: Place


class Unreadable(Exception):
    """A bit has flipped in this file: its lengths and offsets may lead anywhere."""


def walk(log: PartitionLog, disk: ModelledDisk, offset: int, known: Place | None) -> Iterator[Found]:
    """The batches of which something is at or above `offset`. `known`: a place that is not above it.

    Also in the moment in which a cleaned segment takes the place of others. Raises Unreadable.
    """
    segments = log.segments
    first = max(bisect_right([segment.base_offset for segment in segments], offset) - 1, 0)
    for segment in segments[first:]:
        position = known.position if known is not None and known.segment is segment else 0
        contents = _contents(segment, disk)
        while position < segment.size:
            if position + BATCH.size > len(contents):
                raise Unreadable
            base, length, epoch, _, crc, _, delta = BATCH.unpack_from(contents, position)
            after = Place(segment, position + length + LOG_OVERHEAD)
            if base + delta >= offset:
                yield Found((base, base + delta + 1, epoch, crc), contents, position, after)
            position = after.position


def _contents(segment: Segment, disk: ModelledDisk) -> bytearray:
    # One that was just cleaned is open, and has another name than it will have.
    file = segment.opened
    if isinstance(file, ModelledFile):
        contents, rotten = file._node.data, file._node.rotten
    else:
        path = segment.path(LOG_SUFFIX)
        contents, rotten = disk.peek(path), disk.is_rotten(path)
    if rotten:
        raise Unreadable
    return contents
