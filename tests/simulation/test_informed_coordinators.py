"""What a member of a group is told by a coordinator that does not know the group yet is no proof that it has two
owners: the checker of groups leaves it out."""

import asyncio

import pytest

from ottla.broker.coordination.partitioning import OFFSETS_TOPIC
from ottla.client import OffsetAndMetadata, TopicPartition
from ottla.simulation import SimulatedCluster, run
from ottla.simulation.groups.workload import SETTINGS, GroupWorkload

WHERE = TopicPartition("orders", 0)
LOADS_FOR_S = 2.0


async def a_coordinator_that_waits_for_its_followers() -> None:
    settings = {**SETTINGS, "offsets.topic.num.partitions": "1", "broker.session.timeout.ms": "2000"}
    async with SimulatedCluster(settings=settings) as cluster:
        await cluster.create_topic("orders")
        async with GroupWorkload(cluster, "orders", 1, {"g": ("classic",)}, restless=0.0) as workload:
            held = workload.told.held
            await cluster.until(lambda: held and not held[-1].uninformed, "the member is told by one that knows")
            await cluster.until(lambda: cluster.full(OFFSETS_TOPIC), "every replica is in sync")
            old, new, other = cluster.invariants.metadata.latest.topics[OFFSETS_TOPIC].partitions[0].replicas
            assert cluster.leader(OFFSETS_TOPIC) == old
            with cluster.hold("Fetch", source=other, count=None):
                writing = asyncio.create_task(another_group_commits(cluster))
                await cluster.until(lambda: ahead(cluster, new), "something is not committed yet")
                cluster.kill(old)
                await cluster.until(lambda: leads(cluster, new), "the next one leads")
                told = len(held)
                await cluster.advance(LOADS_FOR_S)
                assert not ready(cluster, new)
                assert len(held) > told, "it was told that all is well"
                assert all(each.uninformed for each in held[told:])
            await writing
            await cluster.until(lambda: not held[-1].uninformed, "told by one that knows, again")


async def another_group_commits(cluster: SimulatedCluster) -> None:
    async with cluster.consumer(group_id="another") as consumer:
        consumer.assign([WHERE])
        await consumer.commit({WHERE: OffsetAndMetadata(7)})


def ahead(cluster: SimulatedCluster, node_id: int) -> bool:
    held = cluster.partition_on(node_id, OFFSETS_TOPIC)
    return held is not None and held.log_end_offset > held.high_watermark


def leads(cluster: SimulatedCluster, node_id: int) -> bool:
    held = cluster.partition_on(node_id, OFFSETS_TOPIC)
    return held is not None and held.is_leader


def ready(cluster: SimulatedCluster, node_id: int) -> bool:
    running = cluster.nodes[node_id].node
    assert running is not None and running.broker is not None and running.broker._broker is not None
    return any(shard.log.ready for shard in running.broker._broker.groups.shards())


@pytest.mark.parametrize("seed", range(2))
def test_who_loads_is_not_believed(seed: int):
    run(a_coordinator_that_waits_for_its_followers, seed)
