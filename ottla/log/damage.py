"""What is wrong with a log beyond a torn tail, and the marks that carry it over to the next opening.

``damaged``: bytes that were sound once are not any more. The log is not opened again, so that nothing of it is cut or
served: whoever has peers starts over from them, and the files stay for whoever has none.

``unsynced``: a sync has failed. The kernel then counts the pages as clean, shows them to whoever reads, and would
report the next sync as a success without having written them. So what lies above the recovery point is written again
before it is relied on. The mark needs no sync itself: it is in the same page cache as what it warns of.

``compacted``: offsets may be missing within a segment, so that a gap there is no sign of damage. Left, durably, before
the first of them is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import structlog

from ottla.log.disk import Disk
from ottla.log.errors import CorruptFile, DiskError
from ottla.log.segment import Segment
from ottla.records import CorruptBatch, verify_batch

log = structlog.get_logger(__name__)

DAMAGED_FILE, UNSYNCED_FILE, COMPACTED_FILE = "damaged", "unsynced", "compacted"
_CHUNK = 1 << 20


def check_batches(data: bytes, offset: int, epoch_for: Callable[[int], int], *, gaps: bool) -> None:
    """Whether these are the whole batches that were asked for with `offset`, and nothing of them has changed.

    The checksum of a batch does not cover its offset and epoch; those must follow from what stands around them. `gaps`:
    offsets may be missing, as in a compacted log. Raises CorruptBatch.
    """
    position, expected = 0, offset
    while position < len(data):
        header = verify_batch(data, position)
        first = position == 0
        if header.last_offset < expected or (header.base_offset > expected and not gaps):
            raise CorruptBatch(f"a batch of offsets {header.base_offset} to {header.last_offset} at {expected}")
        if not first and header.base_offset < expected:
            raise CorruptBatch(f"a batch of offset {header.base_offset} after {expected - 1}")
        epoch = epoch_for(header.base_offset)
        if epoch >= 0 and epoch != header.leader_epoch:
            raise CorruptBatch(f"epoch {header.leader_epoch} at offset {header.base_offset}, in epoch {epoch}")
        expected = header.next_offset
        position += header.size


def leave_mark(disk: Disk, directory: str, name: str, why: str) -> None:
    """For the next opening, by whatever means the disk still allows."""
    try:
        file = disk.open(f"{directory}/{name}", create=True)
        try:
            file.append((why.encode() + b"\n",))
            with contextlib.suppress(DiskError):
                file.sync()
        finally:
            file.close()
    except DiskError as error:
        log.error("log_mark_not_left", directory=directory, mark=name, error=str(error))


def mark_sparse(disk: Disk, directory: str) -> None:
    """Durably say that offsets may be missing. Raises DiskError: then none may."""
    file = disk.open(f"{directory}/{COMPACTED_FILE}", create=True)
    try:
        file.append((b"offsets may be missing\n",))
        file.sync()
    finally:
        file.close()
    disk.sync_dir(directory)


def refuse_damaged(disk: Disk, directory: str) -> None:
    """Raises CorruptFile when damage was found in this log before."""
    path = f"{directory}/{DAMAGED_FILE}"
    if disk.exists(path):
        raise CorruptFile(f"{directory} is damaged: {disk.read(path).decode(errors='replace').strip()}")


def write_again(segment: Segment) -> None:
    """Make durable what the disk only seems to hold."""
    for start in range(0, segment.size, _CHUNK):
        segment.file.pwrite(start, segment.file.pread(start, min(_CHUNK, segment.size - start)))
    segment.file.sync()
