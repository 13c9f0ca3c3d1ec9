"""Errors of the log: peer's fault, expected outcome, or a disk that can no longer be trusted."""

from __future__ import annotations


class DiskError(OSError):
    """The disk refused an operation (errno and path as in OSError). A failed sync must never be retried."""


class DiskFull(DiskError):
    """No space, quota or file-size limit reached (ENOSPC, EDQUOT, EFBIG)."""


class DiskLocked(DiskError):
    """Another process holds the lock file of this data directory."""


class FileClosed(DiskError):
    """The file was closed by its owner before this operation began."""


class LogError(Exception):
    """Base of the log's own errors."""


class LogOffline(LogError):
    """A write or sync of this log failed for good: nothing more is written or promised (KAFKA_STORAGE_ERROR)."""


class OffsetOutOfRange(LogError):
    """The offset is below the log start offset or above the log end offset."""


class OffsetsOutOfOrder(LogError):
    """A follower was handed batches that do not continue its log (gap, overlap, or a leader epoch going back)."""


class CorruptFile(LogError):
    """A checkpoint, index or snapshot file does not parse or does not check."""


class InconsistentTopicId(LogError):
    """partition.metadata names another topic id than the one asked for: the directory is of an older namesake."""
