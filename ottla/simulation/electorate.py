"""Who votes in a simulated cluster, and which changes it is sure to get over: that much a nemesis has to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.simulation.cluster import SimulatedCluster


# Virtual seconds after which a request is done or never will be: longer than any fault lasts, and than a client waits.
_UNDER_WAY_S = 20.0


class Electorate:
    """What was asked for of the voters, and what follows from the worst that may come of it.

    `removing` and `adding` count by node the requests that may be done yet, or once more: they may be on their way for
    as long as a node stands still. `leaving` are nodes that are about to go for good; they are not to be made voters.
    """

    def __init__(self, cluster: SimulatedCluster, founders: frozenset[int]) -> None:
        self._cluster = cluster
        self.founders = founders
        self.removing: Counter[int] = Counter()
        self.adding: Counter[int] = Counter()
        self.leaving: set[int] = set()

    def asked_to_remove(self, node_id: int) -> None:
        self._count(self.removing, node_id)

    def asked_to_add(self, node_id: int) -> Callable[[], None]:
        """To be called when that was answered: it can only be done once more while the node is there."""
        return self._count(self.adding, node_id)

    def _count(self, requests: Counter[int], node_id: int) -> Callable[[], None]:
        requests[node_id] += 1

        def forget() -> None:
            requests[node_id] -= not timer.cancelled()
            timer.cancel()

        timer = self._cluster.world.loop.call_later(_UNDER_WAY_S, forget)
        return forget

    @property
    def committed(self) -> frozenset[int]:
        """The newest voters that any node knows to be committed."""
        found = self._cluster.invariants.raft.voters
        return self.founders if found is None else found.ids

    def sets(self) -> list[frozenset[int]]:
        """These, and those that some node has in its log behind them, also one that is down."""
        raft = self._cluster.invariants.raft
        return [self.committed, *raft.voters_behind()]

    def survives(self, *, removed: int | None = None, lost: int | None = None) -> bool:
        """Whether enough voters that nothing was taken from are left for sure, if this one is removed, and that one's
        disk is lost (a node whose disk may be lost already counts as lost in any case).

        One that is left is a majority of one. A voter that lost its disk is readmitted by a majority without it, for
        which it takes two others.
        """
        fragile = [node.id for node in self._cluster.nodes.values() if node.fragile]
        weak = {*fragile, *(() if lost is None else (lost,))}
        away = {*weak, *(node for node, count in self.removing.items() if count), removed}
        return all(len(voters - away) >= (2 if weak else 1) for voters in self.sets())

    def is_out(self, node_id: int) -> bool:
        """Whether this node is no voter, and cannot become one by what was asked for up to now."""
        return not self.adding[node_id] and all(node_id not in voters for voters in self.sets())

    def is_settled(self) -> bool:
        """Whether every node goes by the voters that are committed."""
        running = [node.node for node in self._cluster.nodes.values()]
        cores = [node.quorum.driver.core for node in running if node is not None and node.quorum is not None]
        return len(cores) == len(running) and all(core.voters == self.committed for core in cores)
