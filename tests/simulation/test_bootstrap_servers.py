"""Nodes that know the quorum by controller.quorum.bootstrap.servers alone (KIP-853), in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from ottla.simulation import SimulatedCluster, current_world, run
from ottla.simulation.cluster import CONTROLLER_PORT
from tests.simulation.test_voters import change, settled, voters

VOTERS, SERVERS = "controller.quorum.voters", "controller.quorum.bootstrap.servers"


def add(cluster: SimulatedCluster, *servers: int, controller: bool = True, keep_voters: bool = False) -> int:
    """One more node, which is told of these ones' addresses."""
    node_id = cluster.add_broker(controller=controller)
    node = cluster.nodes[node_id]
    node.kill()
    settings = {name: text for name, text in node.settings.items() if keep_voters or name != VOTERS}
    node.settings = settings | {SERVERS: ",".join(f"10.0.0.{server}:{CONTROLLER_PORT}" for server in servers)}
    node.disk.wipe()
    node.start()
    return node_id


async def take_over(cluster: SimulatedCluster, *new: int) -> None:
    """These vote in place of the first three."""
    for node_id in new:
        await cluster.nodes[node_id].ready()
        await change(cluster, node_id, add=True)
    for node_id in (1, 2, 3):
        await change(cluster, node_id, add=False)


@pytest.mark.parametrize("controller", [True, False])
def test_a_node_finds_the_quorum_and_serves(controller: bool) -> None:
    async def scenario() -> None:
        async with SimulatedCluster() as cluster:
            cluster.kill(1)
            new = add(cluster, 1, 2, controller=controller)
            await cluster.nodes[new].ready()
            cluster.start(1)
            await cluster.nodes[1].ready()
            await cluster.create_topic("orders", 4)
            assert voters(cluster) == {1, 2, 3}
            async with cluster.admin() as admin:
                assert {each.replica_id for each in (await admin.describe_metadata_quorum()).observers} == {new}
            cluster.kill(new)
            cluster.start(new)
            await cluster.nodes[new].ready()

    run(scenario, 0)


def test_it_becomes_a_voter_and_outlives_those_that_it_was_told_of() -> None:
    async def scenario() -> frozenset[int]:
        async with SimulatedCluster() as cluster:
            new = [add(cluster, 1, 2, 3) for _ in range(3)]
            await take_over(cluster, *new)
            for node in cluster.nodes.values():
                node.kill()
            for node_id in new:
                cluster.start(node_id)
            for node_id in new:
                await cluster.nodes[node_id].ready()
            assert current_world().trace.counts["quorum_found"] == 3, "their own logs know who votes"
            return voters(cluster)

    assert run(scenario, 0) == {4, 5, 6}


def test_a_voter_that_lost_its_disk_is_readmitted() -> None:
    async def scenario() -> frozenset[int]:
        async with SimulatedCluster() as cluster:
            new = add(cluster, 1, 2, 3)
            await cluster.nodes[new].ready()
            await change(cluster, new, add=True)
            cluster.wipe(new)
            cluster.start(new)
            return await settled(cluster)

    assert run(scenario, 0) == {1, 2, 3, 4}


def test_without_an_answer_it_waits_and_says_so() -> None:
    async def scenario() -> None:
        cluster = SimulatedCluster()
        new = add(cluster, 1, 2)
        await cluster.advance(25)
        node, trace = cluster.nodes[new], current_world().trace
        assert node.alive and not node.is_ready
        assert node.node is not None and "who votes" in node.node.reasons_not_ready["quorum"]
        assert 2 <= trace.counts["quorum_not_found"] <= 3
        for each in cluster.nodes.values():
            if not each.alive:
                each.start()
        await node.ready()
        for each in cluster.nodes.values():
            each.kill()

    run(scenario, 0)


def test_alone_and_without_its_disk_it_founds_no_second_cluster() -> None:
    """Who has only been told where the quorum is knows that there is one."""

    async def scenario() -> None:
        async with SimulatedCluster() as cluster:
            observer, new = add(cluster, 1, controller=False), add(cluster, 1)
            await cluster.nodes[observer].ready()
            await take_over(cluster, new)
            for node_id in (1, 2, 3):
                cluster.kill(node_id)
            cluster.wipe(new)
            cluster.nodes[new].settings = {
                **cluster.nodes[new].settings,
                SERVERS: f"10.0.0.{observer}:{CONTROLLER_PORT}",
            }
            cluster.start(new)
            await cluster.advance(30)
            core = cluster.nodes[new].node.quorum.driver.core  # type: ignore[union-attr]
            assert core.voters == {new}, "it has been told"
            assert core.recovering and core.leading is None and core.log.last_index == 0
            cluster.invariants.leave()

    run(scenario, 0)


def test_a_node_whose_settings_are_out_of_date_finds_the_new_voters() -> None:
    """It was away while all voters that it knows of were replaced."""

    async def scenario() -> frozenset[int]:
        async with SimulatedCluster() as cluster:
            late = add(cluster, 5, 6, controller=False, keep_voters=True)
            await cluster.nodes[late].ready()
            cluster.kill(late)
            new = [add(cluster, 1, 2, 3) for _ in range(3)]
            await take_over(cluster, *new)
            for node_id in (1, 2, 3):
                cluster.kill(node_id)
            cluster.start(late)
            async with asyncio.timeout(60):
                await cluster.nodes[late].ready()
            return voters(cluster)

    assert run(scenario, 0) == {5, 6, 7}
