"""Row 19: replicas move, brokers are added and removed, while nodes are killed, lose power, or are cut off."""

from __future__ import annotations

import asyncio
import random

import pytest

from ottla.client import TopicPartition
from ottla.cluster.traffic import Traffic
from ottla.simulation import SimulatedCluster, run
from ottla.simulation.storm import replicas_are_equal
from tests.simulation.matrix.harness import SMALL, takes_writes

ORDERS = TopicPartition("orders", 0)


def state(cluster: SimulatedCluster):
    """In the newest metadata that any node has seen."""
    return cluster.invariants.metadata.latest.topics["orders"].partitions[0]


async def all_is_well(cluster: SimulatedCluster, traffic: Traffic, target: tuple[int, ...]) -> None:
    """The move has come to its end, and nothing was lost on the way."""
    await cluster.until(lambda: _done(cluster, target), f"the replicas are {target}", within=40)
    await takes_writes(cluster, traffic, within=20)
    await traffic.stop_writing(within=30)
    await traffic.read_everything(within=30)
    verdict = traffic.ledger.verdict()
    assert verdict.clean and verdict.acknowledged > 50, verdict
    await cluster.until(lambda: _at_end(cluster, target), "every high watermark is at the end")
    replicas_are_equal(cluster, "orders", 1)
    for node_id in set(cluster.nodes) - set(target):
        assert cluster.partition_on(node_id, "orders") is None
    assert cluster.world.complaints == []
    assert {node.id: node.failures for node in cluster.nodes.values() if node.failures} == {}


def _done(cluster: SimulatedCluster, target: tuple[int, ...]) -> bool:
    return state(cluster).replicas == target and cluster.full("orders")


def _at_end(cluster: SimulatedCluster, target: tuple[int, ...]) -> bool:
    found = [cluster.partition_on(node_id, "orders") for node_id in target]
    return len({end for each in found if each for end in (each.high_watermark, each.log_end_offset)}) == 1


VICTIMS = ["leader", "controller", "new replica", "old replica", "all"]
# Virtual seconds after the request: before the metadata are everywhere, while the new replicas copy, when they are
# taken into the ISR, when the old ones are dropped, and later.
MOMENTS = [0.0, 0.003, 0.01, 0.1]


@pytest.mark.parametrize("how", ["kill", "power"])
@pytest.mark.parametrize("who", VICTIMS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_move_to_other_brokers_survives_the_death_of_anybody_at_any_moment(who: str, moment: float, how: str):
    async def scenario() -> None:
        settings = SMALL | {"ottla.flush": "synced" if how == "power" else "os"}
        async with SimulatedCluster(nodes=5, settings=settings) as cluster:
            await cluster.create_topic("orders")
            before = state(cluster).replicas
            target = (*(node for node in cluster.nodes if node not in before), before[2])
            async with cluster.traffic("orders", 1, interval=0.01) as traffic, cluster.admin() as admin:
                await traffic.start_reading()
                await traffic.acknowledged_count(50)
                await admin.alter_partition_reassignments({ORDERS: target})
                await cluster.advance(moment)
                victims = {
                    "leader": [cluster.leader("orders")],
                    "controller": [cluster.controller()],
                    "new replica": [target[0]],
                    "old replica": [before[1]],
                    "all": list(cluster.nodes),
                }[who]
                for victim in victims:
                    cluster.kill(victim) if how == "kill" else cluster.power_off(victim)
                await cluster.advance(2)
                for victim in victims:
                    cluster.start(victim)
                await all_is_well(cluster, traffic, target)

    run(scenario, f"move {who} {moment} {how}")


@pytest.mark.parametrize("seed", range(4))
def test_one_target_after_the_other_while_links_are_cut(seed: int):
    """Each target replaces the one before, some are taken back, and the last one is what comes of it."""

    async def scenario() -> None:
        rng = random.Random(seed)
        async with SimulatedCluster(nodes=5, settings=SMALL) as cluster:
            await cluster.create_topic("orders")
            async with cluster.traffic("orders", 1, interval=0.02) as traffic, cluster.admin() as admin:
                await traffic.start_reading()
                await traffic.acknowledged_count(50)
                target: tuple[int, ...] = ()
                for _ in range(12):
                    target = tuple(rng.sample(list(cluster.nodes), rng.choice((2, 3))))
                    await admin.alter_partition_reassignments({ORDERS: target})
                    if rng.random() < 0.3:
                        await admin.try_alter_partition_reassignments({ORDERS: None})
                    if rng.random() < 0.5:
                        cut = rng.choice(list(cluster.nodes))
                        cluster.partition([cut], [node for node in cluster.nodes if node != cut])
                    await cluster.advance(rng.choice((0.01, 0.2, 2.0)))
                    cluster.heal()
                await admin.alter_partition_reassignments({ORDERS: target})
                await all_is_well(cluster, traffic, target)

    run(scenario, f"targets {seed}")


@pytest.mark.parametrize("seed", range(3))
def test_a_broker_is_added_filled_emptied_and_removed_while_others_die(seed: int):
    async def scenario() -> None:
        async with SimulatedCluster(nodes=3, settings=SMALL) as cluster:
            await cluster.create_topic("orders")
            before = state(cluster).replicas
            async with cluster.traffic("orders", 1, interval=0.02) as traffic, cluster.admin() as admin:
                await traffic.start_reading()
                await traffic.acknowledged_count(50)
                new = cluster.add_broker()
                await cluster.nodes[new].ready()
                await admin.alter_partition_reassignments({ORDERS: (new, *before[:2])})
                await _dies_for_a_moment(cluster, before[seed])
                await cluster.until(lambda: state(cluster).replicas == (new, *before[:2]), "it is filled", within=40)
                await admin.alter_partition_reassignments({ORDERS: before})
                await _dies_for_a_moment(cluster, before[(seed + 1) % 3])
                await cluster.until(lambda: state(cluster).replicas == before, "it is empty", within=40)
                await cluster.stop(new)
                await admin.unregister_broker(new)
                cluster.forget(new)
                await all_is_well(cluster, traffic, before)

    run(scenario, f"added {seed}")


async def _dies_for_a_moment(cluster: SimulatedCluster, node_id: int) -> None:
    await asyncio.sleep(0.01)
    cluster.kill(node_id)
    await cluster.advance(1)
    cluster.start(node_id)


def test_a_topic_is_deleted_while_its_replicas_move():
    """And made anew under its name: nothing of the old one comes back."""

    async def scenario() -> None:
        async with SimulatedCluster(nodes=5, settings=SMALL) as cluster:
            await cluster.create_topic("orders")
            before = state(cluster).replicas
            others = tuple(node for node in cluster.nodes if node not in before)
            cluster.kill(others[0])
            async with cluster.admin() as admin, cluster.producer() as producer:
                await producer.send_and_wait("orders", b"old")
                await admin.alter_partition_reassignments({ORDERS: others})
                await cluster.advance(1)
                await admin.delete_topics(["orders"])
                cluster.start(others[0])
                await cluster.create_topic("orders")
                assert await admin.list_partition_reassignments() == {}
                async with cluster.traffic("orders", 1, interval=0.02) as traffic:
                    await traffic.start_reading()
                    await traffic.acknowledged_count(60)
                    await all_is_well(cluster, traffic, state(cluster).replicas)

    run(scenario, 1)
