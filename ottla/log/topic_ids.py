"""partition.metadata: which topic a log's directory belongs to."""

from __future__ import annotations

from uuid import UUID

import structlog

from ottla.log.checkpoints import PARTITION_METADATA_FILE, decode_partition_metadata, encode_partition_metadata
from ottla.log.disk import Disk, overwrite
from ottla.log.errors import CorruptFile

log = structlog.get_logger(__name__)


def read_topic_id(disk: Disk, path: str, *, was_clean: bool) -> UUID | None:
    """The topic id in the log directory `path`, None when there is none. Raises DiskError, and CorruptFile for one that
    cannot be read after a clean stop."""
    metadata = f"{path}/{PARTITION_METADATA_FILE}"
    if not disk.exists(metadata):
        return None
    try:
        return decode_partition_metadata(disk.read(metadata))
    except CorruptFile as error:
        if was_clean:
            raise
        # The power went before it was durable; what is in the log then was not promised to anybody either.
        log.warning("topic_id_unreadable", directory=path, reason=str(error))
        return None


def write_topic_id(disk: Disk, path: str, topic_id: UUID) -> None:
    """Not synced: see `sync_topic_id`. Raises DiskError."""
    overwrite(disk, f"{path}/{PARTITION_METADATA_FILE}", encode_partition_metadata(topic_id))


def sync_topic_id(disk: Disk, parent: str, path: str, topic_id: UUID) -> None:
    """Make the directory `path`, which lies in `parent`, and the topic id in it durable. Raises DiskError.

    It is written once more: a process before this one may have failed to sync it, and after that a sync alone says
    nothing, as the disk only seems to hold it. In its place, so that it takes no room.
    """
    disk.sync_dir(parent)
    file = disk.open(f"{path}/{PARTITION_METADATA_FILE}")
    try:
        file.pwrite(0, encode_partition_metadata(topic_id))
        file.sync()
    finally:
        file.close()
    disk.sync_dir(path)
