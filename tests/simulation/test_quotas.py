"""Client quotas on a whole cluster, in virtual time: who waits, for how long, and who does not."""

from __future__ import annotations

import asyncio

from ottla.simulation import SimulatedCluster, leader_of

VALUE = bytes(1000)


async def _send(cluster: SimulatedCluster, count: int, client_id: str) -> float:
    """Seconds for `count` kilobytes, one after the other."""
    loop = asyncio.get_running_loop()
    async with cluster.producer(client_id=client_id, linger_ms=0) as producer:
        await producer.send_and_wait("orders", VALUE)
        began = loop.time()
        for _ in range(count):
            await producer.send_and_wait("orders", VALUE)
        return loop.time() - began


async def test_a_producer_keeps_to_its_rate_and_others_are_not_held_up(simulated_cluster: SimulatedCluster):
    cluster = simulated_cluster
    await cluster.create_topic("orders", partitions=1)
    async with cluster.admin() as admin:
        await admin.alter_client_quotas([({"client-id": "greedy"}, {"producer_byte_rate": 5000})])
        await cluster.advance(1)
        greedy, modest = await asyncio.gather(_send(cluster, 150, "greedy"), _send(cluster, 150, "modest"))
        # 150 KB and what frames records, of which 50 KB are the burst, at 5 KB/s.
        assert 20 < greedy < 30
        assert modest < 2
        cluster.kill(leader_of("orders", 0))
        assert await _send(cluster, 100, "greedy") > 10, "the quota holds on the next leader, too"
        await admin.alter_client_quotas([({"client-id": "greedy"}, {"producer_byte_rate": None})])
        await cluster.advance(1)
        assert await _send(cluster, 150, "greedy") < 2


async def test_a_consumer_keeps_to_its_rate(simulated_cluster: SimulatedCluster):
    cluster = simulated_cluster
    await cluster.create_topic("orders", partitions=1)
    await _send(cluster, 200, "anybody")
    loop = asyncio.get_running_loop()
    async with cluster.admin() as admin:
        await admin.alter_client_quotas([({"user": None}, {"consumer_byte_rate": 5000})])
        await cluster.advance(1)
    options = {"auto_offset_reset": "earliest", "max_partition_fetch_bytes": 2000}
    async with cluster.consumer("orders", **options) as consumer:
        began = loop.time()
        for _ in range(200):
            await consumer.getone()
        assert 25 < loop.time() - began < 45
