"""One partition's log on disk, in Apache Kafka's own file format, and the seam to the file system."""

from ottla.log.checkpoints import MetaProperties, decode_uuid, encode_uuid
from ottla.log.config import LogConfig
from ottla.log.disk import Disk, File, Lock, OsDisk
from ottla.log.epochs import EpochCache
from ottla.log.errors import (
    CorruptFile,
    DiskError,
    DiskFull,
    DiskLocked,
    FileClosed,
    InconsistentTopicId,
    LogError,
    LogOffline,
    OffsetOutOfRange,
    OffsetsOutOfOrder,
)
from ottla.log.group_commit import GroupCommit, Truncated

__all__ = [
    "CorruptFile",
    "Disk",
    "DiskError",
    "DiskFull",
    "DiskLocked",
    "EpochCache",
    "File",
    "FileClosed",
    "GroupCommit",
    "InconsistentTopicId",
    "Lock",
    "LogConfig",
    "LogError",
    "LogOffline",
    "MetaProperties",
    "OffsetOutOfRange",
    "OffsetsOutOfOrder",
    "OsDisk",
    "Truncated",
    "decode_uuid",
    "encode_uuid",
]
