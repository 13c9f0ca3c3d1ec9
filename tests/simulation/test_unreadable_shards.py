"""A broker comes to lead a partition of coordinators, and its disk does not answer when it reads that."""

import asyncio

import pytest

from ottla.broker.coordination.partitioning import OFFSETS_TOPIC
from ottla.broker.coordination.shards import Shards
from ottla.client import OffsetAndMetadata, TopicPartition
from ottla.simulation import SimulatedCluster, run

WHERE = TopicPartition("orders", 0)
SETTINGS = {"offsets.topic.num.partitions": "1", "broker.session.timeout.ms": "2000"}


async def a_disk_that_answers_again() -> None:
    async with SimulatedCluster(settings=SETTINGS) as cluster:
        await cluster.create_topic("orders")
        async with cluster.consumer(group_id="billing") as consumer:
            consumer.assign([WHERE])
            await consumer.commit({WHERE: OffsetAndMetadata(7)})
        await cluster.until(lambda: cluster.full(OFFSETS_TOPIC), "every replica is in sync")
        old = cluster.leader(OFFSETS_TOPIC)
        others = [node_id for node_id in cluster.nodes if node_id != old]
        for node_id in others:
            cluster.disk_errors(node_id, on="pread", path_contains=OFFSETS_TOPIC)
        cluster.kill(old)
        counts = cluster.world.trace.counts
        await cluster.until(lambda: counts["shard_load_failed"] >= 3, "tried three times", within=30)
        for node_id in others:
            cluster.disk_mended(node_id)
        async with asyncio.timeout(10), cluster.admin() as admin:
            found = await admin.list_consumer_group_offsets("billing")
        assert found[WHERE].offset == 7


@pytest.mark.parametrize("seed", range(2))
def test_a_coordinator_serves_once_its_log_can_be_read(seed: int):
    run(a_disk_that_answers_again, seed)


def test_else_the_group_would_have_none(monkeypatch: pytest.MonkeyPatch):
    original = Shards._reload_later

    def give_up_at_the_third(self, shard, error):
        original(self, shard, error)
        if self._failures[shard.log.partition.index] == 3:
            self._reloads[shard.log.partition.index].cancel()

    monkeypatch.setattr(Shards, "_reload_later", give_up_at_the_third)
    with pytest.raises(TimeoutError):
        run(a_disk_that_answers_again, 0)
