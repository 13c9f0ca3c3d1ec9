"""Producer snapshots beside the segments: `<offset>.snapshot` holds the producer state as of that offset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog

from ottla.log.aborted import AbortedIndex
from ottla.log.aborted_file import TXN_INDEX_SUFFIX
from ottla.log.disk import Disk, overwrite
from ottla.log.errors import CorruptFile
from ottla.log.producers import ProducerState
from ottla.log.reader import locate, tail_batches
from ottla.log.scan import scan_headers
from ottla.log.segment import SNAPSHOT_SUFFIX, Segment
from ottla.records import CorruptBatch, read_marker

log = structlog.get_logger(__name__)

# How far back of a snapshot the five-batch windows of its producers are looked for.
WINDOW_BYTES = 1 << 20
NEVER = 2**63 - 1


def snapshot_path(directory: str, offset: int) -> str:
    return f"{directory}/{offset:020d}{SNAPSHOT_SUFFIX}"


def write_snapshot(disk: Disk, directory: str, state: ProducerState, offset: int) -> None:
    """Not synced: its CRC tells whether it arrived, and the log can replace it, as long as it has what is in it."""
    overwrite(disk, snapshot_path(directory, offset), state.snapshot())


def is_sound(disk: Disk, directory: str, offset: int) -> bool:
    """Whether there is a snapshot of this offset that arrived. Raises DiskError."""
    path = snapshot_path(directory, offset)
    if not disk.exists(path):
        return False
    try:
        ProducerState.from_snapshot(disk.read(path), offset)
    except CorruptFile:
        return False
    return True


def keep_snapshot(disk: Disk, directory: str, offset: int) -> None:
    """Make the snapshot of this offset durable, but for its name: what is below will not be in the log any more.

    It is written once more, for a sync of it may have failed, and the next would only say that it has not.
    """
    path = snapshot_path(directory, offset)
    if disk.exists(path):
        overwrite(disk, path, disk.read(path), synced=True)


def remove_snapshots(disk: Disk, directory: str, offsets: Iterable[int]) -> None:
    for offset in offsets:
        path = snapshot_path(directory, offset)
        if disk.exists(path):
            disk.remove(path)


def forget_open_transactions(disk: Disk, directory: str, offset: int) -> None:
    """Remove the snapshot of this offset if transactions are open in it: once the records behind it were cleaned their
    markers may be gone, and a state made from it would have them open for ever."""
    path = snapshot_path(directory, offset)
    if not disk.exists(path):
        return
    try:
        has_open = bool(ProducerState.from_snapshot(disk.read(path), offset).transactions.unsettled)
    except CorruptFile:
        has_open = True
    if has_open:
        disk.remove(path)


def list_snapshots(disk: Disk, directory: str) -> list[int]:
    """The offsets of the snapshot files, ascending."""
    names = disk.listdir(directory)
    return [int(name[:20]) for name in names if name.endswith(SNAPSHOT_SUFFIX) and name[:20].isdigit()]


def restore(
    disk: Disk,
    directory: str,
    segments: Sequence[Segment],
    usable: Iterable[int],
    log_start: int,
    *,
    reindex_from: int = NEVER,
    high_watermark: int = NEVER,
) -> ProducerState:
    """The producer state at the end of `segments`: the newest sound snapshot of `usable` and the batches after it.

    A snapshot does not say which transactions had ended in it so lately that their markers were not below the high
    watermark, and they hold back the last stable offset: one from beyond it is used only if no transaction has ever
    ended in it. Segments from `reindex_from` on, which no snapshot lies beyond, get their aborted transactions anew.

    Raises DiskError, and CorruptFile when the log is not sound.
    """
    state = ProducerState(log_start)
    for offset in sorted(usable, reverse=True):
        try:
            found = ProducerState.from_snapshot(disk.read(snapshot_path(directory, offset)), offset)
        except CorruptFile as error:
            log.warning("producer_snapshot_ignored", directory=directory, offset=offset, reason=str(error))
            continue
        if offset <= high_watermark or not found.has_seen_markers:
            state = found
            break
    if state.entries:
        _refill_windows(state, segments)
    start = state.end_offset
    for segment in segments:
        index = AbortedIndex() if segment.base_offset >= reindex_from else None
        if segment.next_offset > start and segment.size:
            _replay(state, segment, start, index)
        if index is not None:
            segment.aborted.replace(index)
    state.end_offset = segments[-1].next_offset
    return state


def _replay(state: ProducerState, segment: Segment, start: int, index: AbortedIndex | None) -> None:
    for position, header in scan_headers(segment.file, locate(segment, start), segment.size):
        if not header.is_control:
            state.update(header, header.base_offset)
            continue
        try:
            marker = read_marker(segment.file.pread(position, header.size), header=header)
        except CorruptBatch as error:
            raise CorruptFile(f"{segment.path('.log')}: the marker at {header.base_offset}: {error}") from error
        aborted = state.end_transaction(header, header.base_offset, marker)
        if aborted is not None and index is not None:
            index.add(aborted)


def rebuild_aborted(disk: Disk, directory: str, segments: Sequence[Segment], segment: Segment, log_start: int) -> None:
    """Make the aborted transactions of one segment anew from the log: those on disk are rotten.

    Raises DiskError, CorruptFile.
    """
    log.warning("index_rebuilt", segment=segment.path(TXN_INDEX_SUFFIX), reason="it does not fit its checksum")
    before = [each for each in segments if each.base_offset <= segment.base_offset]
    usable = [offset for offset in list_snapshots(disk, directory) if log_start <= offset <= segment.base_offset]
    restore(disk, directory, before, usable, log_start, reindex_from=segment.base_offset)


def _refill_windows(state: ProducerState, segments: Sequence[Segment]) -> None:
    left = WINDOW_BYTES
    for segment in reversed(segments):
        if segment.base_offset < state.end_offset and segment.size and left > 0:
            before = min(state.end_offset, segment.next_offset)
            for header in reversed(tail_batches(segment, before, left)):
                state.remember(header)
                left -= header.size
