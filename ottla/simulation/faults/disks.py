"""Faults of disks. What takes data away, or changes it, hits one node only in a whole run: the others hold it all."""

from __future__ import annotations

from ottla.simulation.disks import fill, mend, rot, slow_syncs
from ottla.simulation.faults.kind import Kind, Loses, Scene, Undo
from ottla.simulation.node import SimulatedNode
from ottla.simulation.process import DISK_DELAY

# Files whose damage a node with sound peers gets over by itself. A damaged vote, or identity, needs a person.
_REPAIRABLE = (
    "closed segment",
    "closed segment",
    "tail",
    "tail",
    "index",
    "time index",
    "producer snapshot",
    "epochs",
    "recovery points",
    "high watermarks",
    "metadata log",
    "metadata tail",
)
_ERRORS = (
    ("append", ".log"),
    ("sync", ".log"),
    ("pread", ".log"),
    ("sync", ""),
    ("append", ""),
    ("rename", "-checkpoint"),
    ("rename", "quorum-state"),
    ("truncate", ""),
    ("sync_dir", ""),
)


def _slow_disk(scene: Scene) -> Undo | None:
    machine = scene.victim_node().machine
    machine.disk_delay = (0.01, scene.rng.choice((0.1, 0.5, 3.0)))

    def undo() -> None:
        machine.disk_delay = DISK_DELAY

    return undo


def _stalls(scene: Scene) -> Undo | None:
    node = scene.victim_node()
    slow_syncs(node, 5.0)
    return lambda: slow_syncs(node, 0.0)


def _full(scene: Scene) -> Undo | None:
    node = scene.victim_node()
    fill(node, scene.rng.choice((0, 200, 2_000, 20_000)))
    return lambda: _repair(scene, node)


def _errors(scene: Scene) -> Undo | None:
    node = scene.victim_node()
    operation, where = scene.rng.choice(_ERRORS)
    node.excused = True
    node.disk.fail_next(operation, path_contains=where, times=scene.rng.choice((0, 1, 1, 3)))
    return lambda: _repair(scene, node)


def _repair(scene: Scene, node: SimulatedNode) -> None:
    mend(node)
    scene.revive(node.id)


def fragile(scene: Scene) -> SimulatedNode | None:
    """The one node of this run whose data may go, if all others hold everything now."""
    cluster = scene.cluster
    marked = [node for node in cluster.nodes.values() if node.fragile]
    victim = marked[0] if marked else scene.victim_node()
    if not all(node.is_ready for node in cluster.nodes.values()) or not cluster.full(scene.topic):
        return None
    if not cluster.electorate.survives(lost=victim.id):
        return None
    victim.fragile = True
    return victim


def _rot(scene: Scene) -> Undo | None:
    node = fragile(scene)
    if node is None:
        return None
    down = scene.rng.choice(("", "stop", "kill", "power"))
    log = f"{scene.topic}-{scene.rng.randrange(scene.partitions)}"
    part = scene.rng.choice(_REPAIRABLE)
    if down == "stop":
        node.terminate()
    elif down == "kill":
        node.kill()
    elif down == "power":
        node.power_off()
    path = rot(node, part, log, scene.rng)
    node.note("rot", path=path)
    return lambda: scene.revive(node.id)


def _wipe(scene: Scene) -> Undo | None:
    node = fragile(scene)
    if node is None:
        return None
    scene.cluster.wipe(node.id)
    return lambda: scene.revive(node.id)


KINDS: dict[str, Kind] = {
    "slow disk": Kind(_slow_disk, "what a node waits for on its disk takes up to 0.1, 0.5 or 3 s"),
    "stalled syncs": Kind(_stalls, "every sync of a node takes 5 s"),
    "disk full": Kind(_full, "a disk takes only some bytes more; there is room again later", Loses.PROCESSES),
    "disk errors": Kind(_errors, "operations of one kind fail, once or until the disk is mended", Loses.PROCESSES),
    "bit rot": Kind(
        _rot, "a bit flips in a file of one node, running or not, while all others are well", Loses.ONE_CACHE, nodes=3
    ),
    "wipe": Kind(_wipe, "a node comes back with an empty disk, while all others are well", Loses.ONE_CACHE, nodes=3),
}
