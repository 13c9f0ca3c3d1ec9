"""A cluster of real nodes in a simulated world, with faults chosen by role."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from ottla.broker import Partition
from ottla.client import Admin, Consumer, NewTopic, Producer
from ottla.cluster.traffic import Traffic
from ottla.simulation.disks import DiskFaults
from ottla.simulation.electorate import Electorate
from ottla.simulation.errors import SimulationError
from ottla.simulation.invariants import Invariants
from ottla.simulation.links import Links
from ottla.simulation.node import CONTROLLER_PORT, KAFKA_PORT, SimulatedNode
from ottla.simulation.world import World, current_world

Role = Callable[["SimulatedCluster"], int]
"""Something that names a node at the moment of a fault. Raises SimulationError when nobody has the role."""

_POLL_S = 0.02
DEFAULTS = {
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "replica.lag.time.max.ms": "5000",
    "auto.create.topics.enable": "false",
    "controlled.shutdown.enable": "true",
}


def leader_of(topic: str, partition: int = 0) -> Role:
    """The leader of a partition, in the eyes of most of the nodes that are alive."""
    return lambda cluster: cluster.leader(topic, partition)


def follower_of(topic: str, partition: int = 0) -> Role:
    """The lowest replica of a partition that is alive and does not lead it."""

    def choose(cluster: SimulatedCluster) -> int:
        leader = cluster.leader(topic, partition)
        for node_id in cluster.nodes:
            if node_id != leader and cluster.partition_on(node_id, topic, partition) is not None:
                return node_id
        raise SimulationError(f"{topic}-{partition} has no follower")

    return choose


def controller(cluster: SimulatedCluster) -> int:
    """The active controller with the highest term."""
    return cluster.controller()


class SimulatedCluster(Links, DiskFaults):
    """Nodes 1 to `nodes`, each a broker and a controller, as an async context manager inside of a simulation. Brokers
    may be added while it runs.

    A `seed` given here counts instead of the world's, as long as nothing was drawn from that; `settings` are given to
    every node, by Kafka's names; with `racks` the first `nodes_per_rack` nodes stand in `rack-1`, and so on;
    `world` is the running one if not said otherwise. Times are virtual seconds. Raises SimulationError outside of a
    simulation, or when it is too late for a seed.

    `invariants` are looked after at every step, and end the simulation with an Anomaly when one is broken.
    """

    def __init__(
        self,
        *,
        seed: int | str | None = None,
        nodes: int = 3,
        settings: Mapping[str, str] | None = None,
        racks: bool = False,
        nodes_per_rack: int = 1,
        world: World | None = None,
    ) -> None:
        self.world: World = world if world is not None else current_world()
        if seed is not None:
            self.world.reseed(seed)
        voters = ",".join(f"{node_id}@10.0.0.{node_id}:{CONTROLLER_PORT}" for node_id in range(1, nodes + 1))
        replicas = min(3, nodes)
        self._common = {
            "cluster.id": "simulated-cluster",
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "ottla.cluster.secret": "a secret of the simulation",
            "log.dirs": "/data",
            "default.replication.factor": str(replicas),
            "min.insync.replicas": str(max(1, replicas - 1)),
            **DEFAULTS,
            **(settings or {}),
        }
        self._nodes_per_rack = nodes_per_rack
        self.racks = list(dict.fromkeys(map(self.rack_of, range(1, nodes + 1)))) if racks else []
        self.nodes: dict[int, SimulatedNode] = {}
        self.former: list[SimulatedNode] = []
        for node_id in range(1, nodes + 1):
            self.nodes[node_id] = self._make(node_id, "broker,controller")
        self.invariants = Invariants(self)
        self.electorate = Electorate(self, frozenset(self.nodes))

    def _make(self, node_id: int, roles: str) -> SimulatedNode:
        address = f"10.0.0.{node_id}"
        own = {
            "node.id": str(node_id),
            "process.roles": roles,
            "listeners": f"PLAINTEXT://{address}:{KAFKA_PORT},CONTROLLER://{address}:{CONTROLLER_PORT}",
            "advertised.listeners": f"PLAINTEXT://{address}:{KAFKA_PORT}",
        }
        if self.racks:
            own["broker.rack"] = self.rack_of(node_id)
        return SimulatedNode(self.world, node_id, self._common | own)

    def rack_of(self, node_id: int) -> str:
        """Where this node stands, if the cluster has racks."""
        return f"rack-{(node_id - 1) // self._nodes_per_rack + 1}"

    def add_broker(self, *, controller: bool = False) -> int:
        """One more node, started; with the controller role it may be made a voter. Returns its number: one that there
        never was."""
        node_id = max(node.id for node in (*self.nodes.values(), *self.former)) + 1
        self.nodes[node_id] = node = self._make(node_id, "broker,controller" if controller else "broker")
        node.start()
        return node_id

    def forget(self, node_id: int) -> None:
        """This node, which is down, is none of the cluster any more; it is found in `former`."""
        node = self.nodes[node_id]
        if node.alive:
            raise SimulationError(f"node {node_id} is alive")
        self.former.append(self.nodes.pop(node_id))
        self.invariants.left(node_id)

    async def __aenter__(self) -> Self:
        self.invariants.watch()
        for node in self.nodes.values():
            node.start()
        async with asyncio.timeout(30):
            await asyncio.gather(*(node.ready() for node in self.nodes.values()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.invariants.leave()
        for node in self.nodes.values():
            node.kill()

    # -- clients

    @property
    def bootstrap(self) -> str:
        return ",".join(f"{node.machine.address}:{KAFKA_PORT}" for node in self.nodes.values())

    def producer(self, **options: Any) -> Producer:
        """A real producer, not yet started; `options` are its own."""
        return Producer(**self._client("producer") | options)

    def consumer(self, *topics: str, **options: Any) -> Consumer:
        return Consumer(*topics, **self._client("consumer") | options)

    def admin(self, **options: Any) -> Admin:
        return Admin(**self._client("admin") | options)

    def traffic(self, topic: str, partitions: int, *, interval: float = 0.01) -> Traffic:
        return Traffic(self.bootstrap, topic, partitions, interval=interval, rng=self._client("traffic")["rng"])

    def _client(self, kind: str) -> dict[str, Any]:
        self._clients = getattr(self, "_clients", 0) + 1
        return {"bootstrap_servers": self.bootstrap, "rng": self.world.rng(f"{kind} {self._clients}")}

    async def create_topic(self, topic: str, partitions: int = 1, **configs: str) -> None:
        """Create it, and wait until every node that runs knows it."""
        names = {name.replace("_", "."): value for name, value in configs.items()}
        async with self.admin() as admin:
            await admin.create_topics([NewTopic(topic, partitions, min(3, len(self.nodes)), topic_configs=names)])
        await self.until(lambda: self.full(topic), f"every replica of {topic} is in sync", within=30)

    # -- who is who

    def the(self, who: int | Role) -> SimulatedNode:
        return self.nodes[who if isinstance(who, int) else who(self)]

    def partition_on(self, node_id: int, topic: str, partition: int = 0) -> Partition | None:
        """A node's replica of a partition, if it is alive and has one."""
        node = self.nodes[node_id].node
        if node is None or node.broker is None or node.broker.replicas is None:
            return None
        found = node.broker.replicas.partition(topic, partition)
        return found if isinstance(found, Partition) else None

    def leader(self, topic: str, partition: int = 0) -> int:
        """The node that leads in the highest epoch that any living node leads in."""
        leading = []
        for node_id in self.nodes:
            found = self.partition_on(node_id, topic, partition)
            if found is not None and found.is_leader:
                leading.append((found.leader_epoch, node_id))
        if not leading:
            raise SimulationError(f"nobody leads {topic}-{partition}")
        return max(leading)[1]

    def controller(self) -> int:
        leading = []
        for node in self.nodes.values():
            quorum = None if node.node is None else node.node.quorum
            if quorum is not None and quorum.started and quorum.driver.status.leading:
                leading.append((quorum.driver.term, node.id))
        if not leading:
            raise SimulationError("there is no active controller")
        return max(leading)[1]

    def full(self, topic: str) -> bool:
        """Whether all nodes agree that every partition of the topic has a leader and all its replicas in sync."""
        images = []
        for node in self.nodes.values():
            quorum = None if node.node is None else node.node.quorum
            if quorum is None or topic not in quorum.view.image.topics:
                return False
            images.append(quorum.view.image.topics[topic].partitions)
        first = images[0]
        if any(image != first for image in images):
            return False
        return all(state.leader >= 0 and set(state.isr) == set(state.replicas) for state in first.values())

    # -- faults

    def kill(self, who: int | Role) -> int:
        """kill -9. Returns whom it was."""
        node = self.the(who)
        node.kill()
        return node.id

    def power_off(self, who: int | Role) -> int:
        node = self.the(who)
        node.power_off()
        return node.id

    def pause(self, who: int | Role) -> int:
        node = self.the(who)
        node.pause()
        return node.id

    def resume(self, who: int | Role) -> None:
        self.the(who).resume()

    def start(self, who: int) -> None:
        """Start a node that is down, on the disk that it had."""
        self.the(who).start()

    async def stop(self, who: int | Role) -> int:
        node = self.the(who)
        await node.stop()
        return node.id

    # -- time

    async def advance(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def until(self, holds: Callable[[], bool], what: str, *, within: float = 30.0) -> float:
        """Wait until something holds; returns how long that took. Raises TimeoutError with `what`."""
        loop = self.world.loop
        began = loop.time()
        while not holds():
            if loop.time() - began > within:
                raise TimeoutError(f"not within {within:g} s: {what}")
            await asyncio.sleep(_POLL_S)
        return loop.time() - began
