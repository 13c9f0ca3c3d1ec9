"""Faults of whole nodes: they die, stop, freeze, or lose their power."""

from __future__ import annotations

from collections.abc import Callable

from ottla.simulation.faults.kind import Kind, Loses, Scene, Undo
from ottla.simulation.node import SimulatedNode


def _kill(scene: Scene) -> Undo | None:
    victim = scene.victim()
    if not scene.cluster.nodes[victim].alive:
        return None
    scene.cluster.kill(victim)
    return lambda: scene.revive(victim)


def _kill_all(scene: Scene) -> Undo | None:
    for node_id in scene.cluster.nodes:
        scene.cluster.kill(node_id)
    return lambda: scene.revive(*scene.cluster.nodes)


def _stop(scene: Scene) -> Undo | None:
    node = scene.victim_node()
    if not node.running:
        return None
    node.terminate()
    return lambda: scene.revive(node.id)


def _pause(scene: Scene) -> Undo | None:
    node = scene.victim_node()
    if not node.running:
        return None
    node.pause()
    return node.resume


def _power_off(scene: Scene) -> Undo | None:
    victim = scene.victim()
    if not scene.cluster.nodes[victim].alive:
        return None
    scene.cluster.power_off(victim)
    return lambda: scene.revive(victim)


def _lone_power_off(scene: Scene) -> Undo | None:
    # Then no flush setting may lose anything, as long as nobody is killed meanwhile.
    if not all(node.is_ready for node in scene.cluster.nodes.values()) or not scene.cluster.full(scene.topic):
        return None
    return _power_off(scene)


def _power_off_in_mid_write(scene: Scene) -> Undo | None:
    return _in_mid_write(scene, SimulatedNode.power_off_within)


def _kill_in_mid_write(scene: Scene) -> Undo | None:
    return _in_mid_write(scene, SimulatedNode.kill_within)


def _in_mid_write(scene: Scene, ends_within: Callable[[SimulatedNode, int], None]) -> Undo | None:
    node = scene.victim_node()
    if not node.alive:
        return None
    ends_within(node, scene.rng.choice((1, 5, 30)))

    def undo() -> None:
        node.lives_on()
        scene.revive(node.id)

    return undo


KINDS: dict[str, Kind] = {
    "kill": Kind(_kill, "kill -9 of one node; its page cache stays", Loses.PROCESSES),
    "kill in mid-write": Kind(
        _kill_in_mid_write, "the same, in the middle of one of its next disk operations", Loses.PROCESSES
    ),
    "kill all": Kind(_kill_all, "kill -9 of every node at once", Loses.PROCESSES),
    "stop": Kind(_stop, "a node is asked to stop, as by SIGTERM, and started again later"),
    "pause": Kind(_pause, "a node freezes, as by SIGSTOP; its kernel goes on taking connections and data"),
    "lone power off": Kind(
        _lone_power_off,
        "one machine loses its power, and never another one before what it lost was copied back",
        Loses.ONE_CACHE,
    ),
    "power off": Kind(_power_off, "a machine loses its power: any subset of what was not synced is gone", Loses.CACHES),
    "power off in mid-write": Kind(
        _power_off_in_mid_write, "the same, in the middle of one of its next disk operations", Loses.CACHES
    ),
}
