"""The real ``LogStorage`` on a modelled disk, in the place of ``MemoryStorage``: for simulations in which disks rot."""

import contextlib
import random
from collections.abc import Sequence

from ottla.controller.raft import Entry, LogStorage, PersistentState, Ready, Snapshot
from ottla.log import Crashed, ModelledDisk
from ottla.records import iter_headers
from tests.raft.memory_storage import MemoryStorage

DIRECTORY = "/data/__cluster_metadata-0"
LOG = f"{DIRECTORY}/{0:020d}.log"
QUORUM_STATE = f"{DIRECTORY}/quorum-state"


def open_storage(disk: ModelledDisk, *, node: int = 1, cluster: str = "c1", replaceable: bool = True) -> LogStorage:
    return LogStorage(
        disk, "/data", lambda: 1_700_000_000_000, cluster_id=cluster, node_id=node, replaceable=replaceable
    )


def reopened(disk: ModelledDisk, *, replaceable: bool = True) -> PersistentState:
    """What a start finds, and leaves: the process is killed right after it."""
    state = open_storage(disk, replaceable=replaceable).load()
    disk.crash()
    return state


def entry_at(disk: ModelledDisk, position: int) -> int:
    """Index of the entry that owns byte ``position`` of the log."""
    headers = list(iter_headers(disk.read(LOG)))
    return next(header.base_offset + 1 for start, header in headers if position < start + header.size)


def spoil(disk: ModelledDisk, position: int, bit: int = 0, *, path: str = LOG) -> None:
    """Flip a bit, and two more at the end of the same entry: a single one would be flipped back."""
    headers = list(iter_headers(disk.read(path)))
    last = next(start + header.size for start, header in headers if position < start + header.size) - 1
    disk.flip_bit(path, position, bit)
    for other in (1, 3):
        disk.flip_bit(path, last, (bit + other) % 8)


class FileStorage(MemoryStorage):
    """What is in memory here is only what the invariants look at: what the disk was seen to hold."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = ModelledDisk(random.Random(0))
        self._storage = open_storage(self.disk)

    def load(self) -> PersistentState:
        self._storage = open_storage(self.disk)
        found = self._storage.load()
        self._remember(found.snapshot, found.entries)
        self.hard_state = found.hard_state
        return found

    def _remember(self, snapshot: Snapshot | None, entries: Sequence[Entry]) -> None:
        self.snapshot = snapshot
        self.entries = {entry.index: entry for entry in entries}

    def persist(self, ready: Ready) -> None:
        self._storage.persist(ready)
        super().persist(ready)

    def tear(self, ready: Ready, rng: random.Random) -> None:
        self.disk.crash_at = self.disk.operations + rng.randint(1, 12)
        with contextlib.suppress(Crashed):
            self._storage.persist(ready)
        self.crash()

    def crash(self) -> None:
        """Lose power, and note what the disk held at that moment."""
        self.disk.crash()
        self._look()

    def _look(self) -> None:
        storage = open_storage(self.disk)
        found = storage.load()
        self._remember(found.snapshot, found.entries)
        self.hard_state = found.hard_state
        self.disk.crash()

    def compact(self, first_index: int) -> None:
        self._storage.compact(first_index)
        super().compact(first_index)

    def settle(self) -> None:
        self._storage.settle()

    def rot(self, rng: random.Random) -> None:
        """An entry of the log rots while the node is down."""
        logs = [name for name in self.disk.listdir(DIRECTORY) if name.endswith(".log")]
        paths = [f"{DIRECTORY}/{name}" for name in logs if self.disk.read(f"{DIRECTORY}/{name}")]
        if paths:
            path = rng.choice(paths)
            spoil(self.disk, rng.randrange(len(self.disk.read(path))), rng.randrange(8), path=path)
