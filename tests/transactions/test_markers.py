"""Transaction markers on their way to the leaders: moves, deleted topics, refusals, brokers that do not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.transactions import Producer, State, Transaction
from ottla.broker.transactions.markers import MAX_BACKOFF_S, MarkerQueue, Pending
from ottla.controller import Delta
from ottla.wire import ConnectionLost
from tests.broker.world import World, marker_answers
from tests.transactions.serving import NONE, add_as_leader, begin, end, settled, state, until

A, B, C = ("t", 0), ("t", 1), ("u", 0)


class Queue:
    """A queue whose leaders a test moves."""

    def __init__(self) -> None:
        self.leaders: dict[tuple[str, int], int] = {A: 1, B: 2, C: 1}
        self.finished: list[str] = []
        self.queue = MarkerQueue(
            lambda partition: self.leaders.get(partition), lambda done: self.finished.append(done.id)
        )

    def pending(self, name: str, *partitions: tuple[str, int]) -> Pending:
        transaction = Transaction(Producer(7, 1), State.PREPARE_COMMIT, 1000, 0, partitions=frozenset(partitions))
        made = Pending(name, transaction, object(), 3)
        self.queue.add(made)
        return made


def test_a_transaction_is_finished_when_every_partition_has_its_marker() -> None:
    world = Queue()
    world.pending("x", A, B, C)
    assert sorted(world.queue.brokers()) == [1, 2]
    first = world.queue.take(1, 10)
    assert [marker.partition for marker in first] == [A, C]
    for marker in first:
        world.queue.written(marker)
    assert world.finished == []
    (last,) = world.queue.take(2, 10)
    world.queue.written(last)
    world.queue.written(last)
    assert world.finished == ["x"] and len(world.queue) == 0


def test_a_leader_that_has_moved_is_not_asked() -> None:
    world = Queue()
    world.pending("x", A)
    world.leaders[A] = 2
    assert world.queue.take(1, 10) == []
    assert [marker.partition for marker in world.queue.take(2, 10)] == [A]


def test_what_is_refused_is_tried_again_later_and_later() -> None:
    world = Queue()
    world.pending("x", A)
    now, waited = 0.0, []
    for _ in range(12):
        markers = world.queue.take(1, 10)
        assert len(markers) == 1
        world.queue.failed(markers, now)
        assert world.queue.brokers() == []
        at = world.queue.next_at()
        assert at is not None
        waited.append(at - now)
        now = at
        world.queue.tick(now)
    assert waited[:5] == sorted(waited[:5]) and waited[0] < 0.05 and waited[-1] == pytest.approx(MAX_BACKOFF_S)


def test_nobody_leads_and_then_somebody_does() -> None:
    world = Queue()
    world.leaders[A] = -1
    world.pending("x", A)
    assert world.queue.brokers() == [] and len(world.queue) == 1
    world.leaders[A] = 2
    world.queue.leaders_changed()
    assert len(world.queue.take(2, 10)) == 1


def test_a_partition_that_is_no_more_needs_no_marker() -> None:
    world = Queue()
    world.pending("x", A, C)
    del world.leaders[C]
    (marker,) = world.queue.take(1, 10)
    world.queue.written(marker)
    assert world.finished == ["x"]
    world.leaders.clear()
    world.pending("y", A)
    assert world.finished == ["x", "y"]


def test_what_was_dropped_is_not_sent_and_not_finished() -> None:
    world = Queue()
    here, there = world.pending("x", A), world.pending("y", A)
    (first,) = world.queue.take(1, 1)
    here.dropped = there.dropped = True
    assert world.queue.take(1, 10) == []
    world.queue.failed([first], 0.0)
    world.queue.written(first)
    assert len(world.queue) == 0 and world.finished == []


def test_a_request_is_bounded() -> None:
    world = Queue()
    world.leaders = {("t", index): 1 for index in range(10)}
    world.pending("x", *world.leaders)
    assert [len(world.queue.take(1, 4)) for _ in range(4)] == [4, 4, 2, 0]


# The sender


async def prepared(world: World, *partitions: tuple[str, int]) -> Producer:
    producer = await begin(world)
    assert set((await add_as_leader(world, producer, *partitions)).values()) == {NONE}
    assert (await end(world, producer))[0] is NONE
    return producer


@pytest.mark.parametrize(
    "error",
    [
        ErrorCode.not_leader_or_follower,
        ErrorCode.not_enough_replicas_after_append,
        ErrorCode.invalid_producer_epoch,
        ErrorCode.transaction_coordinator_fenced,
        ErrorCode.unknown_topic_or_partition,
        ErrorCode.unknown_server_error,
    ],
)
async def test_a_marker_is_tried_until_it_is_written(world: World, error: ErrorCode) -> None:
    """Also after errors on which Kafka gives up and leaves the transaction prepared (KAFKA-19999)."""
    left = {("t", 0): 3, ("t", 1): 1}

    async def answer(node_id: int, key: int, request: Any) -> Mapping[str, Any]:
        def one(marker: Any, topic: str, index: int) -> ErrorCode:
            left[topic, index] -= 1
            return NONE if left[topic, index] < 0 else error

        return marker_answers(request, one)

    world.peers.answer = answer
    await world.coordinate_transactions()
    await prepared(world, ("t", 0), ("t", 1))
    await settled(world)
    assert left == {("t", 0): -1, ("t", 1): -1}, "and not again afterwards"


async def test_a_broker_that_does_not_answer(world: World) -> None:
    asked = 0
    write = world.peers.answer

    async def answer(node_id: int, key: int, request: Any) -> Mapping[str, Any]:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise ConnectionLost("gone")
        return await write(node_id, key, request)

    world.peers.answer = answer
    await world.coordinate_transactions()
    await prepared(world, ("t", 0))
    await settled(world)
    assert asked == 3


async def test_markers_follow_the_leader(world: World) -> None:
    """A leader that hangs is not waited for once it is fenced."""
    hanging = asyncio.get_running_loop().create_future()
    write = world.peers.answer

    async def answer(node_id: int, key: int, request: Any) -> Mapping[str, Any]:
        if node_id == 2:
            await hanging
        return await write(node_id, key, request)

    world.peers.answer = answer
    world.add_topic("led by 2", replicas=(1, 2), leader=2)
    await world.coordinate_transactions()
    await prepared(world, ("led by 2", 0))
    await until(lambda: any(node == 2 for node, _, _ in world.peers.calls))
    brokers = world.view.image.brokers
    world.update(brokers={**brokers, 2: replace(brokers[2], fenced=True)})
    topic = world.view.image.topics["led by 2"]
    moved = replace(topic, partitions={0: replace(topic.partitions[0], leader=3, leader_epoch=6)})
    world.update(topics={**world.view.image.topics, "led by 2": moved})
    hanging.set_exception(ConnectionLost("dropped"))
    world.broker.apply(world.view.image, Delta(brokers=frozenset({2}), partitions=frozenset({("led by 2", 0)})))
    await settled(world)
    assert [node for node, _, _ in world.peers.calls] == [2, 3]


async def test_a_topic_that_is_deleted_meanwhile(world: World) -> None:
    async def answer(node_id: int, key: int, request: Any) -> Mapping[str, Any]:
        return marker_answers(request, lambda *_: ErrorCode.unknown_topic_or_partition)

    world.peers.answer = answer
    world.add_topic("gone")
    await world.coordinate_transactions()
    await prepared(world, ("gone", 0))
    await until(lambda: len(world.peers.calls) > 1)
    found = state(world)
    assert found is not None and found.state is State.PREPARE_COMMIT
    topics = {name: topic for name, topic in world.view.image.topics.items() if name != "gone"}
    deleted = world.view.image.topics["gone"]
    world.update(topics=topics)
    world.broker.apply(world.view.image, Delta(deleted=(deleted,)))
    await settled(world)


async def test_transactions_share_a_request(world: World) -> None:
    held = asyncio.get_running_loop().create_future()
    write = world.peers.answer

    async def answer(node_id: int, key: int, request: Any) -> Mapping[str, Any]:
        await held
        return await write(node_id, key, request)

    world.peers.answer = answer
    await world.coordinate_transactions()
    names = [f"id-{number}" for number in range(20)]
    for name in names:
        producer = await begin(world, name)
        await add_as_leader(world, producer, ("t", 0), name=name)
        assert (await end(world, producer, name=name))[0] is NONE
    await until(lambda: len(world.peers.calls) == 4)
    held.set_result(None)
    for name in names:
        await settled(world, name)
    sizes = [len(request.markers) for _, _, request in world.peers.calls]
    assert sizes == [1, 1, 1, 1, 16]


async def test_requests_wait_a_moment_for_the_markers_of_the_last_transaction(world: World) -> None:
    """A producer would have to come again after its backoff."""
    held = asyncio.get_running_loop().create_future()
    write = world.peers.answer

    async def answer(node_id: int, key: int, request: Any) -> Mapping[str, Any]:
        await held
        return await write(node_id, key, request)

    world.peers.answer = answer
    await world.coordinate_transactions()
    producer = await prepared(world, ("t", 0))
    following = Producer(producer.id, producer.epoch + 1)
    adding = asyncio.ensure_future(add_as_leader(world, following))
    await until(lambda: bool(world.peers.calls))
    assert not adding.done()
    held.set_result(None)
    assert await adding == {("t", 0): NONE}


async def test_what_is_stuck_holds_nobody_up_for_long(world: World) -> None:
    async def answer(node_id: int, key: int, request: Any) -> Mapping[str, Any]:
        return marker_answers(request, lambda *_: ErrorCode.not_leader_or_follower)

    world.peers.answer = answer
    await world.coordinate_transactions()
    producer = await prepared(world, ("t", 0))
    following = Producer(producer.id, producer.epoch + 1)
    busy = {("t", 0): ErrorCode.concurrent_transactions}
    assert await add_as_leader(world, following) == busy
    answer_at_once, _ = world.start(26, 5, {"transactional_id": "tid", "producer_id": producer.id})
    await asyncio.sleep(0)
    assert answer_at_once.done()


async def test_what_metrics_tell(world: World) -> None:
    async def answer(node_id: int, key: int, request: Any) -> Mapping[str, Any]:
        return marker_answers(request, lambda *_: ErrorCode.not_leader_or_follower)

    write, world.peers.answer = world.peers.answer, answer
    await world.coordinate_transactions()
    assert world.broker.transactions.summary()[:3] == ({}, 0.0, 0)
    other = await begin(world, "other")
    await add_as_leader(world, other, name="other")
    world.now_ms += 2500
    await prepared(world, ("t", 0), ("t", 1))
    assert world.broker.transactions.summary()[:3] == ({"Ongoing": 1, "PrepareCommit": 1}, 2.5, 2)
    world.peers.answer = write
    await settled(world)
    assert world.broker.transactions.summary()[:3] == ({"Ongoing": 1, "CompleteCommit": 1}, 2.5, 0)
