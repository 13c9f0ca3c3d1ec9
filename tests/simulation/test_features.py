"""The levels of features on a whole cluster, in virtual time: who goes by them, and that they stay."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from kio.schema.errors import ErrorCode

from ottla.client import Admin, BrokerResponseError, FeatureMetadata, FeatureUpdate, Producer, TopicPartition
from ottla.simulation import SimulatedCluster

TXN = "transaction.version"


async def bumps(admin: Admin, producer: Producer, topic: str) -> bool:
    """Whether transactions raise the producer's epoch: what the second protocol is made of."""
    epochs = []
    for _ in range(4):
        async with producer.transaction():
            await producer.send(topic, b"v")
        await asyncio.sleep(1)  # until the marker is there
        ((state,),) = (await admin.describe_producers([TopicPartition(topic, 0)])).values()
        epochs.append(state.producer_epoch)
    # The first transaction may still be of the protocol that the producer went by before.
    steps = {after - before for before, after in pairwise(epochs[1:])}
    assert steps in ({0}, {1})
    return steps == {1}


async def reconnected(cluster: SimulatedCluster) -> None:
    """Clients ask for versions on new connections: every broker is stopped and started, one after the other."""
    for node_id in sorted(cluster.nodes):
        await cluster.stop(node_id)
        cluster.start(node_id)
        await cluster.until(lambda: cluster.full("old") and cluster.full("new"), "all are in sync again")


async def told(cluster: SimulatedCluster, admin: Admin, level: int) -> FeatureMetadata:
    """What a broker tells of the features once it has heard of this level: another one than answered may be asked."""
    for _ in range(20):
        described = await admin.describe_features()
        if described.finalized_features[TXN].max_version_level == level:
            return described
        await cluster.advance(0.1)
    raise AssertionError(f"nobody tells of level {level}: {described}")


async def test_producers_go_by_the_level_of_transaction_version(simulated_cluster: SimulatedCluster) -> None:
    cluster = simulated_cluster
    await cluster.create_topic("old")
    await cluster.create_topic("new")
    async with cluster.admin() as admin, cluster.producer(transactional_id="old") as old:
        assert await bumps(admin, old, "old")
        await admin.update_features({TXN: FeatureUpdate(1, "safe_downgrade")})
        described = await told(cluster, admin, 1)
        async with cluster.producer(transactional_id="new") as new:
            assert not await bumps(admin, new, "new")
            assert await bumps(admin, old, "old"), "it has not heard of it, and is served"
            await reconnected(cluster)
            assert not await bumps(admin, old, "old")
            await admin.update_features({TXN: 2})
            later = await told(cluster, admin, 2)
            assert (later.finalized_features_epoch or 0) > (described.finalized_features_epoch or 0)
            await reconnected(cluster)
            assert await bumps(admin, new, "new")
            assert await bumps(admin, old, "old")


async def test_levels_outlive_the_controllers(simulated_cluster: SimulatedCluster) -> None:
    cluster = simulated_cluster
    async with cluster.admin() as admin:
        updates = {TXN: FeatureUpdate(0, "safe_downgrade"), "group.version": FeatureUpdate(0, "unsafe_downgrade")}
        await admin.update_features(updates, validate_only=True)
        assert len((await admin.describe_features()).finalized_features) == 3
        await admin.update_features(updates)
        described = await admin.describe_features()
        assert set(described.finalized_features) == {"kraft.version"}
    for node_id in cluster.nodes:
        cluster.kill(node_id)
    for node_id in cluster.nodes:
        cluster.start(node_id)
    await cluster.advance(10)
    async with cluster.admin() as admin:
        assert await admin.describe_features() == described


async def test_without_group_version_the_consumer_protocol_is_refused(simulated_cluster: SimulatedCluster) -> None:
    cluster = simulated_cluster
    await cluster.create_topic("orders")
    options = {"group_id": "g", "auto_offset_reset": "earliest"}
    async with cluster.admin() as admin, cluster.producer() as producer:
        await producer.send_and_wait("orders", b"v")
        await admin.update_features({"group.version": FeatureUpdate(0, "safe_downgrade")})
        await cluster.advance(1)
        with pytest.raises(BrokerResponseError) as refused:
            async with cluster.consumer("orders", group_protocol="consumer", **options) as consumer:
                await asyncio.wait_for(consumer.getone(), 30)
        assert refused.value.code is ErrorCode.unsupported_version
        async with cluster.consumer("orders", **options) as consumer:
            assert (await consumer.getone()).value == b"v"
        await admin.update_features({"group.version": 1})
        await cluster.advance(1)
        options["group_id"] = "another"
        async with cluster.consumer("orders", group_protocol="consumer", **options) as consumer:
            assert (await consumer.getone()).value == b"v"
