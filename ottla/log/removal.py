"""Directories that are no logs any more: those of deleted ones, which go after a while, and those set aside."""

from __future__ import annotations

import random
from collections.abc import Callable

from ottla.log.disk import Disk

DELETED, STRAY = "-delete", "-stray"


class Removal:
    """`time` is seconds of a clock that only goes forward: files shall not stay because a wall clock was set back."""

    def __init__(self, disk: Disk, directory: str, rng: random.Random, time: Callable[[], float]) -> None:
        self._disk = disk
        self._directory = directory
        self._rng = rng
        self._time = time
        self._doomed: list[tuple[float, str]] = []

    def take_away(self, name: str, suffix: str) -> str | None:
        """Durably give the directory of a log a name that is not a log's; its new path, None when there is none."""
        path = f"{self._directory}/{name}"
        if not self._disk.exists(path):
            return None
        # Kafka's form: topic-partition.uniqueid-delete, within the 255 bytes of a file name.
        unique = f".{self._rng.getrandbits(128):032x}{suffix}"
        target = f"{self._directory}/{name[: 255 - len(unique)]}{unique}"
        self._disk.rename(path, target)
        self._disk.sync_dir(self._directory)
        return target

    def doom(self, path: str, after_ms: int) -> None:
        """Let the directory go after that time."""
        self._doomed.append((self._time() + after_ms / 1000, path))

    def due(self) -> list[str]:
        """What is to be removed now; it is not named again."""
        now = self._time()
        due = [path for at, path in self._doomed if at <= now]
        self._doomed = [(at, path) for at, path in self._doomed if at > now]
        return due

    def remove(self, path: str) -> None:
        """Blocks; for an executor. Raises DiskError."""
        if self._disk.exists(path):
            self._disk.remove_tree(path)
