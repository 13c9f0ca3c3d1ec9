"""Broker configs that change while the cluster runs, for one broker or for all (KIP-226): none needs a restart."""

from __future__ import annotations

import asyncio

import pytest

from ottla.client import Admin, ConfigResource, KafkaConnectionError, KafkaError, Producer
from ottla.simulation import SimulatedCluster, run
from ottla.wire import KafkaConnection

EVERYBODY = ConfigResource("broker", "")
NEVER_MS = str(10 * 24 * 3600 * 1000)


async def told(cluster: SimulatedCluster, admin: Admin, resource: ConfigResource, **values: str | None) -> None:
    """Change configs, and wait until every node has heard of it."""
    await admin.incremental_alter_configs({resource: {key.replace("_", "."): value for key, value in values.items()}})
    offset = max(quorum(cluster, node_id).view.image.offset for node_id in cluster.nodes)
    await cluster.until(
        lambda: all(quorum(cluster, node_id).view.image.offset >= offset for node_id in cluster.nodes), "all know"
    )


def quorum(cluster: SimulatedCluster, node_id: int):
    return cluster.nodes[node_id].node.quorum


async def write(producer: Producer, topic: str, count: int, key: bytes = b"k") -> None:
    for _ in range(count):
        await producer.send_and_wait(topic, b"v" * 200, key=key, partition=0)


def test_the_log_cleaner_wakes_up_when_told_to():
    """log.cleaner.backoff.ms: whoever sleeps for ten days goes by the new value at once."""

    async def scenario() -> tuple[int, int]:
        async with SimulatedCluster(settings={"log.cleaner.backoff.ms": NEVER_MS}) as cluster, cluster.admin() as admin:
            await cluster.create_topic(
                "t", cleanup_policy="compact", segment_bytes="1000", min_cleanable_dirty_ratio="0.01"
            )
            async with cluster.producer() as producer:
                await write(producer, "t", 50)
            held = cluster.partition_on(cluster.leader("t"), "t").log
            await asyncio.sleep(60)
            before = held.size
            await told(cluster, admin, EVERYBODY, log_cleaner_backoff_ms="100")
            await cluster.until(lambda: held.size < before / 2, "the log is cleaned", within=60)
            return before, held.size

    before, after = run(scenario, 1)
    assert after < before


def test_one_broker_takes_fewer_connections_and_more_again():
    """max.connections, of one broker only; None goes back to what holds for all."""

    async def scenario() -> list[str]:
        seen = []
        async with SimulatedCluster() as cluster, cluster.admin() as admin:
            address = cluster.nodes[2].machine.address
            for limit in ("1", None):
                await told(cluster, admin, ConfigResource("broker", "2"), max_connections=limit)
                try:
                    connection = await KafkaConnection.open(address, 9092, timeout=5.0)
                    await connection.call(18, 0, {})
                    connection.abort()
                    seen.append("served")
                except (KafkaConnectionError, OSError) as error:
                    seen.append(type(error).__name__)
            other = await KafkaConnection.open(cluster.nodes[3].machine.address, 9092, timeout=5.0)
            await other.call(18, 0, {})
            other.abort()
        return seen

    first, second = run(scenario, 1)
    assert first != "served"
    assert second == "served"


def test_one_address_takes_too_many_connections():
    """max.connections.per.ip of all brokers, without a restart; whoever is connected stays so."""

    async def scenario() -> tuple[int, int]:
        async with SimulatedCluster() as cluster, cluster.admin() as admin:
            server = cluster.nodes[1].node.broker.server
            await told(cluster, admin, EVERYBODY, max_connections_per_ip="1000", max_connections_per_ip_overrides="x:0")
            before = server.stats.refused
            address = cluster.nodes[1].machine.address
            connection = await KafkaConnection.open(address, 9092, timeout=5.0)
            await connection.call(18, 0, {})
            await told(cluster, admin, EVERYBODY, max_connections_per_ip="0")
            await connection.call(18, 0, {})
            with pytest.raises((KafkaConnectionError, OSError)):
                late = await KafkaConnection.open(address, 9092, timeout=5.0)
                await late.call(18, 0, {})
            refused = server.stats.refused
            await told(cluster, admin, EVERYBODY, max_connections_per_ip=None)
            connection.abort()
            return before, refused

    before, refused = run(scenario, 1)
    assert before == 0
    assert refused > 0


def test_defaults_of_topics():
    """log.segment.bytes of all brokers reaches the logs that do not say otherwise, of one broker only its own."""

    async def scenario() -> dict[int, tuple[int, int]]:
        async with SimulatedCluster() as cluster, cluster.admin() as admin:
            await cluster.create_topic("t")
            await cluster.create_topic("own", segment_bytes="7777")
            await told(cluster, admin, EVERYBODY, log_segment_bytes="5000", producer_id_expiration_ms="60000")
            await told(cluster, admin, ConfigResource("broker", "3"), log_segment_bytes="6000")
            configs = {
                node_id: tuple(cluster.partition_on(node_id, topic).log.config for topic in ("t", "own"))
                for node_id in cluster.nodes
            }
            assert {config.producer_id_expiration_ms for both in configs.values() for config in both} == {60000}
            return {node_id: (t.segment_bytes, own.segment_bytes) for node_id, (t, own) in configs.items()}

    assert run(scenario, 1) == {1: (5000, 7777), 2: (5000, 7777), 3: (6000, 7777)}


def test_what_is_not_dynamic_is_refused():
    async def scenario() -> None:
        async with SimulatedCluster() as cluster, cluster.admin() as admin:
            for key, value in (("node.id", "7"), ("log.retention.hours", "1"), ("max.connections", "0"), ("no", "1")):
                with pytest.raises(KafkaError, match=key):
                    await admin.incremental_alter_configs({EVERYBODY: {key: value}})

    run(scenario, 1)
