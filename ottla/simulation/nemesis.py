"""Faults in an order, at times and on nodes drawn from the seed. Each seed turns a part of the kinds on (swarm)."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable

from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.errors import SimulationError
from ottla.simulation.process import DISK_DELAY

Undo = Callable[[], None]
Fault = Callable[["Nemesis"], Undo | None]
"""Does its harm and returns what ends it; None if it could do none now."""


class Nemesis:
    """`kinds` are names of `FAULTS`. `done` counts what was done, by kind."""

    def __init__(
        self, cluster: SimulatedCluster, topic: str, partitions: int, kinds: list[str], rng: random.Random
    ) -> None:
        self.cluster = cluster
        self.rng = rng
        self.kinds = kinds
        self.done: Counter[str] = Counter()
        self.topic = topic
        self._partitions = partitions
        self._undo: list[asyncio.TimerHandle] = []
        self._pending: dict[int, Undo] = {}
        self._serial = 0

    async def rage(self, seconds: float) -> None:
        """Do harm for so long, then end all of it: every node runs and every link carries."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (left := until - loop.time()) > 0:
            await asyncio.sleep(min(left, self.rng.choice((0.05, 0.3, 1.0, 3.0)) * self.rng.uniform(0.2, 2.0)))
            kind = self.rng.choice(self.kinds)
            undo = FAULTS[kind](self)
            if undo is not None:
                self.done[kind] += 1
                self._serial += 1
                self._pending[self._serial] = undo
                loop.call_later(self.rng.choice((0.1, 1.0, 5.0)) * self.rng.uniform(0.2, 2.0), self._end, self._serial)
        self.relent()

    def _end(self, serial: int) -> None:
        undo = self._pending.pop(serial, None)
        if undo is not None:
            undo()

    def relent(self) -> None:
        """End every harm."""
        for serial in list(self._pending):
            self._end(serial)
        self.cluster.heal()
        for node in self.cluster.nodes.values():
            node.resume()
            if not node.alive:
                node.start()

    # -- whom

    def victim(self) -> int:
        """By role more often than by lot: what is interesting happens where something is decided."""
        lot = self.rng.random()
        try:
            if lot < 0.45:
                return self.cluster.leader(self.topic, self.rng.randrange(self._partitions))
            if lot < 0.65:
                return self.cluster.controller()
        except SimulationError:
            pass  # nobody has the role now
        return self.rng.choice(list(self.cluster.nodes))

    def revive(self, node_id: int) -> None:
        if not self.cluster.nodes[node_id].alive:
            self.cluster.start(node_id)

    def sides(self) -> tuple[list[int], list[int]]:
        """One node, and all others."""
        victim = self.victim()
        return [victim], [node_id for node_id in self.cluster.nodes if node_id != victim]


def _kill(nemesis: Nemesis) -> Undo | None:
    victim = nemesis.victim()
    if not nemesis.cluster.nodes[victim].alive:
        return None
    nemesis.cluster.kill(victim)
    return lambda: nemesis.revive(victim)


def _kill_all(nemesis: Nemesis) -> Undo | None:
    for node_id in nemesis.cluster.nodes:
        nemesis.cluster.kill(node_id)

    def undo() -> None:
        for node_id in nemesis.cluster.nodes:
            nemesis.revive(node_id)

    return undo


def _power_off(nemesis: Nemesis) -> Undo | None:
    victim = nemesis.victim()
    if not nemesis.cluster.nodes[victim].alive:
        return None
    nemesis.cluster.power_off(victim)
    return lambda: nemesis.revive(victim)


def _lone_power_off(nemesis: Nemesis) -> Undo | None:
    """Never a second machine before what the first lost was copied back: then no flush setting may lose anything, as
    long as nobody is killed meanwhile (a kill cannot be told from a loss of power)."""
    cluster = nemesis.cluster
    if not all(node.is_ready for node in cluster.nodes.values()) or not cluster.full(nemesis.topic):
        return None
    return _power_off(nemesis)


def _power_off_in_mid_write(nemesis: Nemesis) -> Undo | None:
    victim = nemesis.victim()
    if not nemesis.cluster.nodes[victim].alive:
        return None
    node = nemesis.cluster.nodes[victim]
    node.power_off_within(nemesis.rng.choice((1, 5, 30)))

    def undo() -> None:
        node.power_stays()
        nemesis.revive(victim)

    return undo


def _stop(nemesis: Nemesis) -> Undo | None:
    victim = nemesis.victim()
    if not nemesis.cluster.nodes[victim].running:
        return None
    nemesis.cluster.nodes[victim].terminate()
    return lambda: nemesis.revive(victim)


def _pause(nemesis: Nemesis) -> Undo | None:
    victim = nemesis.victim()
    if not nemesis.cluster.nodes[victim].running:
        return None
    nemesis.cluster.pause(victim)
    return lambda: nemesis.cluster.resume(victim)


def _partition(nemesis: Nemesis) -> Undo | None:
    nemesis.cluster.partition(*nemesis.sides())
    return nemesis.cluster.heal


def _isolate(nemesis: Nemesis) -> Undo | None:
    nemesis.cluster.isolate(nemesis.victim(), clients=True)
    return nemesis.cluster.heal


def _one_way(nemesis: Nemesis) -> Undo | None:
    one, others = nemesis.sides()
    if nemesis.rng.random() < 0.5:
        one, others = others, one
    if nemesis.rng.random() < 0.5:
        others = [nemesis.rng.choice(others)]
    nemesis.cluster.cut(one, others)
    return nemesis.cluster.heal


def _reset(nemesis: Nemesis) -> Undo | None:
    (one,), others = nemesis.sides()
    nemesis.cluster.reset(one, nemesis.rng.choice(others))
    return lambda: None


def _slow_links(nemesis: Nemesis) -> Undo | None:
    network = nemesis.cluster.world.network
    machines = [node.machine for node in nemesis.cluster.nodes.values()]
    links = nemesis.rng.sample(network.links(machines, machines), 2)
    for link in links:
        link.latency, link.loss = (0.001, nemesis.rng.choice((0.01, 0.1, 0.5))), nemesis.rng.choice((0.0, 0.2))

    def undo() -> None:
        # Not what was before: that may be the harm of another one, which ends earlier.
        for link in links:
            link.recover()

    return undo


def _slow_disk(nemesis: Nemesis) -> Undo | None:
    machine = nemesis.cluster.nodes[nemesis.victim()].machine
    machine.disk_delay = (0.01, nemesis.rng.choice((0.1, 0.5, 3.0)))

    def undo() -> None:
        machine.disk_delay = DISK_DELAY

    return undo


def _clock(nemesis: Nemesis) -> Undo | None:
    node = nemesis.cluster.nodes[nemesis.victim()]
    node.clock_offset_ms += nemesis.rng.choice((-3_600_000, -1_000, 1_000, 3_600_000))

    def undo() -> None:
        node.clock_offset_ms = 0

    return undo


FAULTS: dict[str, Fault] = {
    "kill": _kill,
    "kill all": _kill_all,
    "stop": _stop,
    "pause": _pause,
    "partition": _partition,
    "isolate": _isolate,
    "one way": _one_way,
    "reset": _reset,
    "slow links": _slow_links,
    "slow disk": _slow_disk,
    "clock": _clock,
    "lone power off": _lone_power_off,
    "power off": _power_off,
    "power off in mid-write": _power_off_in_mid_write,
}
_POWER = frozenset({"power off", "power off in mid-write"})
_KILLS = frozenset({"kill", "kill all"})


def needs_sync(kinds: Iterable[str]) -> bool:
    """Whether only a cluster with flush = synced can take these faults without loss: power fails on any number of
    nodes at once, or on one while others are killed, which their controller cannot tell from the same."""
    chosen = set(kinds)
    return bool(chosen & _POWER) or ("lone power off" in chosen and bool(chosen & _KILLS))
