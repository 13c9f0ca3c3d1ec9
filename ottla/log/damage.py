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

import structlog

from ottla.log.disk import Disk, overwrite
from ottla.log.epochs import EpochCache
from ottla.log.errors import CorruptFile, DiskError
from ottla.log.segment import Segment
from ottla.records import CorruptBatch, iter_verified

log = structlog.get_logger(__name__)

DAMAGED_FILE, UNSYNCED_FILE, COMPACTED_FILE = "damaged", "unsynced", "compacted"
_CHUNK = 1 << 20


def check_batches(data: bytes, offset: int, epochs: EpochCache, *, gaps: bool) -> None:
    """Whether these are the whole batches that were asked for with `offset`, and nothing of them has changed.

    The checksum of a batch does not cover its offset and epoch; those must follow from what stands around them. `gaps`:
    offsets may be missing, as in a compacted log. Raises CorruptBatch.
    """
    expected, known, known_below = offset, -1, -1
    first = True
    for base, last, epoch in iter_verified(data):
        if base != expected or last < base:
            if last < expected or (base > expected and not gaps):
                raise CorruptBatch(f"a batch of offsets {base} to {last} at {expected}")
            if not first and base < expected:
                raise CorruptBatch(f"a batch of offset {base} after {expected - 1}")
        if base >= known_below:
            known, known_below = epochs.stretch(base)
        if epoch != known and known >= 0:
            raise CorruptBatch(f"epoch {epoch} at offset {base}, in epoch {known}")
        expected = last + 1
        first = False


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
    overwrite(disk, f"{directory}/{COMPACTED_FILE}", b"offsets may be missing\n", synced=True)
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
