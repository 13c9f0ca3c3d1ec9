"""A coordinator that cannot write: who waits is answered, and nothing is decided on what is not certain."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.coordination import TRANSACTIONS_TOPIC
from ottla.broker.replication import Partition, TopicSettings
from ottla.broker.transactions import Producer, State, shard, turns
from tests.broker.world import World, marker_answers
from tests.transactions.serving import (
    ID,
    INIT,
    NONE,
    acknowledge,
    add_as_leader,
    begin,
    end,
    init,
    settled,
    state,
    states,
    until,
)

UNAVAILABLE = ErrorCode.coordinator_not_available
BUSY = ErrorCode.concurrent_transactions


async def replicated(world: World, monkeypatch: pytest.MonkeyPatch) -> Partition:
    """The coordinator's partition with a follower that fetches when `acknowledge` says so."""
    monkeypatch.setattr(shard, "WRITE_TIMEOUT_S", 0.05)
    (partition,) = world.add_topic(TRANSACTIONS_TOPIC, replicas=(1, 2))
    acknowledge(partition)
    world.broker.apply(world.view.image)
    await world.broker.transactions.replayed()
    return partition


def want_replicas(partition: Partition, count: int) -> None:
    """Of two one is in sync; with `count` 2 nothing can be written."""
    assert partition.log is not None
    partition.configure(TopicSettings(partition.log.config, count))


async def test_what_is_not_replicated_in_time_is_not_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    partition = await replicated(world, monkeypatch)
    assert await asyncio.gather(*(init(world) for _ in range(3))) == [(UNAVAILABLE, (-1, -1))] * 3
    assert partition.log_end_offset == 1, "the second one was not decided on a state that is not certain"
    assert (await init(world))[0] is UNAVAILABLE, "nor is one that comes now"
    acknowledge(partition)
    found = state(world)
    assert found is not None and found.producer == (1000, 0)
    asking = asyncio.ensure_future(init(world))
    await until(lambda: partition.log_end_offset == 2)
    acknowledge(partition)
    assert await asking == (NONE, (1000, 1))


async def test_a_fence_that_fails_burns_no_epoch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """KAFKA-9666: with too few replicas in sync, InitProducerId could be asked until the epochs were used up."""
    (partition,) = await world.coordinate_transactions(replicas=(1, 2), isr=(1,))
    producer = await begin(world)
    await add_as_leader(world, producer)
    want_replicas(partition, 2)
    for _ in range(50):
        assert (await init(world))[0] is UNAVAILABLE
    found = state(world)
    assert found is not None and (found.state, found.producer) == (State.ONGOING, producer)
    want_replicas(partition, 1)
    assert (await init(world))[0] is BUSY
    await settled(world)
    assert await init(world) == (NONE, (1000, 2))
    assert states(partition) == ["Empty", "Ongoing", "PrepareAbort", "CompleteAbort", "Empty"]


async def test_a_transaction_that_cannot_be_timed_out_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "RETRY_S", 0.02)
    (partition,) = await world.coordinate_transactions(replicas=(1, 2), isr=(1,))
    producer = await begin(world, timeout_ms=100)
    await add_as_leader(world, producer)
    world.now_ms += 100
    want_replicas(partition, 2)
    found = world.broker.transactions.shard_of(ID)
    assert not isinstance(found, ErrorCode)
    found.tick(ID)
    await asyncio.sleep(0)
    assert states(partition)[-1] == "Ongoing"
    want_replicas(partition, 1)
    await until(lambda: states(partition)[-1] == "CompleteAbort")


async def test_a_completion_that_cannot_be_written_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "RETRY_S", 0.02)
    (partition,) = await world.coordinate_transactions(replicas=(1, 2), isr=(1,))
    producer = await begin(world)
    await add_as_leader(world, producer)
    write = world.peers.answer

    async def answer(node_id: int, key: int, request: Any) -> Mapping[str, Any]:
        want_replicas(partition, 2)
        return await write(node_id, key, request)

    world.peers.answer = answer
    assert (await end(world, producer))[0] is NONE
    await until(lambda: bool(world.peers.calls))
    await asyncio.sleep(0.05)
    found = state(world)
    assert found is not None and found.state is State.PREPARE_COMMIT
    want_replicas(partition, 1)
    await settled(world)
    assert states(partition)[-1] == "CompleteCommit"
    assert len(world.peers.calls) == 1, "the partitions know already"


async def test_the_record_of_a_transaction_with_too_many_partitions(world: World) -> None:
    """Before it cannot be ended any more."""
    world.add_topic("wide", 200)
    world.set_config("topic", TRANSACTIONS_TOPIC, max_message_bytes="700")
    (partition,) = await world.coordinate_transactions(replicas=(1, 2), isr=(1,))
    producer = await begin(world)
    added = 0
    for index in range(200):
        error = (await add_as_leader(world, producer, ("wide", index)))["wide", index]
        if error is not NONE:
            break
        added += 1
    assert error is ErrorCode.unknown_server_error and 20 < added < 120
    assert (await end(world, producer))[0] is NONE
    await settled(world)
    assert states(partition)[-1] == "CompleteCommit"


async def test_one_who_has_gone_takes_his_turn_along(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    partition = await replicated(world, monkeypatch)
    first, _ = world.start(INIT, 5, {"transactional_id": ID, "transaction_timeout": 1000})
    second, _ = world.start(INIT, 5, {"transactional_id": ID, "transaction_timeout": 1000})
    await until(lambda: partition.log_end_offset == 1)
    second.cancel()
    await asyncio.sleep(0)
    acknowledge(partition)
    await first
    await asyncio.sleep(0)
    assert partition.log_end_offset == 1


async def test_too_many_wait_for_one_record(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_WAITING", 5)
    partition = await replicated(world, monkeypatch)
    asked = [asyncio.ensure_future(init(world)) for _ in range(8)]
    await until(lambda: partition.log_end_offset == 1)
    await asyncio.sleep(0)
    assert sum(each.done() for each in asked) == 2
    for _ in range(6):
        acknowledge(partition)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [error for error, _ in await asyncio.gather(*asked)] == [NONE] * 6 + [UNAVAILABLE] * 2


async def test_a_shard_whose_log_cannot_be_read_serves_nobody(world: World) -> None:
    await world.coordinate_transactions()
    found = world.broker.transactions.shard_of(ID)
    assert not isinstance(found, ErrorCode)
    found.failed = True
    assert (await init(world))[0] is UNAVAILABLE


async def test_markers_of_what_another_coordinator_sees_to_are_dropped(world: World) -> None:
    async def nobody(node_id: int, key: int, request: Any) -> Mapping[str, Any]:
        return marker_answers(request, lambda *_: ErrorCode.not_leader_or_follower)

    world.peers.answer = nobody
    (partition,) = await world.coordinate_transactions(replicas=(1, 2), isr=(1,))
    producer = await begin(world)
    await add_as_leader(world, producer)
    assert (await end(world, producer))[0] is NONE
    await until(lambda: len(world.peers.calls) > 1)
    assert partition.image is not None
    partition.become_follower(replace(partition.image, leader=2))
    await asyncio.sleep(0)
    count = len(world.peers.calls)
    await asyncio.sleep(0.1)
    assert len(world.peers.calls) <= count + 1
    assert (await end(world, Producer(1000, 1)))[0] is ErrorCode.not_coordinator
