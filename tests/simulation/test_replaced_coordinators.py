"""A coordinator that was replaced and does not know it: nobody is told of offsets that its successor has passed."""

from __future__ import annotations

import asyncio

import pytest

from ottla.broker.coordination import Confirmations
from ottla.broker.coordination.partitioning import OFFSETS_TOPIC
from ottla.client import NewTopic, TopicPartition
from ottla.simulation import SimulatedCluster, run
from ottla.simulation.node import KAFKA_PORT

WHERE = TopicPartition("orders", 0)
SETTINGS = {
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    "offsets.topic.num.partitions": "1",
}


class WentBack(Exception):
    """Somebody was told of an older offset than was committed before it asked."""


def member(cluster: SimulatedCluster, node_id: int):
    """It knows the cluster from one node."""
    address = f"{cluster.nodes[node_id].machine.address}:{KAFKA_PORT}"
    consumer = cluster.consumer(bootstrap_servers=address, group_id="billing", enable_auto_commit=False)
    consumer.assign([WHERE])
    return consumer


async def commit(cluster: SimulatedCluster, node_id: int, offset: int) -> None:
    async with member(cluster, node_id) as consumer:
        await asyncio.wait_for(consumer.commit({WHERE: offset}), 20)


async def an_older_offset_is_asked_for() -> None:
    async with SimulatedCluster(settings=SETTINGS) as cluster:
        await cluster.create_topic("orders")
        await commit(cluster, 1, 1)
        old = cluster.leader(OFFSETS_TOPIC)
        others = [node_id for node_id in cluster.nodes if node_id != old]
        await cluster.until(lambda: cluster.full(OFFSETS_TOPIC), "every replica is in sync")
        cluster.partition([old], others)
        await cluster.until(
            lambda: any(cluster.partition_on(each, OFFSETS_TOPIC).is_leader for each in others), "another", within=20
        )
        await commit(cluster, others[0], 2)
        assert cluster.partition_on(old, OFFSETS_TOPIC).is_leader, "it does not know"
        async with member(cluster, old) as consumer:
            asking = asyncio.ensure_future(consumer.committed(WHERE))
            await cluster.advance(3)
            cluster.heal()
            told = await asyncio.wait_for(asking, 30)
            if told != 2:
                raise WentBack(f"told {told}")


@pytest.mark.parametrize("seed", range(2))
def test_who_comes_to_the_old_one_is_told_what_the_new_one_knows(seed: int):
    run(an_older_offset_is_asked_for, seed)


def test_if_it_were_sure_of_itself_offsets_would_go_back(monkeypatch: pytest.MonkeyPatch):
    def ask(_self):
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(True)
        return answer

    monkeypatch.setattr(Confirmations, "ask", ask)
    with pytest.raises(WentBack, match="told 1"):
        run(an_older_offset_is_asked_for, 0)


def test_a_node_that_has_failed_serves_clients_for_a_second_at_most():
    """It is cut off from the others too: its leaderships cannot move away, and it does not hear that they have."""

    async def scenario() -> float:
        async with SimulatedCluster(settings=SETTINGS) as cluster:
            failed = cluster.controller()
            address = cluster.nodes[failed].machine.address
            async with cluster.admin(bootstrap_servers=f"{address}:{KAFKA_PORT}") as admin:
                await admin.create_topics([NewTopic("orders", 3, 3)])
                cluster.partition([failed], [node_id for node_id in cluster.nodes if node_id != failed])
                cluster.disk_errors(failed, on="sync", path_contains="__cluster_metadata")
                making = asyncio.ensure_future(admin.create_topics([NewTopic("more", 1, 3)]))
                await cluster.until(lambda: cluster.nodes[failed].casualties, "it has failed", within=30)
                making.cancel()
            now = asyncio.get_running_loop().time
            began = now()
            while True:
                try:
                    _, writer = await asyncio.open_connection(address, KAFKA_PORT)
                except OSError:
                    return now() - began
                writer.close()
                await cluster.advance(0.05)

    assert run(scenario, 1) < 1.2
