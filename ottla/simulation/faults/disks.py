"""Faults of disks."""

from __future__ import annotations

from ottla.simulation.faults.kind import Kind, Scene, Undo
from ottla.simulation.process import DISK_DELAY


def _slow_disk(scene: Scene) -> Undo | None:
    machine = scene.victim_node().machine
    machine.disk_delay = (0.01, scene.rng.choice((0.1, 0.5, 3.0)))

    def undo() -> None:
        machine.disk_delay = DISK_DELAY

    return undo


KINDS: dict[str, Kind] = {
    "slow disk": Kind(_slow_disk, "what a node waits for on its disk takes up to 0.1, 0.5 or 3 s"),
}
