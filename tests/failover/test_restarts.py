"""SIGTERM to one node after the other under load: nobody may notice (RELIABILITY.md section 3, row 2)."""

from __future__ import annotations

import pytest

from ottla.cluster.traffic import Traffic
from tests.failover.cluster import NODES, PATIENCE_S, Cluster
from tests.failover.replicas import check_replicas

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_rolling(cluster: Cluster) -> None:
    topic = "rolling"
    await cluster.create(topic, leaders=(1, 2, 3))
    async with Traffic(cluster.bootstrap(), topic, 3, interval=0.004) as traffic:
        await traffic.start_reading()
        for node in NODES:
            written = max(len(part.acknowledged) for part in traffic.ledger.partitions)
            await traffic.acknowledged_count(written + 30, within=PATIENCE_S)
            await cluster.stop(node)
            assert cluster.events(node, "node_stopped"), "it was killed, for it did not stop by itself"
            assert not cluster.events(node, "controlled_shutdown_failed")
            view = await cluster.led(topic)
            assert all(part.leader != node and node not in part.isr for part in view.partitions)
            await cluster.start(node)
            await cluster.in_sync(topic)
        await traffic.stop_writing(within=PATIENCE_S)
        assert not traffic.failed
        await traffic.read_everything(within=PATIENCE_S)
        verdict = traffic.ledger.verdict()
        assert verdict.clean, verdict
    await check_replicas(cluster, topic, traffic.ledger)
