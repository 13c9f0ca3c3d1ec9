"""Plays a schedule of faults against a cluster, and leaves nothing of it behind."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.faults import FAULTS, Fault, Scene, Undo


class Nemesis:
    """`done` counts the faults that did harm, by kind. Faults find their victims among the leaders of `topic`, too, and
    of the partitions that are `coordinating`."""

    def __init__(
        self,
        cluster: SimulatedCluster,
        topic: str,
        partitions: int,
        coordinating: Sequence[tuple[str, int]] = (),
    ) -> None:
        self.cluster = cluster
        self.done: Counter[str] = Counter()
        self._topic = topic
        self._partitions = partitions
        self._coordinating = coordinating
        self._pending: dict[int, tuple[str, Undo]] = {}

    async def play(self, schedule: Sequence[Fault], seconds: float) -> None:
        """Do harm for so many virtual seconds, then end all of it: every node runs and every link carries."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for fault in sorted(schedule, key=lambda each: each.at):
            if fault.at >= seconds:
                break
            await asyncio.sleep(began + fault.at - loop.time())
            self.strike(fault)
        await asyncio.sleep(began + seconds - loop.time())
        self.relent()

    def strike(self, fault: Fault) -> None:
        """Do this harm now, and end it when its time is over."""
        rng = random.Random(fault.lot)
        scene = Scene(self.cluster, self._topic, self._partitions, rng, self._coordinating)
        self.cluster.world.trace.note("nemesis", fault.kind, lasts=fault.lasts)
        undo = FAULTS[fault.kind].do(scene)
        if undo is None:
            self.cluster.world.trace.note("nemesis", "nothing to harm", kind=fault.kind)
            return
        self.done[fault.kind] += 1
        serial = self.done.total()
        self._pending[serial] = (fault.kind, undo)
        asyncio.get_running_loop().call_later(fault.lasts, self._end, serial)

    def _end(self, serial: int) -> None:
        kind, undo = self._pending.pop(serial, (None, None))
        if undo is not None:
            self.cluster.world.trace.note("nemesis", f"{kind} ends")
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
