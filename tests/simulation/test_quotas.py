"""Client quotas on a whole cluster, in virtual time: who waits, for how long, and who does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from kio.schema.errors import ErrorCode

from ottla.records import Record, encode_batch
from ottla.simulation import SimulatedCluster, leader_of
from ottla.simulation.node import KAFKA_PORT
from ottla.wire import KafkaConnection

VALUE = bytes(1000)
RATE, BURST = 5000, 50_000
"""A quota in bytes a second, and what goes through before it tells."""
PRODUCE, FETCH = "producer_byte_rate", "consumer_byte_rate"
AT_ONCE = 0.1


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


class Plain:
    """One connection to the leader of the partition. `used`: bytes of records that it has sent or was given."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self.used = 0

    @classmethod
    @asynccontextmanager
    async def to(cls, cluster: SimulatedCluster, client_id: str) -> AsyncIterator[Plain]:
        address = cluster.nodes[cluster.leader("orders")].machine.address
        connection = await KafkaConnection.open(address, KAFKA_PORT, client_id=client_id, timeout=60.0)
        try:
            yield cls(connection)
        finally:
            connection.abort()

    async def use(self, quota: str, kilobytes: int = 10) -> tuple[float, float]:
        """One Produce or Fetch of so much. Seconds that it is told to wait, and that its answer took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if quota == PRODUCE:
            data = encode_batch([Record(0, 0, None, bytes(1000 * kilobytes), ())])
            rows = [{"name": "orders", "partition_data": [{"index": 0, "records": data}]}]
            answer = await self._connection.call(0, 9, {"acks": 1, "timeout": 1000, "topic_data": rows})
            told = answer.responses[0].partition_responses[0]
            self.used += len(data)
        else:
            row = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000 * kilobytes}
            topics = [{"topic": "orders", "partitions": [row]}]
            values = {"max_wait": 0, "min_bytes": 1, "max_bytes": 1000 * kilobytes, "session_epoch": -1}
            answer = await self._connection.call(1, 12, {**values, "topics": topics})
            told = answer.responses[0].partitions[0]
            self.used += len(told.records or b"")
        assert told.error_code is ErrorCode.none
        return answer.throttle_time / timedelta(seconds=1), loop.time() - began


@asynccontextmanager
async def limited(cluster: SimulatedCluster, quota: str, **entity: str | None) -> AsyncIterator[None]:
    """A topic with a hundred kilobytes, and a quota that every node knows."""
    await cluster.create_topic("orders", partitions=1, retention_ms="-1")
    await _send(cluster, 99, "anybody")
    async with cluster.admin() as admin:
        named = {kind.replace("_", "-"): name for kind, name in entity.items()}
        await admin.alter_client_quotas([(named, {quota: RATE})])
    await cluster.advance(1)
    yield


@pytest.mark.parametrize("quota", [PRODUCE, FETCH])
async def test_the_answer_tells_the_wait_and_only_that_connection_waits(
    simulated_cluster: SimulatedCluster, quota: str
):
    cluster = simulated_cluster
    async with (
        limited(cluster, quota, client_id="greedy"),
        Plain.to(cluster, "greedy") as greedy,
        Plain.to(cluster, "greedy") as another,
        Plain.to(cluster, "modest") as modest,
    ):
        told = [await greedy.use(quota) for _ in range(4)]
        assert all(wait == 0 and took < AT_ONCE for wait, took in told), "a burst"
        wait, took = await greedy.use(quota, 30)
        assert wait == pytest.approx((greedy.used - BURST) / RATE, abs=0.1) and wait > 2
        assert took < AT_ONCE, "the answer comes at once"
        waits = asyncio.ensure_future(greedy.use(quota))
        assert all([await modest.use(quota) <= (0, AT_ONCE) for _ in range(10)]), "nobody else waits"
        shared, took = await another.use(quota)
        assert shared > wait and took < AT_ONCE, "it has used as much; its connection is not muted before"
        again, took = await waits
        assert wait - 0.5 < took < wait + 0.5, "nothing is read of the connection for as long as was told"
        assert again > 0


@pytest.mark.parametrize("quota", [PRODUCE, FETCH])
@pytest.mark.parametrize(
    ("entity", "others_too"),
    [
        ({"user": "ANONYMOUS"}, True),
        ({"user": "ANONYMOUS", "client_id": "greedy"}, False),
        ({"user": "ANONYMOUS", "client_id": None}, False),
        ({"user": "somebody else"}, None),
        ({"user": "somebody else", "client_id": "greedy"}, None),
    ],
    ids=["user", "user and client", "user and any client", "another user", "another user and client"],
)
async def test_who_shares_a_limit(
    simulated_cluster: SimulatedCluster, quota: str, entity: dict[str, str | None], others_too: bool | None
):
    """Two connections of one client, neither of which takes more than the burst; then one of another client."""
    cluster = simulated_cluster
    async with (
        limited(cluster, quota, **entity),
        Plain.to(cluster, "greedy") as first,
        Plain.to(cluster, "greedy") as second,
        Plain.to(cluster, "modest") as other,
    ):
        assert await first.use(quota, 40) <= (0, AT_ONCE)
        wait, _ = await second.use(quota, 40)
        assert (wait > 0) is (others_too is not None)
        wait, _ = await other.use(quota)
        assert (wait > 0) is (others_too is True)
