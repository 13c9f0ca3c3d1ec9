"""Fewer nodes than it takes: nothing is acknowledged, and nothing that was is lost (min.insync.replicas 2 of 3)."""

from __future__ import annotations

import pytest
from kio.schema.errors import ErrorCode

from ottla.cluster.traffic import Traffic
from tests.failover.attached import Attached, numbered
from tests.failover.cluster import PATIENCE_S, Cluster
from tests.failover.replicas import check_identical

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_two_nodes_down(cluster: Cluster) -> None:
    """One of three is no quorum and below min.insync.replicas: it acknowledges nothing, until another one is back."""
    topic = "two-down"
    await cluster.create(topic, leaders=(1,))
    await cluster.led(topic)
    attached = await Attached.to(cluster, 1, topic, acks=-1)
    kept = [await attached.acknowledged(value) for value in numbered(b"kept", 10)]
    # The attached client's records are not written twice by anybody, so each has one place.
    await cluster.kill(2, 3)
    asked = [attached.send(value, timeout_ms=700) for value in numbered(b"in vain", 10)]
    refused = [await task for task in asked]
    assert {answer.error for answer in refused} <= {
        ErrorCode.request_timed_out,
        ErrorCode.not_enough_replicas,
        ErrorCode.not_enough_replicas_after_append,
    }, refused
    async with Traffic(cluster.bootstrap(), topic, 1, interval=0.004) as traffic:
        # A timed-out request is a promise of nothing; what it wrote may be replicated later.
        assert not (await attached.send(b"in vain, the last", timeout_ms=300)).acknowledged
        assert not traffic.ledger.partitions[0].acknowledged
        await cluster.start(2)
        await traffic.acknowledged_count(30, within=PATIENCE_S)
        await cluster.start(3)
        await cluster.in_sync(topic)
        await traffic.stop_writing(within=PATIENCE_S)
        assert not traffic.failed
    attached.close()
    await cluster.in_sync(topic)
    (replica,) = check_identical(cluster, topic, await cluster.high_watermarks(topic, 1))
    values = dict(replica.values())
    assert all(values.get(answer.offset) == answer.value for answer in kept)
    numbers = [(offset, int(value)) for offset, value in values.items() if value.strip().isdigit()]
    assert [number for _, number in sorted(numbers)] == sorted({number for _, number in numbers})
    at = {number: offset for offset, number in numbers}
    assert all(at.get(number) == offset for number, offset in traffic.ledger.partitions[0].acknowledged.items())
