"""What a crash left of the swapping of segments: a ``.swap`` file counts, and takes the place of what it replaces."""

from __future__ import annotations

import structlog

from ottla.log.disk import Disk
from ottla.log.errors import CorruptFile
from ottla.log.scan import scan_verified
from ottla.log.segment import INDEX_SUFFIXES, LOG_SUFFIX, SNAPSHOT_SUFFIX
from ottla.log.snapshots import forget_open_transactions

log = structlog.get_logger(__name__)

_SWAP = ".log.swap"


def complete_swaps(disk: Disk, directory: str) -> None:
    """Give every cleaned segment that was committed its name, once all that it replaces is durably gone.

    It was durable before it was committed; if it is not sound, nothing is touched. Raises CorruptFile, DiskError.
    """
    names = disk.listdir(directory)
    swaps = sorted(name for name in names if name.endswith(_SWAP) and name[:20].isdigit())
    if swaps:
        # Whoever gave it that name may have died before it was durable.
        disk.sync_dir(directory)
    for name in swaps:
        base, path = int(name[:20]), f"{directory}/{name}"
        end = _end(disk, path, base)
        for other in names:
            if not other[:20].isdigit() or not base <= int(other[:20]) < end:
                continue
            suffix = other[20:]
            replaced = suffix in (LOG_SUFFIX, SNAPSHOT_SUFFIX) and int(other[:20]) > base
            if replaced or suffix in INDEX_SUFFIXES:
                disk.remove(f"{directory}/{other}")
        forget_open_transactions(disk, directory, base)
        disk.sync_dir(directory)
        disk.rename(path, f"{directory}/{base:020d}{LOG_SUFFIX}")
        disk.sync_dir(directory)
        names = disk.listdir(directory)
        log.info("segment_swap_completed", directory=directory, base_offset=base, next_offset=end)


def _end(disk: Disk, path: str, base: int) -> int:
    file = disk.open(path)
    try:
        end, at, size = base, 0, file.size()
        for position, header in scan_verified(file, 0, size):
            end, at = header.next_offset, position + header.size
    finally:
        file.close()
    if at != size or not size:
        raise CorruptFile(f"{path}: a cleaned segment is unsound at byte {at} of {size}")
    return end
