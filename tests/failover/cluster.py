"""A real three-node cluster for the failover tests: what a test does to it, and what each node says of itself.

Nodes are asked one by one over a raw connection, because after a fault it matters *which* node believes something; the
client library would hide that.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from ottla.client import Admin, NewTopic, TopicPartition
from ottla.cluster import NodeState, Supervisor
from ottla.wire import ConnectionLost, KafkaConnection, ProtocolError, RequestTimedOut

T = TypeVar("T")

NODES = (1, 2, 3)
SETTINGS: Mapping[str, str | int | bool] = {
    "broker.session.timeout.ms": 1500,
    "broker.heartbeat.interval.ms": 300,
    "replica.lag.time.max.ms": 2000,
    "replica.high.watermark.checkpoint.interval.ms": 500,
    "auto.create.topics.enable": False,
    "group.initial.rebalance.delay.ms": 200,
    "group.consumer.min.heartbeat.interval.ms": 500,
    "group.consumer.heartbeat.interval.ms": 500,
    # Tests decide who leads.
    "auto.leader.rebalance.enable": False,
}
PATIENCE_S = 20.0
UNREACHABLE = (ConnectionLost, RequestTimedOut, ProtocolError)

_METADATA, _METADATA_VERSION = 3, 12
_QUORUM, _QUORUM_VERSION = 55, 1
_LATEST = -1


async def eventually(
    probe: Callable[[], Awaitable[T | None]], what: str, *, within: float = PATIENCE_S, interval: float = 0.03
) -> T:
    """Ask until `probe` gives something else than None (or False); fails the test when the time is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        found = await probe()
        if found is not None and found is not False:
            return found
        if loop.time() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}")
        await asyncio.sleep(interval)


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One partition as one node describes it; `leader` is -1 where it knows of none."""

    leader: int
    leader_epoch: int
    isr: frozenset[int]
    replicas: frozenset[int]


@dataclass(frozen=True, slots=True)
class TopicView:
    """One topic as one node describes it."""

    topic_id: UUID
    partitions: tuple[PartitionView, ...]


class Cluster:
    """Three processes. Every method that changes a node returns when the change has taken place."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.layout = supervisor.layout

    # Faults

    async def kill(self, *nodes: int) -> None:
        """SIGKILL to all of them before any of them is waited for."""
        for node in nodes:
            self.supervisor.node(node).kill()
        for node in nodes:
            await self.supervisor.node(node).gone()

    async def stop(self, *nodes: int) -> None:
        """SIGTERM to all of them, until they have ended by themselves."""
        await asyncio.gather(*(self.supervisor.node(node).stop() for node in nodes))

    async def start(self, *nodes: int) -> None:
        """All at the same time, until every one is ready."""
        await asyncio.gather(*(self.supervisor.node(node).start() for node in nodes))

    def pause(self, node: int) -> None:
        self.supervisor.node(node).pause()

    def resume(self, node: int) -> None:
        self.supervisor.node(node).resume()

    def wipe(self, node: int) -> None:
        """Remove the data directory of a node that is down."""
        assert self.supervisor.node(node).state is NodeState.DOWN
        shutil.rmtree(self.data(node))

    async def restore(self) -> None:
        """Whatever a test left behind: every node runs."""
        for process in self.supervisor.nodes.values():
            if process.state is NodeState.PAUSED:
                process.resume()
            elif process.state is NodeState.STARTING:
                process.kill()
                await process.gone()
        await self.start(*NODES)

    # What there is

    def data(self, node: int) -> Path:
        return self.layout.node(node).data_directory

    def address(self, node: int) -> tuple[str, int]:
        host, _, port = self.layout.node(node).kafka.rpartition(":")
        return host, int(port)

    def bootstrap(self, nodes: Iterable[int] = NODES) -> str:
        return ",".join(self.layout.node(node).kafka for node in nodes)

    def running(self) -> list[int]:
        return [node for node, process in self.supervisor.nodes.items() if process.state is NodeState.READY]

    def events(self, node: int, name: str) -> list[dict[str, Any]]:
        """What a node has logged under this name since the cluster was made."""
        path = self.layout.node(node).log_file
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        told = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in told if event.get("event") == name]

    async def ask(self, node: int, api_key: int, version: int, values: Mapping[str, Any]) -> Any:
        """One request to one node over a connection of its own; None when the node cannot be reached."""
        try:
            connection = await KafkaConnection.open(*self.address(node), timeout=2.0)
            try:
                return await connection.call(api_key, version, values)
            finally:
                connection.abort()
        except UNREACHABLE:
            return None

    async def view(self, node: int, topic: str) -> TopicView | None:
        """What `node` knows of the topic; None when it knows nothing or cannot be reached."""
        answer = await self.ask(node, _METADATA, _METADATA_VERSION, {"topics": [{"name": topic}]})
        if answer is None or answer.topics[0].error_code != 0:
            return None
        found = answer.topics[0]
        rows = sorted(found.partitions, key=lambda row: row.partition_index)
        return TopicView(
            found.topic_id,
            tuple(
                PartitionView(row.leader_id, row.leader_epoch, frozenset(row.isr_nodes), frozenset(row.replica_nodes))
                for row in rows
            ),
        )

    async def views(self, topic: str, nodes: Iterable[int] | None = None) -> list[TopicView | None]:
        """What each of the nodes (by default: those that run) knows."""
        asked = self.running() if nodes is None else nodes
        return list(await asyncio.gather(*(self.view(node, topic) for node in asked)))

    async def active_controller(self, among: Iterable[int] | None = None) -> int:
        """The node that leads the metadata quorum and says so itself."""
        asked = list(self.running() if among is None else among)
        body = {"topics": [{"topic_name": "__cluster_metadata", "partitions": [{"partition_index": 0}]}]}

        async def probe() -> int | None:
            for node in asked:
                answer = await self.ask(node, _QUORUM, _QUORUM_VERSION, body)
                if answer is not None and answer.topics[0].partitions[0].error_code == 0:
                    return node
            return None

        return await eventually(probe, f"an active controller among {asked}")

    # Topics

    async def create(
        self, topic: str, partitions: int = 1, *, leaders: Iterable[int] | None = None, **configs: str
    ) -> None:
        """A topic with three replicas of each partition, led by `leaders` in turn if given; every node knows it."""
        names = {name.replace("_", "."): value for name, value in configs.items()}
        assignments = {
            index: (leader, *(node for node in NODES if node != leader)) for index, leader in enumerate(leaders or ())
        }
        new = (
            NewTopic(topic, replica_assignments=assignments, topic_configs=names)
            if assignments
            else NewTopic(topic, partitions, len(NODES), topic_configs=names)
        )
        async with Admin(bootstrap_servers=self.bootstrap(self.running())) as admin:
            await admin.create_topics([new])

        async def probe() -> bool:
            return all(view is not None for view in await self.views(topic))

        await eventually(probe, f"every node knows {topic}")

    async def delete(self, topic: str) -> None:
        async with Admin(bootstrap_servers=self.bootstrap(self.running())) as admin:
            await admin.delete_topics([topic])

    async def led(self, topic: str, among: Iterable[int] | None = None, *, within: float = PATIENCE_S) -> TopicView:
        """The topic once every partition has a leader in the eyes of all of `among`, and they agree."""
        asked = list(self.running() if among is None else among)

        async def probe() -> TopicView | None:
            views = await self.views(topic, asked)
            first = views[0]
            if first is None or any(view != first for view in views):
                return None
            return first if all(part.leader >= 0 for part in first.partitions) else None

        return await eventually(probe, f"{asked} agree on leaders of {topic}", within=within)

    async def leader(self, topic: str, partition: int = 0, among: Iterable[int] | None = None) -> int:
        return (await self.led(topic, among)).partitions[partition].leader

    async def replaced(self, topic: str, old: int, partition: int = 0) -> int:
        """The new leader, once all other running nodes know one that is not `old`."""
        others = [node for node in self.running() if node != old]

        async def probe() -> int | None:
            views = await self.views(topic, others)
            leaders = {-1 if view is None else view.partitions[partition].leader for view in views}
            (leader,) = leaders if len(leaders) == 1 else (-1,)
            return leader if leader not in (-1, old) else None

        return await eventually(probe, f"another leader than {old} of {topic}-{partition}")

    async def in_sync(self, topic: str) -> TopicView:
        """The topic once every replica of it is in its ISR, in the eyes of all running nodes."""

        async def probe() -> TopicView | None:
            views = await self.views(topic)
            first = views[0]
            if first is None or any(view != first for view in views):
                return None
            return first if all(part.leader >= 0 and part.isr == part.replicas for part in first.partitions) else None

        return await eventually(probe, f"every ISR of {topic} is full")

    async def high_watermarks(self, topic: str, partitions: int) -> list[int]:
        """What the leaders say; waits for leaders that have not settled yet."""
        wanted = [TopicPartition(topic, index) for index in range(partitions)]
        async with Admin(bootstrap_servers=self.bootstrap(self.running())) as admin:
            found = await admin.list_offsets(dict.fromkeys(wanted, _LATEST))
        return [found[each].offset for each in wanted]
