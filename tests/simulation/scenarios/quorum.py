"""What the scenarios about the controllers' Raft share. Topics stand for its entries: each is one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ottla.client import NewTopic
from ottla.simulation import SimulatedCluster, SimulationError, run
from tests.simulation.scenarios.stage import Broken

T = TypeVar("T")


class Voters:
    """Three nodes that vote, of which `leader` leads. `made` are topics of which a client knows that they are there."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.cluster = cluster
        self.made: list[str] = []

    @property
    def leader(self) -> int:
        return self.cluster.controller()

    def followers(self) -> list[int]:
        return [node_id for node_id in self.cluster.nodes if node_id != self.leader]

    def quorum(self, node_id: int) -> Any:
        node = self.cluster.nodes[node_id].node
        if node is None or node.quorum is None or not node.quorum.started:
            raise SimulationError(f"node {node_id} is not there")
        return node.quorum

    def runs(self, node_id: int) -> bool:
        node = self.cluster.nodes[node_id].node
        return node is not None and node.quorum is not None and node.quorum.started

    def core(self, node_id: int) -> Any:
        return self.quorum(node_id).driver.core

    def topics(self, node_id: int) -> list[str]:
        return sorted(self.quorum(node_id).view.image.topics)

    async def create(self, topic: str, *, within: float = 20.0) -> None:
        async with asyncio.timeout(within), self.cluster.admin() as admin:
            await admin.create_topics([NewTopic(topic, 1, 1)])
        self.made.append(topic)

    async def led_by_another(self, before: int, *, within: float = 20.0) -> int:
        def changed() -> bool:
            try:
                return self.leader != before
            except SimulationError:
                return False

        await self.cluster.until(changed, f"node {before} is replaced as controller", within=within)
        return self.leader

    async def ends_well(self) -> None:
        cluster = self.cluster
        cluster.heal()
        for node in cluster.nodes.values():
            node.resume()
            if not node.alive:
                node.start()
        for node in cluster.nodes.values():
            await node.ready()
        await self.create("the-end")

        def known() -> bool:
            return all("the-end" in self.topics(node_id) for node_id in cluster.nodes)

        await cluster.until(known, "everybody knows the last topic", within=20)
        for node_id in cluster.nodes:
            missing = set(self.made).difference(self.topics(node_id))
            if missing:
                raise Broken(f"node {node_id} does not know {sorted(missing)}")


def play(
    story: Callable[[Voters], Awaitable[T]], *, seed: int = 1, nodes: int = 3, watched: bool = True, **settings: str
) -> T:
    """Run a story in a new cluster, up to and with `ends_well`. Raises Broken, Anomaly."""

    async def scenario() -> T:
        names = {name.replace("_", "."): value for name, value in settings.items()}
        async with SimulatedCluster(nodes=nodes, settings=names) as cluster:
            if not watched:
                cluster.invariants.leave()
            voters = Voters(cluster)
            try:
                result = await story(voters)
                await voters.ends_well()
            except TimeoutError as error:
                raise Broken(f"it never ends: {error}") from error
            if cluster.world.complaints:
                raise Broken(f"nobody handled {cluster.world.complaints[:2]}")
            return result

    return run(scenario, f"scenario {seed}")
