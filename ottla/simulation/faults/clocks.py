"""Faults of wall clocks. Time that passes is the same for everybody, as with a monotonic clock."""

from __future__ import annotations

from ottla.simulation.faults.kind import Kind, Scene, Undo


def _clock(scene: Scene) -> Undo | None:
    node = scene.victim_node()
    node.clock_offset_ms += scene.rng.choice((-3_600_000, -1_000, 1_000, 3_600_000))

    def undo() -> None:
        node.clock_offset_ms = 0

    return undo


KINDS: dict[str, Kind] = {
    "clock": Kind(_clock, "a node's wall clock jumps by a second or an hour, forwards or back"),
}
