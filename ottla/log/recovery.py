"""Opening the segments of a log: trusting what a clean close or the recovery point vouches for, scanning the rest.

After an unclean stop every segment from the one that holds the recovery point on is read whole. The log ends before the
first batch whose CRC fails, whose offset does not follow, or whose leader epoch goes back; what comes after is removed,
newest segment first and each removal durable, so that a crash in the middle leaves no hole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import structlog

from ottla.log.checkpoints import LEADER_EPOCH_FILE, decode_epochs, encode_epochs
from ottla.log.damage import COMPACTED_FILE, UNSYNCED_FILE, refuse_damaged, write_again
from ottla.log.disk import Disk
from ottla.log.epochs import EpochCache
from ottla.log.errors import CorruptFile
from ottla.log.reader import header_at
from ottla.log.scan import scan_headers, scan_verified
from ottla.log.segment import (
    DELETED_SUFFIX,
    INDEX_SUFFIXES,
    LOG_SUFFIX,
    SNAPSHOT_SUFFIX,
    Segment,
)
from ottla.log.swaps import complete_swaps
from ottla.log.torn import is_torn, mend_bit
from ottla.records import BatchHeader

log = structlog.get_logger(__name__)

_SWEPT = (DELETED_SUFFIX, ".tmp", ".cleaned", ".swap")


@dataclass(slots=True)
class Recovered:
    """What was found. `cut_bytes` were removed from the end; `below_recovery_point` says that synced data was among it.

    `scanned_from` is the first offset that was read and checked, None after a clean open. `epochs_file` is what the
    leader epoch checkpoint holds, if it is sound. `sparse`: offsets may be missing within a segment. `created`: there
    was no log, and the names of the new files are not durable yet.
    """

    segments: list[Segment]
    epochs: EpochCache
    last_epoch: int = -1
    scanned_from: int | None = None
    cut_bytes: int = 0
    below_recovery_point: bool = False
    snapshots: list[int] = field(default_factory=list)
    epochs_file: bytes | None = None
    created: bool = False
    sparse: bool = False


def open_segments(
    disk: Disk,
    directory: str,
    *,
    clean: bool,
    recovery_point: int,
    log_start_offset: int,
    interval: int,
    now_ms: int,
    required_end: int,
    before_cut: Callable[[bool], None],
) -> Recovered:
    """The segments of `directory`, at least one, ready to append to. `interval`: bytes between index entries.

    A single bit that has flipped is flipped back. `before_cut` is called before anything is cut, since nobody can see
    afterwards that there was something: with True if it looks like a write that was not over when the power went, and
    otherwise with False (it may have been answered for, and so may what follows a failed sync).

    `required_end`: where the log was durable up to, 0 if unknown. After a clean close that is its end; a log that ends
    elsewhere is scanned. Raises CorruptFile, with no record removed, when a log that has to be scanned is sound only
    below `required_end`, or when damage was found in it before.
    """
    refuse_damaged(disk, directory)
    complete_swaps(disk, directory)
    sparse = disk.exists(f"{directory}/{COMPACTED_FILE}")
    unsynced = disk.exists(f"{directory}/{UNSYNCED_FILE}")
    bases, snapshots = _sweep(disk, directory)
    if not bases:
        _require(directory, log_start_offset, required_end)
        segment = Segment.create(disk, directory, log_start_offset, interval=interval, now_ms=now_ms)
        return Recovered([segment], EpochCache(), created=True, snapshots=snapshots)
    segments = [_open_segment(disk, directory, base, interval, now_ms) for base in bases]
    for segment, following in pairwise(segments):
        segment.next_offset = following.base_offset
    entries = _load_epochs(disk, directory)
    result = Recovered(segments, EpochCache(entries or ()), snapshots=snapshots, sparse=sparse)
    result.epochs_file = None if entries is None else encode_epochs(entries)
    settled = clean and not unsynced and _settle_active(segments[-1], result, entries is not None)
    # A clean close makes everything durable, so a different end is damage: the size of the last batch rotted.
    if settled and required_end in (0, segments[-1].next_offset):
        return result
    _recover(result, disk, directory, recovery_point if entries is not None else 0, required_end, before_cut)
    if unsynced:
        before_cut(False)
        for segment in segments:
            if segment.next_offset > recovery_point:
                write_again(segment)
        disk.remove(f"{directory}/{UNSYNCED_FILE}")
        disk.sync_dir(directory)
    return result


def _require(directory: str, end: int, required_end: int) -> None:
    if end < required_end:
        raise CorruptFile(
            f"{directory}: the log is sound only up to offset {end}, and was durable up to {required_end}"
        )


def _sweep(disk: Disk, directory: str) -> tuple[list[int], list[int]]:
    """Remove leftovers; return the base offsets of segments and the offsets of producer snapshots, ascending."""
    names = disk.listdir(directory)
    bases = sorted(int(name[:20]) for name in names if _is_numbered(name, LOG_SUFFIX))
    known = set(bases)
    snapshots = []
    for name in names:
        orphan = any(_is_numbered(name, suffix) for suffix in INDEX_SUFFIXES) and int(name[:20]) not in known
        if orphan or name.endswith(_SWEPT):
            disk.remove(f"{directory}/{name}")
        elif _is_numbered(name, SNAPSHOT_SUFFIX):
            snapshots.append(int(name[:20]))
    return bases, sorted(snapshots)


def _is_numbered(name: str, suffix: str) -> bool:
    return len(name) == 20 + len(suffix) and name.endswith(suffix) and name[:20].isdigit()


def _open_segment(disk: Disk, directory: str, base: int, interval: int, now_ms: int) -> Segment:
    segment = Segment(disk, directory, base, size=0, next_offset=base, interval=interval)
    segment.size = segment.file.size()
    segment.created_ms = now_ms
    segment.close_file()
    return segment


def _load_epochs(disk: Disk, directory: str) -> list[tuple[int, int]] | None:
    """The entries of the checkpoint, None when it is missing or torn and must be made anew (KAFKA-16541)."""
    path = f"{directory}/{LEADER_EPOCH_FILE}"
    if not disk.exists(path):
        return None
    try:
        return decode_epochs(disk.read(path))
    except CorruptFile as error:
        log.warning("leader_epochs_rebuilt", directory=directory, reason=str(error))
        return None


def _settle_active(segment: Segment, result: Recovered, epochs_known: bool) -> bool:
    """After a clean stop: find the end of the log by the last index entry. False when something does not fit."""
    size, end, last = segment.size, 0, None
    indexed, index_end = segment.index.boundary_at_most(size) if size else (-1, 0)
    end = index_end
    for position, header in scan_headers(segment.file, index_end, size):
        if 0 < index_end == position:
            follows = header.last_offset == indexed
        else:
            follows = _follows(header.base_offset, segment.next_offset, result)
        if not follows:
            return False
        segment.next_offset = header.next_offset
        end = position + header.size
        last = header
        if header.max_timestamp > segment.max_timestamp:
            segment.max_timestamp, segment.max_timestamp_offset = header.max_timestamp, header.last_offset
    if end != size or not epochs_known:
        return False
    if last is None:
        segment.reset_indexes()
        result.last_epoch = result.epochs.epoch_for_offset(segment.base_offset - 1)
        return True
    if result.epochs.epoch_for_offset(last.last_offset) != last.leader_epoch:
        return False
    first = header_at(segment, 0)
    segment.first_timestamp = first.max_timestamp if first is not None else None
    result.last_epoch = last.leader_epoch
    return True


def _recover(
    result: Recovered,
    disk: Disk,
    directory: str,
    recovery_point: int,
    required_end: int,
    before_cut: Callable[[bool], None],
) -> None:
    segments, epochs = result.segments, result.epochs
    first = max(bisect_right([segment.base_offset for segment in segments], recovery_point) - 1, 0)
    scanned_from = result.scanned_from = segments[first].base_offset
    known = EpochCache(epochs.entries)
    epochs.truncate_from_end(scanned_from)
    result.last_epoch = epochs.epoch_for_offset(scanned_from - 1)
    expected = scanned_from
    for at in range(first, len(segments)):
        segment = segments[at]
        # Also in a sparse log: a cleaned segment keeps its last batch, so one that ends early has lost its tail.
        sound = segment.base_offset == expected
        file_size = segment.size
        if sound:
            _begin_again(segment)
            _scan(segment, result, known, recovery_point, file_size)
            while mend_bit(segment, file_size, sparse=result.sparse):
                _scan(segment, result, known, recovery_point, file_size)
            expected = segment.next_offset
            sound = segment.size == file_size
        if not sound:
            _require(directory, expected, required_end)
            begun = segment.size < file_size
            before_cut(is_torn(segment, file_size) if begun else segment.base_offset > expected)
            _cut(result, disk, directory, at, file_size)
            break
    _require(directory, expected, required_end)
    for segment in segments[first:-1]:
        segment.write_indexes_if_room()
    end = segments[-1].next_offset
    result.below_recovery_point = result.cut_bytes > 0 and end < recovery_point
    log.info(
        "log_recovered",
        directory=directory,
        scanned_from=scanned_from,
        log_end_offset=end,
        cut_bytes=result.cut_bytes,
        below_recovery_point=result.below_recovery_point,
    )


def _follows(offset: int, expected: int, result: Recovered) -> bool:
    return offset == expected or (result.sparse and offset > expected)


def _adopt_epochs(epochs: EpochCache, known: EpochCache, header: BatchHeader) -> None:
    """Where an epoch began can be read from the log only while the first batch of it is there."""
    for epoch, start in known.entries:
        if epochs.latest < epoch <= header.leader_epoch and start <= header.base_offset:
            epochs.assign(epoch, start)


def _begin_again(segment: Segment) -> None:
    segment.reset_indexes()
    segment.size, segment.next_offset = 0, segment.base_offset


def _scan(segment: Segment, result: Recovered, known: EpochCache, recovery_point: int, file_size: int) -> None:
    """Check every batch of a segment from where it is known to be sound on; its size and indexes then cover that too.

    No checksum covers the epoch of a batch. Below the recovery point the epochs were written down too (`known`).
    """
    for _, header in scan_verified(segment.file, segment.size, file_size):
        if not _follows(header.base_offset, segment.next_offset, result) or header.leader_epoch < result.last_epoch:
            break
        if header.base_offset < recovery_point and known.epoch_for_offset(header.base_offset) != header.leader_epoch:
            break
        segment.note(header.size, header.base_offset, header.last_offset, header.max_timestamp)
        if header.leader_epoch > result.last_epoch:
            if result.sparse:
                _adopt_epochs(result.epochs, known, header)
            result.epochs.assign(header.leader_epoch, header.base_offset)
            result.last_epoch = header.leader_epoch


def _cut(result: Recovered, disk: Disk, directory: str, at: int, file_size: int) -> None:
    """End the log in segment `at`, or before it when nothing of it is left and it does not continue the log."""
    segments = result.segments
    keep = at if at and segments[at].base_offset != segments[at - 1].next_offset else at + 1
    for segment in reversed(segments[keep:]):
        result.cut_bytes += segment.size
        segment.remove_files()
        disk.sync_dir(directory)
    del segments[keep:]
    if keep == at + 1:
        segment = segments[at]
        result.cut_bytes += file_size - segment.size
        segment.file.truncate(segment.size)
        segment.file.sync()
