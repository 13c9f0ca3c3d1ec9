"""`request_percentage`: whoever takes too much of the broker's time is told to wait, whatever it asks for (KIP-124)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from ottla.controller import CLIENT_QUOTA, CreateTopics, CreateTopicsResponse, TopicResult
from ottla.controller.metadata.client_quotas import entity_name
from ottla.wire import KafkaConnection, KafkaServer
from ottla.wire.schema import encode, request_type
from tests.broker.world import LISTENER, World, batch

NONE = timedelta(0)


@pytest.fixture
async def port(world: World) -> AsyncIterator[int]:
    """A server for whose clients called "busy" every look at the timer costs half a second, of which they have 1%."""
    world.add_topic("t")
    world.tick_s = 0.5
    quota = {(CLIENT_QUOTA, entity_name([("client-id", "busy")])): {"request_percentage": "1"}}
    world.update(configs={**world.view.image.configs, **quota})
    world.broker.apply(world.view.image)
    server = KafkaServer(world.broker.registry)
    yield await server.start(asyncio.get_running_loop(), "127.0.0.1", 0, LISTENER)
    await server.stop(grace_s=0)


@asynccontextmanager
async def dial(port: int, client_id: str) -> AsyncIterator[KafkaConnection]:
    connection = await KafkaConnection.open("127.0.0.1", port, client_id=client_id, timeout=5)
    try:
        yield connection
    finally:
        connection.abort()


Ask = Callable[[World, KafkaConnection], Awaitable[Any]]


def produce(world: World, client: KafkaConnection) -> Awaitable[Any]:
    return client.call(0, 12, world.produce_values("t", {0: batch()}, acks=-1), timeout=5)


def fetch(world: World, client: KafkaConnection) -> Awaitable[Any]:
    values = world.fetch_values(17, {"t": [{"partition": 0, "fetch_offset": 0}]})
    return client.call(1, 17, values, timeout=5)


def fetch_and_wait(world: World, client: KafkaConnection) -> Awaitable[Any]:
    values = world.fetch_values(17, {"t": [{"partition": 0, "fetch_offset": 0}]}, max_wait=50, min_bytes=1 << 20)
    return client.call(1, 17, values, timeout=5)


def list_offsets(_world: World, client: KafkaConnection) -> Awaitable[Any]:
    rows = [{"name": "t", "partitions": [{"partition_index": 0, "timestamp": -1}]}]
    return client.call(2, 7, {"replica_id": -1, "topics": rows}, timeout=5)


def create_topic(world: World, client: KafkaConnection) -> Awaitable[Any]:
    world.controller.answers[CreateTopics] = lambda _: CreateTopicsResponse(topics=(TopicResult(name="u"),))
    topics = [{"name": "u", "num_partitions": 1, "replication_factor": 1}]
    return client.call(19, 7, {"topics": topics, "timeout": 1000, "validate_only": True}, timeout=5)


@pytest.mark.parametrize("ask", [produce, fetch, fetch_and_wait, list_offsets, create_topic])
async def test_who_takes_too_much_time_is_told_to_wait(world: World, port: int, ask: Ask) -> None:
    async with dial(port, "busy") as busy, dial(port, "other") as other:
        answer = await ask(world, busy)
        # Half a second or more, of which 1% are its own, the first tenth of a second once: 11 s are the longest wait.
        assert answer.throttle_time == timedelta(seconds=11)
        assert (await ask(world, other)).throttle_time == NONE


async def test_it_is_not_listened_to_meanwhile(world: World, port: int) -> None:
    async with dial(port, "busy") as busy, dial(port, "other") as other:
        await fetch(world, busy)
        again = asyncio.ensure_future(fetch(world, busy))
        for _ in range(3):
            await fetch(world, other)
        assert not again.done()
        again.cancel()


async def test_without_acks_it_is_charged_as_well(world: World, port: int) -> None:
    async with dial(port, "busy") as busy:
        connected = world.timer_s
        values = world.produce_values("t", {0: batch()}, acks=0)
        busy.send(0, 12, [encode(request_type(0, 12), values)])
        again = asyncio.ensure_future(fetch(world, busy))
        async with dial(port, "other") as other:
            await fetch(world, other)
        assert world.timer_s > connected and not again.done()
        again.cancel()


async def test_without_the_quota_nobody_looks_at_the_timer(world: World, port: int) -> None:
    world.update(configs={})
    world.broker.apply(world.view.image)
    before = world.timer_s
    async with dial(port, "busy") as busy:
        assert (await produce(world, busy)).throttle_time == NONE
    assert world.timer_s == before
