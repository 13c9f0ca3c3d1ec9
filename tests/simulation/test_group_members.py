"""Groups of this library's consumers in virtual time: their coordinator dies and freezes, and so do leaders."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from functools import partial

import pytest

from ottla.broker.coordination import OFFSETS_TOPIC, partition_for
from ottla.client import Consumer, ConsumerRecord, Producer, TopicPartition
from ottla.simulation import SimulatedCluster, current_world, leader_of, run
from ottla.simulation.cluster import Role
from tests.failover.group import Member, Watch, watched

PARTITIONS = 6
SHARDS = 5
SETTINGS = {
    "group.initial.rebalance.delay.ms": "200",
    "group.consumer.min.heartbeat.interval.ms": "1000",
    "group.consumer.heartbeat.interval.ms": "1000",
    "offsets.topic.num.partitions": str(SHARDS),
}
ONCE_A_SECOND = {"heartbeat_interval_ms": 1000}


def coordinator_of(group: str) -> Role:
    return leader_of(OFFSETS_TOPIC, partition_for(group, SHARDS))


def shared(members: list[Member]) -> bool:
    owned = [tp.partition for member in members for tp in member.consumer.assignment()]
    generations = {member.consumer.group_metadata().generation_id for member in members}
    return sorted(owned) == list(range(PARTITIONS)) and len(generations) == 1


async def write(producer: Producer, topic: str, first: int, count: int) -> None:
    for number in range(first, first + count):
        await producer.send_and_wait(topic, b"%d" % number, partition=number % PARTITIONS)


async def scenario(strategy: str, protocol: str = "classic") -> tuple[Watch, str, list[float]]:
    """Members come and go; coordinator killed, coordinator paused, leader killed. Gives the seconds that each took."""
    watch = Watch("g", "orders", PARTITIONS)
    stalls: list[float] = []
    async with SimulatedCluster(settings=SETTINGS) as cluster, AsyncExitStack() as stack:
        await cluster.create_topic("orders", PARTITIONS)
        producer = await stack.enter_async_context(cluster.producer(linger_ms=0))
        options = {"partition_assignment_strategy": strategy, "group_protocol": protocol, **ONCE_A_SECOND}

        async def enter() -> Member:
            rng = current_world().rng(f"member {next(numbers)}")
            return await stack.enter_async_context(Member(watch, cluster.bootstrap, rng=rng, **options))

        numbers = itertools.count()
        members: list[Member] = []
        while len(members) < 3:
            members += [await enter()]
        await stack.enter_async_context(watched(watch, cluster.bootstrap, current_world().rng("watch")))
        written = 60
        await write(producer, "orders", 0, written)
        for fault, role in (
            ("kill", coordinator_of("g")),
            ("pause", coordinator_of("g")),
            ("kill", leader_of("orders", 0)),
        ):
            await cluster.until(lambda: shared(members), "one owner for each partition")
            victim = cluster.kill(role) if fault == "kill" else cluster.pause(role)
            began = asyncio.get_running_loop().time()
            leaving = members.pop(0)
            await leaving.leave()
            await write(producer, "orders", written, 60)
            written += 60
            members.append(await enter())
            await cluster.until(partial(watch.has, written), "everything is processed", within=60)
            stalls.append(asyncio.get_running_loop().time() - began)
            if fault == "pause":
                cluster.resume(victim)
            else:
                cluster.start(victim)
            await cluster.until(lambda: cluster.full(OFFSETS_TOPIC), "every replica is in sync", within=30)
        await cluster.until(lambda: shared(members), "one owner for each partition")
        await asyncio.sleep(1.0)
        assert not watch.errors
    assert current_world().complaints == []
    return watch, current_world().trace.fingerprint, stalls


@pytest.mark.parametrize(
    ("protocol", "strategy"), [("classic", "range"), ("classic", "cooperative-sticky"), ("consumer", "range")]
)
@pytest.mark.parametrize("seed", range(2))
def test_a_group_goes_on_without_its_coordinator_and_without_a_leader(protocol: str, strategy: str, seed: int) -> None:
    """KIP-62, KIP-429, KIP-848."""
    watch, _, stalls = run(lambda: scenario(strategy, protocol), seed)
    assert set(watch.processed) == {b"%d" % number for number in range(240)}
    assert sum(watch.committed.values()) == 240
    assert max(stalls) < 20.0


def test_the_same_seed_gives_the_same_bytes() -> None:
    prints = {run(lambda: scenario("cooperative-sticky"), 3)[1] for _ in range(2)}
    assert len(prints) == 1


def test_a_consumer_that_comes_back_reads_exactly_what_came_after_its_commit() -> None:
    async def come_back() -> list[ConsumerRecord]:
        async with SimulatedCluster(settings=SETTINGS) as cluster:
            await cluster.create_topic("orders", PARTITIONS)
            options = {"group_id": "g", "auto_offset_reset": "earliest"}
            async with cluster.producer() as producer:
                await write(producer, "orders", 0, 30)
                async with cluster.consumer("orders", **options) as consumer:
                    for _ in range(20):
                        await consumer.getone()
                await write(producer, "orders", 30, 60)
                cluster.kill(coordinator_of("g"))
                async with cluster.consumer("orders", **options) as again:
                    return [await again.getone() for _ in range(70)]

    got = run(come_back, 1)
    assert len({record.value for record in got}) == 70


def test_a_program_that_fails_gets_the_record_again() -> None:
    async def fail(consumer: Consumer) -> bytes | None:
        seen: bytes | None = None
        with pytest.raises(RuntimeError):
            async with consumer:
                async for record in consumer:
                    seen = record.value
                    if record.offset == 3:
                        raise RuntimeError("the program could not process it")
        return seen

    async def try_twice() -> tuple[bytes | None, bytes | None, int | None]:
        async with SimulatedCluster(settings=SETTINGS) as cluster:
            await cluster.create_topic("orders", 1)
            async with cluster.producer() as producer:
                for number in range(6):
                    await producer.send_and_wait("orders", b"%d" % number, partition=0)
            options = {"group_id": "g", "auto_offset_reset": "earliest"}
            first = await fail(cluster.consumer("orders", **options))
            async with cluster.consumer("orders", **options) as consumer:
                return first, (await consumer.getone()).value, await consumer.committed(TopicPartition("orders", 0))

    assert run(try_twice, 1) == (b"3", b"3", 3)
