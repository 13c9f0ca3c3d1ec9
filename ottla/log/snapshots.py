"""Producer snapshots beside the segments: `<offset>.snapshot` holds the producer state as of that offset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog

from ottla.log.disk import Disk
from ottla.log.errors import CorruptFile
from ottla.log.producers import ProducerState
from ottla.log.reader import locate, tail_batches
from ottla.log.scan import scan_headers
from ottla.log.segment import SNAPSHOT_SUFFIX, Segment, overwrite

log = structlog.get_logger(__name__)

# How far back of a snapshot the five-batch windows of its producers are looked for.
WINDOW_BYTES = 1 << 20


def snapshot_path(directory: str, offset: int) -> str:
    return f"{directory}/{offset:020d}{SNAPSHOT_SUFFIX}"


def write_snapshot(disk: Disk, directory: str, state: ProducerState, offset: int) -> None:
    """Not synced: its CRC tells whether it arrived, and the log can always replace it."""
    overwrite(disk, snapshot_path(directory, offset), state.snapshot())


def remove_snapshots(disk: Disk, directory: str, offsets: Iterable[int]) -> None:
    for offset in offsets:
        path = snapshot_path(directory, offset)
        if disk.exists(path):
            disk.remove(path)


def list_snapshots(disk: Disk, directory: str) -> list[int]:
    """The offsets of the snapshot files, ascending."""
    names = disk.listdir(directory)
    return [int(name[:20]) for name in names if name.endswith(SNAPSHOT_SUFFIX) and name[:20].isdigit()]


def restore(
    disk: Disk, directory: str, segments: Sequence[Segment], usable: Iterable[int], log_start: int
) -> ProducerState:
    """The producer state at the end of `segments`: the newest sound snapshot of `usable` and the batches after it."""
    state = ProducerState(log_start)
    for offset in sorted(usable, reverse=True):
        try:
            state = ProducerState.from_snapshot(disk.read(snapshot_path(directory, offset)), offset)
            break
        except CorruptFile as error:
            log.warning("producer_snapshot_ignored", directory=directory, offset=offset, reason=str(error))
    if state.entries:
        _refill_windows(state, segments)
    start = state.end_offset
    for segment in segments:
        if segment.next_offset > start and segment.size:
            for _, header in scan_headers(segment.file, locate(segment, start), segment.size):
                state.update(header, header.base_offset)
    state.end_offset = segments[-1].next_offset
    return state


def _refill_windows(state: ProducerState, segments: Sequence[Segment]) -> None:
    left = WINDOW_BYTES
    for segment in reversed(segments):
        if segment.base_offset < state.end_offset and segment.size and left > 0:
            before = min(state.end_offset, segment.next_offset)
            for header in reversed(tail_batches(segment, before, left)):
                state.remember(header)
                left -= header.size
