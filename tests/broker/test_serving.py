"""The handlers behind a real server: authentication of brokers, and what a bug of ours does to whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.replication import MECHANISM, ClientExchange, ClusterCredentials
from ottla.wire import ConnectionLost, KafkaConnection, KafkaServer
from tests.broker.world import LISTENER, World, batch


@pytest.fixture
async def port(world: World) -> AsyncIterator[int]:
    server = KafkaServer(world.broker.registry, on_error=lambda request, error: None)
    yield await server.start(asyncio.get_running_loop(), "127.0.0.1", 0, LISTENER)
    await server.stop()


async def dial(port: int) -> KafkaConnection:
    return await KafkaConnection.open("127.0.0.1", port, client_id="test", timeout=5)


async def test_produce_and_fetch_over_a_socket(world: World, port: int) -> None:
    world.add_topic("t")
    client = await dial(port)
    produced = await client.call(0, 12, world.produce_values("t", {0: batch(3)}, acks=-1), timeout=5)
    assert produced.responses[0].partition_responses[0].base_offset == 0
    values = world.fetch_values(17, {"t": [{"partition": 0, "fetch_offset": 0}]})
    fetched = await client.call(1, 17, values, timeout=5)
    assert bytes(fetched.responses[0].partitions[0].records)[16:] == batch(3)[16:]
    await client.close()


async def test_a_bug_of_ours_costs_one_connection(world: World, port: int) -> None:
    (partition,) = world.add_topic("t", replicas=(1, 2), isr=(1,))
    waiting, victim = await dial(port), await dial(port)
    values = world.fetch_values(12, {"t": [{"partition": 0, "fetch_offset": 0}]}, max_wait=60_000)
    poll = asyncio.ensure_future(waiting.call(1, 12, values, timeout=10))
    limits = world.broker.context.limits
    world.broker.context.limits = None  # type: ignore[assignment]
    with pytest.raises(ConnectionLost):
        await victim.call(0, 12, world.produce_values("t", {0: batch()}), timeout=5)
    assert partition.log_end_offset == 0
    world.broker.context.limits = limits
    assert (await world.produce("t", batch())).error_code is ErrorCode.none
    assert (await poll).responses[0].partitions[0].error_code is ErrorCode.none
    await waiting.close()
    await victim.close()


class TestBrokerAuthentication:
    @staticmethod
    async def authenticate(connection: KafkaConnection, secret: bytes) -> Any:
        hello = await connection.call(17, 1, {"mechanism": MECHANISM}, timeout=5)
        assert hello.error_code is ErrorCode.none
        exchange = ClientExchange(ClusterCredentials("cluster", 2, secret), 1, b"c" * 32)
        challenge = await connection.call(36, 2, {"auth_bytes": exchange.first()}, timeout=5)
        assert challenge.error_code is ErrorCode.none
        return await connection.call(36, 2, {"auth_bytes": exchange.second(challenge.auth_bytes)}, timeout=5)

    @staticmethod
    async def follow(world: World, connection: KafkaConnection) -> Any:
        values = world.fetch_values(
            17,
            {"t": [{"partition": 0, "fetch_offset": 0}]},
            replica_state={"replica_id": 2, "replica_epoch": 12},
        )
        return await connection.call(1, 17, values, timeout=5)

    async def test_with_the_secret(self, world: World, port: int) -> None:
        world.add_topic("t", replicas=(1, 2))
        connection = await dial(port)
        assert (await self.follow(world, connection)).error_code is ErrorCode.cluster_authorization_failed
        assert (await self.authenticate(connection, b"secret")).error_code is ErrorCode.none
        response = await self.follow(world, connection)
        assert response.error_code is ErrorCode.none
        assert response.responses[0].partitions[0].error_code is ErrorCode.none
        await connection.call(17, 1, {"mechanism": MECHANISM}, timeout=5)
        assert (await self.follow(world, connection)).error_code is ErrorCode.cluster_authorization_failed
        await connection.close()

    async def test_without_it(self, world: World, port: int) -> None:
        world.add_topic("t", replicas=(1, 2))
        connection = await dial(port)
        answer = await self.authenticate(connection, b"guess")
        assert answer.error_code is ErrorCode.sasl_authentication_failed
        again = await connection.call(36, 2, {"auth_bytes": b"x"}, timeout=5)
        assert again.error_code is ErrorCode.illegal_sasl_state
        assert (await self.follow(world, connection)).error_code is ErrorCode.cluster_authorization_failed
        await connection.close()

    async def test_clients_have_no_mechanism(self, world: World, port: int) -> None:
        connection = await dial(port)
        answer = await connection.call(17, 1, {"mechanism": "PLAIN"}, timeout=5)
        assert answer.error_code is ErrorCode.unsupported_sasl_mechanism
        await connection.close()
