"""What a test can do to the network of a cluster: cuts, delays, refusals, and single messages held on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ottla.simulation.hold import Hold
from ottla.simulation.messages import Message, Plane
from ottla.simulation.network import Link
from ottla.simulation.node import CONTROLLER_PORT, KAFKA_PORT, SimulatedNode
from ottla.simulation.process import Machine
from ottla.simulation.world import World

if TYPE_CHECKING:
    from ottla.simulation.cluster import Role

PLANES: dict[int, Plane] = {KAFKA_PORT: "kafka", CONTROLLER_PORT: "controller"}
Nodes = Iterable[int] | None
CLIENTS = 0
"""In place of a node's id, where a message may come from or go to: the machine that all clients are on."""


class Links:
    """The part of a SimulatedCluster that is about the network.

    A link is one direction between two machines, and carries everything between them: clients, replication, and the
    controllers' RPC. Where `sources` and `targets` may be None, that means all nodes. Nothing here touches the links of
    the clients, but for `isolate` with `clients=True`, `refuse_clients` and `hold`.
    """

    world: World
    nodes: dict[int, SimulatedNode]

    def the(self, who: int | Role) -> SimulatedNode:
        raise NotImplementedError

    def _machines(self, nodes: Nodes) -> list[Machine]:
        return [self.nodes[node_id].machine for node_id in (self.nodes if nodes is None else nodes)]

    def _links(self, sources: Nodes, targets: Nodes) -> list[Link]:
        return self.world.network.links(self._machines(sources), self._machines(targets))

    def _tell(self, event: str, **fields: object) -> None:
        self.world.trace.note("simulation", event, **fields)

    # -- cuts

    def partition(self, *sides: Iterable[int]) -> None:
        """Cut every link between nodes of different sides, in both directions. Clients reach all of them."""
        groups = [list(side) for side in sides]
        self._tell("partition", sides=groups)
        for one in groups:
            for other in groups:
                if one is not other:
                    self.cut(one, other)

    def cut(self, sources: Iterable[int], targets: Iterable[int]) -> None:
        """Silently drop everything from `sources` to `targets`; the other direction goes on."""
        sources, targets = list(sources), list(targets)
        self._tell("cut", sources=sources, targets=targets)
        self.world.network.cut(self._links(sources, targets))

    def isolate(self, who: int | Role, *, clients: bool = False) -> int:
        """Cut one node off from all others, and from the clients too if so wished."""
        node = self.the(who)
        self.partition([node.id], [other for other in self.nodes if other != node.id])
        if clients:
            network, home = self.world.network, self.world.home
            network.cut([network.link(home, node.machine), network.link(node.machine, home)])
        return node.id

    def cut_controller(self, who: int | Role) -> int:
        """Cut one node off from the controller listeners of all others, and them from its own. Replication goes on."""
        node = self.the(who)
        self._tell("cut from controllers", node=node.id)
        others = [other for other in self.nodes if other != node.id]
        self.world.network.cut(self._links([node.id], others) + self._links(others, [node.id]), CONTROLLER_PORT)
        return node.id

    def majority_ring(self) -> None:
        """Every node reaches a majority, and no two the same one: of five nodes, the one on either side of it."""
        ring = list(self.nodes)
        reach = (len(ring) // 2 + 1) // 2
        self._tell("majority ring")
        for at, node_id in enumerate(ring):
            near = {ring[(at + step) % len(ring)] for step in range(-reach, reach + 1)}
            self.cut([node_id], [other for other in ring if other not in near])

    def flap(self, sources: Nodes = None, targets: Nodes = None, *, period: float = 1.0) -> Callable[[], None]:
        """Cut these links for `period` seconds, then let them carry for as long, and so on, until what this returns is
        called. `heal` alone does not end it."""
        links = self._links(sources, targets)
        network = self.world.network
        self._tell("flapping", links=len(links), period=period)

        async def flapping() -> None:
            try:
                while True:
                    network.cut(links)
                    await asyncio.sleep(period)
                    network.heal(links)
                    await asyncio.sleep(period)
            finally:
                network.heal(links)

        task = asyncio.get_running_loop().create_task(flapping(), name="flapping links")

        def stop() -> None:
            # A task that was cancelled before it began never gets to its `finally`.
            task.cancel()
            network.heal(links)

        return stop

    def heal(self) -> None:
        """Every link carries everything again, also those of the clients. How fast is left as it is; see `recover`."""
        self._tell("heal")
        machines = [*self._machines(None), self.world.home]
        self.world.network.heal(self.world.network.links(machines, machines))

    # -- how well they carry

    def delay(
        self,
        seconds: float,
        sources: Nodes = None,
        targets: Nodes = None,
        *,
        jitter: float = 0.0,
        loss: float = 0.0,
    ) -> None:
        """Everything takes `seconds` to `seconds + jitter` from now on; `loss` is the share of segments that TCP has to
        repeat, which makes them late."""
        self._tell("delay", seconds=seconds, jitter=jitter, loss=loss)
        for link in self._links(sources, targets):
            link.latency, link.loss = (seconds, seconds + jitter), loss

    def bandwidth(self, bytes_per_second: float, sources: Nodes = None, targets: Nodes = None) -> None:
        """What is sent waits until what was sent before on this link has left."""
        self._tell("bandwidth", bytes_per_second=bytes_per_second)
        for link in self._links(sources, targets):
            link.bandwidth = bytes_per_second

    def resets(self, share: float, sources: Nodes = None, targets: Nodes = None) -> None:
        """Every second each connection is reset with this probability, for both ends."""
        self._tell("resets", share=share)
        self.world.network.reset_some(self._links(sources, targets), share)

    def recover(self) -> None:
        """No delays, losses, resets and limits of bandwidth any more."""
        self._tell("recover")
        for link in self._links(None, None):
            link.recover()

    # -- connections

    def reset(self, one: int, other: int) -> None:
        """Break every connection between two nodes."""
        self._tell("reset", one=one, other=other)
        self.world.network.reset(self.nodes[one].machine, self.nodes[other].machine)

    def refuse(self, sources: Iterable[int], targets: Iterable[int]) -> None:
        """New connections are refused, as if nobody listened; those that exist go on. Until `heal`."""
        sources, targets = list(sources), list(targets)
        self._tell("refuse", sources=sources, targets=targets)
        for link in self._links(sources, targets):
            link.refused = True

    def refuse_clients(self, nodes: Iterable[int]) -> None:
        """The clients' connections to these nodes break, and new ones are refused, until `heal`."""
        nodes = list(nodes)
        self._tell("refuse clients", nodes=nodes)
        network, home = self.world.network, self.world.home
        for machine in self._machines(nodes):
            network.link(home, machine).refused = True
            network.reset(home, machine)

    # -- messages

    def hold(
        self,
        name: str | None = None,
        *,
        source: int | Role | None = None,
        target: int | Role | None = None,
        response: bool = False,
        plane: Plane | None = None,
        count: int | None = 1,
        where: Callable[[Message], bool] | None = None,
    ) -> Hold:
        """Hold the next message that fits on its way, with all that comes behind it on the same connection.

            held = cluster.hold("AlterPartition", source=leader_of("orders"))
            await held.caught()
            ...
            held.release()  # or held.drop(), await held.deliver_again()

        `name` is that of a Kafka API (Produce, Fetch, ...), of a request to the controller (AlterPartition, Heartbeat,
        RegisterBroker, ...) or of a Raft message (AppendEntries, Vote, PreVote, Snapshot, AppendEntriesResponse, ...);
        None is any. With `response`, the answer to such a request, whose source is who was asked. `source` and `target`
        are nodes or CLIENTS; `plane` tells a group's Heartbeat ("kafka") from a broker's ("controller"). `where` is
        asked last. `count` messages are caught, each on another connection; None: every one. What was sent before the
        call is not caught, nor is the answer to a request from before the first hold of a cluster.
        """
        interceptor = self.world.network.intercept(PLANES)
        self._tell("hold", name=name)
        return interceptor.add(
            Hold(
                interceptor,
                name,
                source=self._end(source),
                target=self._end(target),
                response=response,
                plane=plane,
                count=count,
                where=where,
            )
        )

    def _end(self, who: int | Role | None) -> Machine | None:
        if who is None:
            return None
        return self.world.home if who == CLIENTS else self.the(who).machine
