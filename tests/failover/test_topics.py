"""Delete a topic and make it again under kills: what the old one held stays gone (RELIABILITY.md row 20, KIP-516)."""

from __future__ import annotations

import pytest

from ottla.client import Producer
from tests.failover.cluster import NODES, Cluster
from tests.failover.replicas import check_identical, values_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

PARTITIONS = 2


async def write(cluster: Cluster, topic: str, prefix: bytes, count: int) -> set[bytes]:
    """Acknowledged records with values of one kind."""
    values = [prefix + b" %d" % number for number in range(count)]
    async with Producer(bootstrap_servers=cluster.bootstrap(cluster.running())) as producer:
        futures = [
            await producer.send(topic, value, partition=number % PARTITIONS) for number, value in enumerate(values)
        ]
        for future in futures:
            await future
    return set(values)


async def check_only(cluster: Cluster, topic: str, values: set[bytes]) -> None:
    """Exactly these are on every disk."""
    await cluster.in_sync(topic)
    replicas = check_identical(cluster, topic, await cluster.high_watermarks(topic, PARTITIONS))
    found = values_of(replicas)
    assert set(found) == values
    assert len(found) == len(values)


async def test_made_again_while_a_replica_was_away(cluster: Cluster) -> None:
    """The replica that comes back has a longer log of the same name, from the same leader epoch."""
    topic = "again"
    for victim in NODES:
        await cluster.create(topic, leaders=(victim, victim))
        await write(cluster, topic, b"old", 60)
        await cluster.kill(victim)
        await cluster.delete(topic)
        await cluster.create(topic, PARTITIONS)
        new = await write(cluster, topic, b"new", 10)
        await cluster.start(victim)
        await check_only(cluster, topic, new)
        await cluster.delete(topic)


async def test_made_again_as_everybody_dies(cluster: Cluster) -> None:
    """The deletion is acknowledged, and may have removed nothing yet when the nodes are killed."""
    topic = "again-all"
    await cluster.create(topic, leaders=(1, 2))
    await write(cluster, topic, b"old", 60)
    await cluster.delete(topic)
    await cluster.kill(*NODES)
    await cluster.start(*NODES)
    assert [view for view in await cluster.views(topic) if view is not None] == []
    await cluster.create(topic, leaders=(2, 3))
    new = await write(cluster, topic, b"new", 10)
    await check_only(cluster, topic, new)
    await cluster.kill(*NODES)
    await cluster.start(*NODES)
    await check_only(cluster, topic, new)


async def test_deleted_for_good_while_a_replica_was_away(cluster: Cluster) -> None:
    """The metadata that the replica reads when it comes back does not know its logs: they are put out of the way."""
    topic = "gone"
    await cluster.create(topic, leaders=(1, 2))
    await write(cluster, topic, b"old", 20)
    await cluster.kill(3)
    await cluster.delete(topic)
    await cluster.start(3)
    for node in NODES:
        left = list(cluster.data(node).glob(f"{topic}-[0-9]"))
        assert left == [], f"node {node} still has {left}"
    await cluster.create(topic, leaders=(3, 3))
    await check_only(cluster, topic, await write(cluster, topic, b"new", 10))
