"""Faults of wall clocks. Time that passes is the same for everybody, as with a monotonic clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ottla.simulation.faults.kind import Kind, Scene, Undo
from ottla.simulation.node import SimulatedNode

_JUMPS_MS = (-3_600_000, -1_000, 1_000, 3_600_000)
_STROBE_S = 0.2


def _clock(scene: Scene) -> Undo | None:
    node = scene.victim_node()
    node.clock_offset_ms += scene.rng.choice(_JUMPS_MS)
    return lambda: _set([node])


def _all_clocks(scene: Scene) -> Undo | None:
    nodes = list(scene.cluster.nodes.values())
    jump = scene.rng.choice(_JUMPS_MS)
    for node in nodes:
        node.clock_offset_ms += jump
    return lambda: _set(nodes)


def _strobe(scene: Scene) -> Undo | None:
    node, jump = scene.victim_node(), scene.rng.choice(_JUMPS_MS)
    return _again_and_again(node, lambda: 0 if node.clock_offset_ms else jump)


def _skew(scene: Scene) -> Undo | None:
    node, step = scene.victim_node(), round(_STROBE_S * 1000 * scene.rng.choice((-0.9, -0.1, 0.1, 5.0)))
    return _again_and_again(node, lambda: node.clock_offset_ms + step)


def _again_and_again(node: SimulatedNode, offset: Callable[[], int]) -> Undo:
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def turn() -> None:
        nonlocal timer
        node.clock_offset_ms = offset()
        timer = loop.call_later(_STROBE_S, turn)

    def undo() -> None:
        timer.cancel()
        _set([node])

    turn()
    return undo


def _set(nodes: Sequence[SimulatedNode]) -> None:
    for node in nodes:
        node.clock_offset_ms = 0


KINDS: dict[str, Kind] = {
    "clock": Kind(_clock, "a node's wall clock jumps by a second or an hour, forwards or back"),
    "all clocks": Kind(_all_clocks, "every node's wall clock jumps by as much"),
    "strobe": Kind(_strobe, "a node's wall clock jumps to and fro, five times a second"),
    "skew": Kind(_skew, "a node's wall clock runs at a tenth, 0.9, 1.1 or six times the speed"),
}
