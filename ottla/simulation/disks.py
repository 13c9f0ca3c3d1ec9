"""What can be done to the disks of a simulated cluster, by node and by the kind of file that is hit."""

from __future__ import annotations

import contextlib
import fnmatch
import random
from collections.abc import Callable, Mapping

from ottla.records import CorruptBatch, iter_headers
from ottla.simulation.errors import SimulationError
from ottla.simulation.node import SimulatedNode
from ottla.simulation.process import DISK_DELAY

_METADATA = "/data/__cluster_metadata-0"
_NUMBER = "[0-9]" * 20

# Patterns of paths; {log} is a partition's directory. Of several files that match the newest is meant, except of
# closed segments: there it is the oldest.
FILES: Mapping[str, str] = {
    "closed segment": "{log}/*.log",
    "tail": "{log}/*.log",
    "index": "{log}/*.index",
    "time index": "{log}/*.timeindex",
    "producer snapshot": f"{{log}}/{_NUMBER}.snapshot",
    "epochs": "{log}/leader-epoch-checkpoint",
    "topic id": "{log}/partition.metadata",
    "recovery points": "/data/recovery-point-offset-checkpoint",
    "log starts": "/data/log-start-offset-checkpoint",
    "high watermarks": "/data/replication-offset-checkpoint",
    "identity": "/data/meta.properties",
    "vote": f"{_METADATA}/quorum-state",
    "metadata log": f"{_METADATA}/*.log",
    "metadata tail": f"{_METADATA}/*.log",
    "metadata snapshot": f"{_METADATA}/*.checkpoint",
}


def slow_syncs(node: SimulatedNode, seconds: float) -> None:
    """Whatever waits for this disk waits so long; 0: as always."""
    node.sync_stall = seconds
    node.machine.disk_delay = (seconds, seconds * 1.01) if seconds else DISK_DELAY


def fill(node: SimulatedNode, room: int) -> None:
    """Only so many bytes more have room."""
    node.excused = True
    node.disk.capacity = node.disk.used() + room


def mend(node: SimulatedNode) -> None:
    """No operation fails, and none is slow. What has happened to a process meanwhile stays excused."""
    node.disk.mend()
    slow_syncs(node, 0.0)


def pick(node: SimulatedNode, part: str, log: str) -> str | None:
    """The file of a node that `part` of FILES means, None if there is none with contents."""
    pattern = FILES[part].format(log=f"/data/{log}")
    found = [path for path, size in node.disk.files().items() if size and fnmatch.fnmatchcase(path, pattern)]
    if part == "closed segment":
        return found[0] if len(found) > 1 else None
    return found[-1] if found else None


def _last_batch(data: bytes) -> int:
    start = 0
    with contextlib.suppress(CorruptBatch):  # a loss of power has left its own mark behind it
        for at, _ in iter_headers(data):
            start = at
    return start


def rot(node: SimulatedNode, part: str, log: str, rng: random.Random) -> str | None:
    """Flip one bit of a file; of a tail, in its last batch. Returns its path, None if there is no such file."""
    path = pick(node, part, log)
    if path is None:
        return None
    data = node.disk.read(path)
    start = _last_batch(data) if part.endswith("tail") else 0
    node.excused = True
    node.disk.flip_bit(path, rng.randrange(start, len(data)), rng.randrange(8))
    return path


class DiskFaults:
    """The faults of disks that a SimulatedCluster offers. `who` is a node id, or a role. All return whom it hit."""

    the: Callable[..., SimulatedNode]

    def disk_full(self, who: object, *, room: int = 0) -> int:
        """Nothing but `room` more bytes can be written, until `disk_mended`."""
        node = self.the(who)
        fill(node, room)
        self._note(node, "disk full")
        return node.id

    def disk_errors(self, who: object, *, on: str, path_contains: str = "", times: int = 0) -> int:
        """The next operations of this name (append, pread, pwrite, truncate, sync, rename, ...; 0: all until mended)
        on a matching path fail with EIO."""
        node = self.the(who)
        node.excused = True
        node.disk.fail_next(on, path_contains=path_contains, times=times)
        self._note(node, "disk errors", on=on, path=path_contains)
        return node.id

    def disk_stalls(self, who: object, seconds: float = 5.0) -> int:
        """Every sync takes so long, until `disk_mended`."""
        node = self.the(who)
        slow_syncs(node, seconds)
        self._note(node, "disk stalls", seconds=seconds)
        return node.id

    def disk_mended(self, who: object) -> int:
        """There is room, nothing fails, and nothing is slow."""
        node = self.the(who)
        mend(node)
        self._note(node, "disk mended")
        return node.id

    def rot(self, who: object, part: str, log: str = "orders-0", *, lot: int = 0) -> int:
        """Flip a bit of the file that `part` of FILES names; `log` is the directory of the partition. `lot` decides
        which one. Raises SimulationError when the node has no such file."""
        node = self.the(who)
        path = rot(node, part, log, random.Random(lot))
        if path is None:
            raise SimulationError(f"node {node.id} has no {part}")
        self._note(node, "rot", path=path)
        return node.id

    def wipe(self, who: object) -> int:
        """The machine comes back with an empty disk: it is dead until started."""
        node = self.the(who)
        node.kill()
        node.disk.wipe()
        self._note(node, "wiped")
        return node.id

    @staticmethod
    def _note(node: SimulatedNode, event: str, **fields: object) -> None:
        node.note(event, **fields)
