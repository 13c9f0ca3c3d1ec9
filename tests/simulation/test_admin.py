"""An admin client whose first broker can be reached, and can do nothing: it is cut off from its peers."""

import asyncio

import pytest

from ottla.client import Admin, ConfigResource, NewTopic
from ottla.simulation import SimulatedCluster, run


@pytest.mark.parametrize("seed", range(3))
def test_a_bootstrap_broker_without_its_peers_costs_some_seconds_once(seed):
    async def scenario():
        loop, took = asyncio.get_running_loop(), []
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders")
            address = cluster.nodes[1].machine.address
            async with Admin(bootstrap_servers=f"{address}:9092", rng=cluster.world.rng("admin")) as admin:
                assert cluster.isolate(1) == 1
                changes = {ConfigResource("topic", "orders"): {"retention.ms": "1000"}}
                for work in (
                    lambda: admin.create_topics([NewTopic("more", 1, 2)]),
                    lambda: admin.incremental_alter_configs(changes),
                    lambda: admin.create_partitions({"more": 3}),
                    lambda: admin.describe_topics(["more"]),
                    lambda: admin.delete_topics(["orders"]),
                ):
                    began = loop.time()
                    await work()
                    took.append(loop.time() - began)
                return took

    first, *others = run(scenario, seed)
    assert 1 < first < 6
    assert max(others) < 0.5


@pytest.mark.parametrize("seed", range(2))
def test_a_broker_that_has_gone_silent_costs_some_seconds_once(seed):
    async def scenario():
        loop, took = asyncio.get_running_loop(), []
        async with SimulatedCluster() as cluster:
            address = cluster.nodes[1].machine.address
            async with Admin(bootstrap_servers=f"{address}:9092", rng=cluster.world.rng("admin")) as admin:
                cluster.pause(1)
                for name in ("a", "b", "c"):
                    began = loop.time()
                    await admin.create_topics([NewTopic(name, 1, 2)])
                    took.append(loop.time() - began)
                return took

    first, *others = run(scenario, seed)
    assert 1 < first < 8
    assert max(others) < 0.5
