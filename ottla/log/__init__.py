"""One partition's log on disk, in Apache Kafka's own file format, and the seam to the file system."""

from ottla.log.checkpoints import LOCK_FILE, MetaProperties, decode_uuid, encode_uuid
from ottla.log.cleaning import CleanerStatus, LogCleaner
from ottla.log.config import LogConfig
from ottla.log.disk import Disk, File, Lock, OsDisk, Volume
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
from ottla.log.manager import LogManager
from ottla.log.modelled_disk import ModelledDisk
from ottla.log.modelled_file import Crashed
from ottla.log.partition_log import Appended, PartitionLog
from ottla.log.producer_entries import ProducerEntry
from ottla.log.producers import Duplicate, New, ProducerState
from ottla.log.recovery import Recovered
from ottla.log.verification import Verification

__all__ = [
    "LOCK_FILE",
    "Appended",
    "CleanerStatus",
    "CorruptFile",
    "Crashed",
    "Disk",
    "DiskError",
    "DiskFull",
    "DiskLocked",
    "Duplicate",
    "EpochCache",
    "File",
    "FileClosed",
    "GroupCommit",
    "InconsistentTopicId",
    "Lock",
    "LogCleaner",
    "LogConfig",
    "LogError",
    "LogManager",
    "LogOffline",
    "MetaProperties",
    "ModelledDisk",
    "New",
    "OffsetOutOfRange",
    "OffsetsOutOfOrder",
    "OsDisk",
    "PartitionLog",
    "ProducerEntry",
    "ProducerState",
    "Recovered",
    "Truncated",
    "Verification",
    "Volume",
    "decode_uuid",
    "encode_uuid",
]
