"""What programs do with a consumer in a group, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.coordination import OFFSETS_TOPIC, partition_for
from ottla.client import (
    BrokerResponseError,
    CommitFailedError,
    Consumer,
    ConsumerRebalanceListener,
    FencedInstanceIdError,
    IllegalStateError,
    InvalidSessionTimeoutError,
    NewTopic,
    OffsetAndMetadata,
    SubscriptionPattern,
    TopicPartition,
)
from ottla.simulation import SimulatedCluster, leader_of, run

SETTINGS = {
    "group.initial.rebalance.delay.ms": "100",
    "group.consumer.min.heartbeat.interval.ms": "1000",
    "group.consumer.heartbeat.interval.ms": "1000",
    "offsets.topic.num.partitions": "3",
}
TP, OTHER = TopicPartition("orders", 0), TopicPartition("orders", 1)
OPTIONS: dict[str, Any] = {
    "group_id": "g",
    "auto_offset_reset": "earliest",
    "heartbeat_interval_ms": 500,
    "session_timeout_ms": 6000,
}
PROTOCOLS = pytest.mark.parametrize("protocol", ["classic", "consumer"])


def simulate(scenario: Callable[[SimulatedCluster], Awaitable[Any]]) -> Any:
    """Run it on a cluster with a topic of two partitions, five records in each."""

    async def whole() -> Any:
        async with SimulatedCluster(settings=SETTINGS) as cluster:
            await cluster.create_topic("orders", 2)
            await write(cluster, "orders", 0, 10)
            return await scenario(cluster)

    return run(whole, 1)


async def write(cluster: SimulatedCluster, topic: str, first: int, count: int) -> None:
    async with cluster.producer(linger_ms=0) as producer:
        for number in range(first, first + count):
            await producer.send_and_wait(topic, b"%d" % number, partition=number % 2)


async def read(consumer: Consumer, count: int) -> list[int]:
    async with asyncio.timeout(60):
        return [int((await consumer.getone()).value) for _ in range(count)]


@PROTOCOLS
def test_automatic_commits_cover_what_the_program_came_back_from(protocol: str) -> None:
    async def scenario(cluster: SimulatedCluster) -> Any:
        options = {**OPTIONS, "group_protocol": protocol, "auto_commit_interval_ms": 1000}
        async with cluster.consumer("orders", **options) as consumer:
            got = await consumer.getmany(TP, timeout_ms=5000)
            await cluster.advance(3)
            during = await consumer.committed(TP)
            await consumer.getmany(TP)
            await cluster.advance(2)
            return len(got[TP]), during, await consumer.committed(TP)

    assert simulate(scenario) == (5, 0, 5)


def test_the_broker_resolves_a_subscription_pattern_and_its_coordinator_may_die() -> None:
    """KIP-848: whole names, the syntax of RE2, topics that are made later, and another coordinator."""

    async def scenario(cluster: SimulatedCluster) -> None:
        await cluster.create_topic("orders-eu", 1)
        await cluster.create_topic("my-orders", 1)
        async with cluster.consumer(group_protocol="consumer", **OPTIONS) as consumer:
            consumer.subscribe(pattern=SubscriptionPattern(r"orders(-\pL+)?"))
            await cluster.until(lambda: len(consumer.assignment()) == 3, "it has all that match")
            assert consumer.subscription() == {"orders", "orders-eu"}
            assert sorted(await read(consumer, 10)) == list(range(10))
            await consumer.commit()
            cluster.kill(leader_of(OFFSETS_TOPIC, partition_for("g", 3)))
            async with cluster.admin() as admin:
                await admin.create_topics([NewTopic("orders-us", 2, 2)])
            await cluster.until(lambda: len(consumer.assignment()) == 5, "it has the new topic too")
            consumer.subscribe(["my-orders"])
            await cluster.until(
                lambda: consumer.assignment() == {TopicPartition("my-orders", 0)}, "names take the place of a pattern"
            )
            consumer.subscribe(pattern=SubscriptionPattern("orders-us"))
            await cluster.until(lambda: len(consumer.assignment()) == 2, "and a pattern that of names")

    simulate(scenario)


def test_a_subscription_pattern_that_is_none() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        consumer = cluster.consumer(group_protocol="consumer", **OPTIONS)
        consumer.subscribe(pattern=SubscriptionPattern("(?=a)b"))
        with pytest.raises(BrokerResponseError) as told:
            await consumer.start()
        assert told.value.code is ErrorCode.invalid_regular_expression and "(?=a)b" in str(told.value)
        classic = cluster.consumer(**OPTIONS)
        with pytest.raises(ValueError, match="group_protocol"):
            classic.subscribe(pattern=SubscriptionPattern("a"))

    simulate(scenario)


@PROTOCOLS
def test_a_pattern_finds_topics_that_are_made_later(protocol: str) -> None:
    async def scenario(cluster: SimulatedCluster) -> Any:
        consumer = cluster.consumer(**OPTIONS, group_protocol=protocol, metadata_max_age_ms=2000)
        consumer.subscribe(pattern="ord")
        async with consumer:
            before = sorted(await read(consumer, 10))
            await cluster.create_topic("ordered", 2)
            await cluster.create_topic("disorder", 2)
            await write(cluster, "ordered", 10, 4)
            return before, sorted(await read(consumer, 4)), consumer.subscription()

    assert simulate(scenario) == (list(range(10)), [10, 11, 12, 13], {"orders", "ordered"})


@PROTOCOLS
def test_a_static_member_comes_back_without_a_rebalance(protocol: str) -> None:
    """KIP-345."""

    async def scenario(cluster: SimulatedCluster) -> Any:
        options = {**OPTIONS, "group_protocol": protocol}
        async with cluster.consumer("orders", **options, group_instance_id="one") as one:
            async with cluster.consumer("orders", **options, group_instance_id="two") as two:
                await cluster.until(lambda: len(one.assignment()) == len(two.assignment()) == 1, "shared")
                had = two.assignment()
            generation = one.group_metadata().generation_id
            await cluster.advance(2)
            async with cluster.consumer("orders", **options, group_instance_id="two") as again:
                await cluster.until(lambda: again.assignment() == had, "it is back")
                await cluster.advance(2)
                return generation == one.group_metadata().generation_id, len(one.assignment())

    assert simulate(scenario) == (True, 1)


def test_the_older_of_two_consumers_with_one_instance_id_is_told() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        options = {**OPTIONS, "group_instance_id": "one"}
        async with cluster.consumer("orders", **options) as old, cluster.consumer("orders", **options) as new:
            await read(new, 10)
            for _ in range(2):
                with pytest.raises(FencedInstanceIdError, match="attempts"):
                    while True:
                        await old.getmany(timeout_ms=1000)

    simulate(scenario)


class Notes(ConsumerRebalanceListener):
    """Writes down what it is told, and goes on from offset 3 of whatever it is given."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.consumer: Consumer | None = None

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self.told.append(("assigned", len(assigned)))
        assert self.consumer is not None
        for tp in assigned:
            self.consumer.seek(tp, 3)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self.told.append(("revoked", len(revoked)))
        assert self.consumer is not None
        await self.consumer.commit()

    def on_partitions_lost(self, lost: set[TopicPartition]) -> None:
        self.told.append(("lost", len(lost)))


@PROTOCOLS
def test_a_listener_may_seek_and_commit(protocol: str) -> None:
    async def scenario(cluster: SimulatedCluster) -> Any:
        notes = Notes()
        notes.consumer = consumer = cluster.consumer(**OPTIONS, group_protocol=protocol, enable_auto_commit=False)
        consumer.subscribe(["orders"], listener=notes)
        async with consumer:
            got = sorted(await read(consumer, 4))
        async with cluster.admin() as admin:
            return notes.told, got, {tp: at.offset for tp, at in (await admin.list_consumer_group_offsets("g")).items()}

    assert simulate(scenario) == ([("assigned", 2), ("revoked", 2)], [6, 7, 8, 9], {TP: 5, OTHER: 5})


@PROTOCOLS
def test_a_program_that_is_too_slow_loses_its_partitions_and_cannot_commit(protocol: str) -> None:
    """KIP-62."""

    async def scenario(cluster: SimulatedCluster) -> Any:
        notes = Notes()
        options = {**OPTIONS, "group_protocol": protocol, "max_poll_interval_ms": 4000}
        notes.consumer = slow = cluster.consumer(**options, enable_auto_commit=False)
        slow.subscribe(["orders"], listener=notes)
        async with slow:
            await read(slow, 1)
            async with cluster.consumer("orders", **options) as other:
                await cluster.until(lambda: len(other.assignment()) == 2, "the other has all")
                with pytest.raises(CommitFailedError) as caught:
                    await slow.commit({TP: 4, OTHER: 4})
                polling = asyncio.get_running_loop().create_task(read(other, 100))
                await slow.getmany(timeout_ms=100)
                await cluster.until(lambda: len(slow.assignment()) == 1, "it is back")
                polling.cancel()
            return "lost" in dict(notes.told), caught.value.partition in (TP, OTHER)

    assert simulate(scenario) == (True, True)


def test_without_a_subscription_the_program_assigns_itself_and_commits() -> None:
    async def scenario(cluster: SimulatedCluster) -> Any:
        async with cluster.consumer(**OPTIONS, enable_auto_commit=False) as consumer:
            with pytest.raises(IllegalStateError):
                await consumer.getone(TP)
            consumer.assign([TP, OTHER])
            consumer.pause(OTHER)
            first = await read(consumer, 5)
            await consumer.commit({TP: OffsetAndMetadata(3, "half way", 0)})
            lag = consumer.lag(TP)
            assert await consumer.seek_to_committed(TP) == {TP: 3}
            again = await read(consumer, 2)
            with pytest.raises(IllegalStateError):
                consumer.subscribe(["orders"])
            noted = await consumer.committed_metadata(TP)
            await consumer.commit_nowait({OTHER: 2})
            consumer.resume(OTHER)
            assert await consumer.committed(OTHER) == 2
        async with cluster.consumer(**OPTIONS) as consumer:
            consumer.assign([OTHER])
            return first, lag, again, noted, await read(consumer, 3)

    first, lag, again, noted, rest = simulate(scenario)
    assert (first, lag, again) == ([0, 2, 4, 6, 8], 0, [6, 8])
    assert noted == OffsetAndMetadata(3, "half way", 0)
    assert rest == [5, 7, 9]


@PROTOCOLS
def test_subscriptions_change_and_end(protocol: str) -> None:
    async def scenario(cluster: SimulatedCluster) -> Any:
        await cluster.create_topic("more", 2)
        await write(cluster, "more", 10, 2)
        async with cluster.consumer("orders", **OPTIONS, group_protocol=protocol) as consumer:
            await read(consumer, 10)
            consumer.subscribe(["more"])
            got = sorted(await read(consumer, 2))
            assert not await consumer.getmany()
            topics = {tp.topic for tp in consumer.assignment()}
            consumer.unsubscribe()
            await cluster.until(lambda: not consumer.assignment(), "nothing is assigned")
            await cluster.until(lambda: consumer.group_metadata().generation_id == -1, "it has left")
            await cluster.advance(1)
            async with cluster.admin() as admin:
                described = (await admin.describe_consumer_groups(["g"]))["g"]
                offsets = await admin.list_consumer_group_offsets("g")
            consumer.assign([TP])
            await consumer.seek_to_beginning(TP)
            return got, topics, described.members, sorted(at.offset for at in offsets.values()), await read(consumer, 1)

    assert simulate(scenario) == ([10, 11], {"more"}, (), [1, 1, 5, 5], [0])


def test_by_duration_begins_so_long_ago() -> None:
    """KIP-1106."""

    async def scenario(cluster: SimulatedCluster) -> Any:
        await cluster.advance(100)
        await write(cluster, "orders", 10, 2)
        options = {**OPTIONS, "auto_offset_reset": "by_duration:PT1M", "clock": cluster.world.wall_clock_ms}
        async with cluster.consumer("orders", **options) as consumer:
            recent = sorted(await read(consumer, 2))
        await cluster.advance(100)
        async with cluster.consumer("orders", **{**options, "group_id": "late"}) as consumer:
            return recent, [await consumer.position(tp) for tp in (TP, OTHER)]

    assert simulate(scenario) == ([10, 11], [6, 6])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"session_timeout_ms": 1000}, InvalidSessionTimeoutError),
        ({"group_protocol": "consumer", "group_remote_assignor": "fair"}, BrokerResponseError),
    ],
)
def test_what_keeps_a_consumer_out_is_told_at_once(options: dict[str, Any], error: type[BrokerResponseError]) -> None:
    async def scenario(cluster: SimulatedCluster) -> BrokerResponseError:
        with pytest.raises(error) as caught:
            async with cluster.consumer("orders", **{**OPTIONS, **options}):
                pass
        return caught.value

    found = simulate(scenario)
    assert found.broker in (1, 2, 3)
    assert found.attempts == 1
    assert "group 'g'" in str(found)


def test_a_listener_that_fails_is_not_forgotten() -> None:
    class Failing(ConsumerRebalanceListener):
        def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
            raise RuntimeError("out of memory")

    async def scenario(cluster: SimulatedCluster) -> Any:
        consumer = cluster.consumer(**OPTIONS)
        consumer.subscribe(["orders"], listener=Failing())
        with pytest.raises(RuntimeError):
            async with consumer:
                await consumer.getone()

    simulate(scenario)
