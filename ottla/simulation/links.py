"""What a test can do to the network of a cluster: cuts, delays, refusals, and single messages held on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ottla.simulation.hold import Hold
from ottla.simulation.link import Harm, Link
from ottla.simulation.messages import Message, Plane
from ottla.simulation.network import Undo
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
    the clients, but for `isolate` with `clients=True`, `refuse_clients` and `hold`. What is done adds up, and what is
    returned takes back that alone, if `heal` or `recover` has not done so already.
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

    def _harm(self, links: Iterable[Link], harm: Harm) -> Undo:
        return self.world.network.harm(links, harm)

    # -- cuts

    def partition(self, *sides: Iterable[int]) -> Undo:
        """Cut every link between nodes of different sides, in both directions. Clients reach all of them."""
        groups = [list(side) for side in sides]
        self._tell("partition", sides=groups)
        return self._cut([(one, other) for one in groups for other in groups if one is not other])

    def cut(self, sources: Iterable[int], targets: Iterable[int]) -> Undo:
        """Silently drop everything from `sources` to `targets`; the other direction goes on."""
        return self._cut([(list(sources), list(targets))])

    def _cut(self, directions: Iterable[tuple[list[int], list[int]]], more: Iterable[Link] = ()) -> Undo:
        links = list(more)
        for sources, targets in directions:
            self._tell("cut", sources=sources, targets=targets)
            links += self._links(sources, targets)
        return self._harm(links, Harm(cut=True))

    def isolate(self, who: int | Role, *, clients: bool = False) -> int:
        """Cut one node off from all others, and from the clients too if so wished. Returns whom it was."""
        node = self.the(who)
        self.cut_off(node.id, clients=clients)
        return node.id

    def cut_off(self, node_id: int, *, clients: bool = False) -> Undo:
        """`isolate`, when it is known whom."""
        others = [other for other in self.nodes if other != node_id]
        home, machine, network = self.world.home, self.nodes[node_id].machine, self.world.network
        with_clients = [network.link(home, machine), network.link(machine, home)] if clients else []
        return self._cut([([node_id], others), (others, [node_id])], with_clients)

    def cut_controller(self, who: int | Role) -> int:
        """Cut one node off from the controller listeners of all others, and them from its own. Replication goes on.
        Returns whom it was."""
        node = self.the(who)
        self.cut_off_controller(node.id)
        return node.id

    def cut_off_controller(self, node_id: int) -> Undo:
        """`cut_controller`, when it is known whom."""
        self._tell("cut from controllers", node=node_id)
        others = [other for other in self.nodes if other != node_id]
        links = self._links([node_id], others) + self._links(others, [node_id])
        return self.world.network.cut(links, CONTROLLER_PORT)

    def majority_ring(self) -> Undo:
        """Every node reaches a majority, and no two the same one: of five nodes, the one on either side of it."""
        ring = list(self.nodes)
        reach = (len(ring) // 2 + 1) // 2
        self._tell("majority ring")
        directions = []
        for at, node_id in enumerate(ring):
            near = {ring[(at + step) % len(ring)] for step in range(-reach, reach + 1)}
            directions.append(([node_id], [other for other in ring if other not in near]))
        return self._cut(directions)

    def flap(self, sources: Nodes = None, targets: Nodes = None, *, period: float = 1.0) -> Undo:
        """Cut these links for `period` seconds, then let them carry for as long, and so on, until what this returns is
        called. `heal` alone does not end it."""
        links = self._links(sources, targets)
        network = self.world.network
        self._tell("flapping", links=len(links), period=period)

        async def flapping() -> None:
            while True:
                undo = network.cut(links)
                try:
                    await asyncio.sleep(period)
                finally:
                    undo()
                await asyncio.sleep(period)

        task = asyncio.get_running_loop().create_task(flapping(), name="flapping links")

        def stop() -> None:
            task.cancel()

        return stop

    def heal(self) -> None:
        """Every link carries everything again, also those of the clients. How fast is left as it is; see `recover`."""
        self._tell("heal")
        machines = [*self._machines(None), self.world.home]
        network = self.world.network
        network.heal(network.links(machines, machines), lambda harm: harm.stops)

    # -- how well they carry

    def delay(
        self,
        seconds: float,
        sources: Nodes = None,
        targets: Nodes = None,
        *,
        jitter: float = 0.0,
        loss: float = 0.0,
    ) -> Undo:
        """Everything takes `seconds` to `seconds + jitter` from now on; `loss` is the share of segments that TCP has to
        repeat, which makes them late."""
        self._tell("delay", seconds=seconds, jitter=jitter, loss=loss)
        return self._harm(self._links(sources, targets), Harm(latency=(seconds, seconds + jitter), loss=loss))

    def bandwidth(self, bytes_per_second: float, sources: Nodes = None, targets: Nodes = None) -> Undo:
        """What is sent waits until what was sent before on this link has left."""
        self._tell("bandwidth", bytes_per_second=bytes_per_second)
        return self._harm(self._links(sources, targets), Harm(bandwidth=bytes_per_second))

    def resets(self, share: float, sources: Nodes = None, targets: Nodes = None) -> Undo:
        """Every second each connection is reset with this probability, for both ends."""
        self._tell("resets", share=share)
        return self._harm(self._links(sources, targets), Harm(resets=share))

    def recover(self) -> None:
        """No delays, losses, resets and limits of bandwidth any more."""
        self._tell("recover")
        self.world.network.heal(self._links(None, None), lambda harm: not harm.stops)

    # -- connections

    def reset(self, one: int, other: int) -> None:
        """Break every connection between two nodes."""
        self._tell("reset", one=one, other=other)
        self.world.network.reset(self.nodes[one].machine, self.nodes[other].machine)

    def refuse(self, sources: Iterable[int], targets: Iterable[int]) -> Undo:
        """New connections are refused, as if nobody listened; those that exist go on. Until `heal`."""
        sources, targets = list(sources), list(targets)
        self._tell("refuse", sources=sources, targets=targets)
        return self._harm(self._links(sources, targets), Harm(refused=True))

    def refuse_clients(self, nodes: Iterable[int]) -> Undo:
        """The clients' connections to these nodes break, and new ones are refused, until `heal`."""
        nodes = list(nodes)
        self._tell("refuse clients", nodes=nodes)
        network, home = self.world.network, self.world.home
        machines = self._machines(nodes)
        for machine in machines:
            network.reset(home, machine)
        return self._harm(network.links([home], machines), Harm(refused=True))

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
        interceptor = self.world.network.intercept(PLANES, self._repeat)
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

    def _repeat(self, source: Machine, target: Machine, message: Message) -> None:
        ids = {node.machine: node_id for node_id, node in self.nodes.items()}
        node = self.nodes[ids[target]]
        if not self.world.network.link(source, target).blocked:
            for each in message.raft:
                node.hears(ids[source], each)

    def _end(self, who: int | Role | None) -> Machine | None:
        if who is None:
            return None
        return self.world.home if who == CLIENTS else self.the(who).machine
