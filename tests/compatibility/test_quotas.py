"""Client quotas as librdkafka sees them: it is told how long it has to wait."""

from __future__ import annotations

import asyncio

from confluent_kafka import Producer, ThrottleEvent

from ottla.client import Admin
from tests.compatibility.background import BackgroundLoop
from tests.compatibility.cluster import Cluster


async def _set(bootstrap: str, client_id: str, rate: float | None) -> None:
    async with Admin(bootstrap_servers=bootstrap) as admin:
        await admin.alter_client_quotas([({"client-id": client_id}, {"producer_byte_rate": rate})])


def test_a_producer_is_told_its_wait_and_loses_nothing(cluster: Cluster, background: BackgroundLoop) -> None:
    client_id = "throttled"
    asyncio.run(_set(cluster.bootstrap, client_id, 50_000))
    waits: list[ThrottleEvent] = []
    delivered: list[int] = []
    producer = Producer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "client.id": client_id,
            "acks": "all",
            "batch.size": 50_000,
            "throttle_cb": waits.append,
        }
    )
    try:
        for _ in range(1200):
            producer.produce("quotas", bytes(1000), on_delivery=lambda error, _: delivered.append(error is None))
        assert producer.flush(60) == 0
        producer.poll(0)
    finally:
        asyncio.run(_set(cluster.bootstrap, client_id, None))
    # 1.2 MB for two brokers at the most, each of which lets half a MB through in a burst.
    assert len(delivered) == 1200
    assert all(delivered)
    assert waits
    assert 0 < max(event.throttle_time for event in waits) <= 11
