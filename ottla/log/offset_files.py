"""The offset checkpoints of a data directory: files of `{(topic, partition): offset}`, written when they change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import structlog

from ottla.log.checkpoints import TopicPartition, decode_offsets, encode_offsets
from ottla.log.disk import Disk
from ottla.log.errors import CorruptFile

log = structlog.get_logger(__name__)

Offsets = Mapping[TopicPartition, int]


class OffsetFiles:
    """Every method blocks briefly and may be called from any thread."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._directory = directory
        self._lock = threading.Lock()
        self._written: dict[str, bytes] = {}
        self._on_disk: dict[str, Offsets] = {}

    def read(self, name: str) -> dict[TopicPartition, int]:
        """What the file holds; empty when it is missing or torn. Raises DiskError."""
        path = f"{self._directory}/{name}"
        if not self._disk.exists(path):
            return {}
        try:
            found = self._on_disk[name] = decode_offsets(self._disk.read(path), name)
            return found
        except CorruptFile as error:
            log.warning("checkpoint_ignored", file=path, reason=str(error))
            return {}

    def write(self, name: str, offsets: Callable[[], Offsets]) -> None:
        """Replace the file unless nothing has changed. Raises DiskError.

        The offsets are taken under the lock, so that an older, higher one never follows a lowered one to the disk.
        """
        with self._lock:
            self._write(name, offsets())

    def forget(self, key: TopicPartition, names: tuple[str, ...]) -> None:
        """What is written of an older log of this name must not be taken for the next one's after a crash."""
        with self._lock:
            for name in names:
                offsets = self._on_disk.get(name, {})
                if key in offsets:
                    self._write(name, {other: offset for other, offset in offsets.items() if other != key})

    def _write(self, name: str, offsets: Offsets) -> None:
        data = encode_offsets(offsets)
        if self._written.get(name) != data:
            self._disk.write_atomic(f"{self._directory}/{name}", data)
            self._written[name] = data
            self._on_disk[name] = offsets
