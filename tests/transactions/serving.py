"""A client of the transactional APIs of one broker, in short."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from kio.schema.errors import ErrorCode

from ottla.broker.replication import LeaderState, Partition
from ottla.broker.transactions import Producer, State, Transaction
from ottla.broker.transactions.records import Entry, decode
from ottla.records import decode_batch, iter_headers
from ottla.wire import Connection
from tests.broker.world import LISTENER, World

INIT, ADD, OFFSETS, END, FIND, LIST, DESCRIBE = 22, 24, 25, 26, 10, 66, 65
ID = "tid"
NONE = ErrorCode.none
NOBODY = Producer(-1, -1)


async def init(
    world: World,
    name: str = ID,
    *,
    expected: Producer = NOBODY,
    timeout_ms: int = 60_000,
    version: int = 5,
    **more: Any,
) -> tuple[ErrorCode, Producer]:
    values = {"transactional_id": name, "transaction_timeout": timeout_ms, "producer_id": expected.id}
    response = await world.call(INIT, version, {**values, "producer_epoch": expected.epoch, **more})
    return response.error_code, Producer(response.producer_id, response.producer_epoch)


async def begin(world: World, name: str = ID, **more: Any) -> Producer:
    """A producer that may begin a transaction."""
    while True:
        error, producer = await init(world, name, **more)
        if error is not ErrorCode.concurrent_transactions:
            assert error is NONE
            return producer
        await settled(world)


def add_values(producer: Producer, partitions: Iterable[tuple[str, int]], name: str = ID) -> dict[str, Any]:
    topics = [{"name": topic, "partitions": [index]} for topic, index in partitions]
    return {
        "v3_and_below_transactional_id": name,
        "v3_and_below_producer_id": producer.id,
        "v3_and_below_producer_epoch": producer.epoch,
        "v3_and_below_topics": topics,
    }


async def add(
    world: World, producer: Producer, *partitions: tuple[str, int], name: str = ID, version: int = 3
) -> ErrorCode:
    """As a client asks. The first error."""
    response = await world.call(ADD, version, add_values(producer, partitions or [("t", 0)], name))
    rows = [row for topic in response.results_by_topic_v3_and_below for row in topic.results_by_partition]
    return next((row.partition_error_code for row in rows if row.partition_error_code is not NONE), NONE)


def as_broker(node_id: int = 2) -> Connection:
    return Connection(LISTENER, "peer", principal=f"node:{node_id}")


async def add_as_leader(
    world: World, producer: Producer, *partitions: tuple[str, int], name: str = ID, verify: bool = False
) -> dict[tuple[str, int], ErrorCode]:
    """As the leader of the partitions asks (KIP-890)."""
    topics = [{"name": topic, "partitions": [index]} for topic, index in partitions or [("t", 0)]]
    row = {"transactional_id": name, "producer_id": producer.id, "producer_epoch": producer.epoch}
    values = {"transactions": [{**row, "verify_only": verify, "topics": topics}]}
    response = await world.call(ADD, 5, values, connection=as_broker())
    assert response.error_code is NONE
    return {
        (topic.name, each.partition_index): each.partition_error_code
        for topic in response.results_by_transaction[0].topic_results
        for each in topic.results_by_partition
    }


async def end(
    world: World, producer: Producer, commit: bool = True, *, name: str = ID, version: int = 5
) -> tuple[ErrorCode, Producer]:
    values = {"transactional_id": name, "producer_id": producer.id, "producer_epoch": producer.epoch}
    response = await world.call(END, version, {**values, "committed": commit})
    return response.error_code, Producer(getattr(response, "producer_id", -1), getattr(response, "producer_epoch", -1))


async def ended(world: World, producer: Producer, commit: bool = True, **more: Any) -> Producer:
    """The producer of the next transaction, when this one is complete."""
    error, following = await end(world, producer, commit, **more)
    assert error is NONE
    await settled(world)
    return following


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - stepping the loop until a background task has done its part
            await asyncio.sleep(0)


def state(world: World, name: str = ID) -> Transaction | None:
    shard = world.broker.transactions.shard_of(name)
    assert not isinstance(shard, ErrorCode)
    return shard.transactions.get(name)


async def settled(world: World, name: str = ID) -> None:
    """Until nothing of the id waits for markers."""

    def done() -> bool:
        found = state(world, name)
        return found is None or found.state not in (State.PREPARE_COMMIT, State.PREPARE_ABORT)

    await until(done)


def entries(partition: Partition) -> list[Entry]:
    """What stands in the log."""
    assert partition.log is not None
    data = partition.log.read(0, 1 << 20, up_to=partition.log_end_offset)
    found = []
    for at, _ in iter_headers(data):
        for record in decode_batch(data, at):
            assert record.key is not None
            entry = decode(record.key, record.value)
            assert entry is not None
            found.append(entry)
    return found


def states(partition: Partition, name: str = ID) -> list[str]:
    """The states that the id went through, by its log."""
    rows = [entry.value for entry in entries(partition) if entry.id == name]
    return ["tombstone" if value is None else value.state.label for value in rows]


def acknowledge(partition: Partition) -> None:
    """The follower has everything."""
    role = partition.role
    assert isinstance(role, LeaderState)
    role.followers[2].fetched(12, role.log_end, role.log_end, partition.host.now())
    partition.advance()
