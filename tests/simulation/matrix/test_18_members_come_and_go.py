"""Fifty consumers in two groups, of which about fifty a second leave and are replaced, and coordinators that die."""

import asyncio

import pytest

from ottla.broker.coordination import partition_for
from ottla.simulation import SimulatedCluster, current_world, leader_of, run
from ottla.simulation.groups import SETTINGS, GroupWorkload

PARTITIONS = 4
GROUPS = {"classics": ("classic",) * 25, "consumers": ("consumer",) * 25}
CHURN_S = 4.0
STABLE_WITHIN_S = 15.0


async def churn():
    async with SimulatedCluster(settings=SETTINGS) as cluster:
        await cluster.create_topic("orders", PARTITIONS)
        async with cluster.traffic("orders", PARTITIONS, interval=0.05) as traffic:
            await traffic.acknowledged_count(20)
            async with GroupWorkload(cluster, "orders", PARTITIONS, GROUPS, restless=0.2) as groups:
                for group in GROUPS:
                    await cluster.advance(CHURN_S / 2)
                    victim = cluster.kill(leader_of("__consumer_offsets", partition_for(group, 2)))
                    await cluster.advance(1.0)
                    cluster.start(victim)
                joined, rebalances = groups.lives, current_world().trace.counts["group_rebalancing"]
                groups.restless = 0.0
                await traffic.stop_writing()
                await cluster.until(lambda: cluster.full("orders"), "every replica is in sync")
                ends = {("orders", index): _end(cluster, index) for index in range(PARTITIONS)}
                began = asyncio.get_running_loop().time()
                await groups.finish(ends, within=STABLE_WITHIN_S)
                lasted = asyncio.get_running_loop().time() - began
                return joined, rebalances, lasted, groups.findings(ends), current_world().complaints


def _end(cluster, index):
    found = cluster.partition_on(cluster.leader("orders", index), "orders", index)
    assert found is not None
    return found.log_end_offset


@pytest.mark.parametrize("seed", range(2))
def test_rebalances_are_bounded_and_nothing_is_missed(seed):
    joined, rebalances, _, findings, complaints = run(churn, seed)
    assert findings == [] and complaints == []
    assert joined > 100, "they do come and go"
    # One for each classic member that comes, one for each that goes, and some for those that a coordinator lost.
    assert rebalances <= joined + 20
