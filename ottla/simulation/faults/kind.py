"""What a kind of fault is, and what it may see and do when it strikes."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.errors import SimulationError
from ottla.simulation.node import SimulatedNode
from ottla.simulation.process import Machine

Undo = Callable[[], None]


class Loses(enum.Enum):
    """What a kind of fault can take away, which decides whether acknowledged records may be in the page cache only."""

    NOTHING = "nothing"
    PROCESSES = "processes, but no page cache"
    ONE_CACHE = "the page cache of one machine, while all others are well"
    CACHES = "the page caches of any number of machines"


@dataclass(frozen=True, slots=True)
class Scene:
    """Where one fault happens. `rng` is that fault's own: what it draws depends on no other fault. `coordinating` are
    further partitions whose leaders decide something."""

    cluster: SimulatedCluster
    topic: str
    partitions: int
    rng: random.Random
    coordinating: Sequence[tuple[str, int]] = ()

    def victim(self) -> int:
        """A node, by role more often than by lot: what is interesting happens where something is decided."""
        lot = self.rng.random()
        partition, anyone = self.rng.randrange(self.partitions), self.rng.choice(list(self.cluster.nodes))
        try:
            if lot < 0.45:
                return self.cluster.leader(self.topic, partition)
            if lot < 0.65:
                return self.cluster.controller()
            if lot < 0.9 and self.coordinating:
                return self.cluster.leader(*self.rng.choice(self.coordinating))
        except SimulationError:
            pass  # nobody has the role now
        return anyone

    def victim_node(self) -> SimulatedNode:
        return self.cluster.nodes[self.victim()]

    def others(self, *but: int) -> list[int]:
        return [node_id for node_id in self.cluster.nodes if node_id not in but]

    def sides(self) -> tuple[list[int], list[int]]:
        """One node, and all others."""
        victim = self.victim()
        return [victim], self.others(victim)

    def machines(self) -> list[Machine]:
        return [node.machine for node in self.cluster.nodes.values()]

    def revive(self, *nodes: int) -> None:
        """Start those that are down, and have not left the cluster."""
        for node_id in nodes:
            node = self.cluster.nodes.get(node_id)
            if node is not None and not node.alive:
                node.start()


@dataclass(frozen=True, slots=True)
class Kind:
    """`do` does the harm and returns what ends it, or None if it could do none now. What ends it takes back that harm
    alone where harms add up (links). Elsewhere it leads to the healthy state and not to what was before: that may be
    the harm of another fault, which ends earlier.

    `doc` is one line for people. `nodes` is the smallest cluster that this kind makes sense in. One that is not
    `usual` is drawn only beside the clients that it is about (`transactions.KINDS`).
    """

    do: Callable[[Scene], Undo | None]
    doc: str
    loses: Loses = Loses.NOTHING
    nodes: int = 1
    usual: bool = True


def nothing() -> None:
    """Ends what has ended by itself."""
