"""Groups of this library's consumers through the deaths of their coordinator and of the leaders that they read from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]
from aiokafka.coordinator.assignors.range import RangePartitionAssignor  # type: ignore[import-untyped]

from ottla.broker.coordination import OFFSETS_TOPIC, partition_for
from ottla.client import Consumer, ConsumerRecord, Producer, TopicPartition
from tests.compatibility.members import ConfluentMember
from tests.failover.cluster import Cluster, eventually
from tests.failover.group import SETTINGS, Member, Watch, watched

pytestmark = pytest.mark.asyncio(loop_scope="module")

PARTITIONS = 12


@asynccontextmanager
async def writing(cluster: Cluster, topic: str, every: float = 0.004) -> AsyncIterator[list[bytes]]:
    """Values that were acknowledged, as long as the block lasts."""
    acknowledged: list[bytes] = []

    async def write(producer: Producer) -> None:
        number = 0
        while True:
            value = b"%d" % number
            future = await producer.send(topic, value, partition=number % PARTITIONS)
            future.add_done_callback(lambda done, value=value: acknowledged.append(value) if _fine(done) else None)
            number += 1
            await asyncio.sleep(every)

    async with Producer(bootstrap_servers=cluster.bootstrap(), linger_ms=0) as producer:
        task = asyncio.get_running_loop().create_task(write(producer), name="write")
        try:
            yield acknowledged
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await producer.flush()


def _fine(done: asyncio.Future[object]) -> bool:
    return not done.cancelled() and done.exception() is None


async def coordinator_of(cluster: Cluster, group: str) -> int:
    view = await cluster.led(OFFSETS_TOPIC)
    return view.partitions[partition_for(group, len(view.partitions))].leader


async def whole(members: Sequence[Member], what: str) -> None:
    """Every partition has one owner, and all members are in one generation."""

    async def probe() -> bool:
        owned = [tp.partition for member in members for tp in member.consumer.assignment()]
        generations = {member.consumer.group_metadata().generation_id for member in members}
        return sorted(owned) == list(range(PARTITIONS)) and len(generations) == 1

    await eventually(probe, f"{what}: one owner for each partition")


async def goes_on(watch: Watch, what: str) -> float:
    """Something new was processed from every partition; how many seconds that took."""
    loop = asyncio.get_running_loop()
    began, before = loop.time(), {index: max(places, default=-1) for index, places in watch.places.items()}

    async def probe() -> bool:
        return all(max(watch.places[index], default=-1) > before.get(index, -1) for index in range(PARTITIONS))

    await eventually(probe, f"{what}: records from every partition")
    return loop.time() - began


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky", "uniform"])
async def test_ten_members_come_and_go_while_their_coordinator_and_a_leader_are_killed(
    cluster: Cluster, strategy: str
) -> None:
    topic = f"ten-{strategy}"
    watch = Watch(f"g-{topic}", topic, PARTITIONS)
    await cluster.create(topic, PARTITIONS)
    async with AsyncExitStack() as stack:
        acknowledged = await stack.enter_async_context(writing(cluster, topic))

        def member() -> Member:
            if strategy == "uniform":
                options = {"group_protocol": "consumer", "group_remote_assignor": strategy}
            else:
                options = {"partition_assignment_strategy": strategy}
            return Member(watch, cluster.bootstrap(), **options)

        async def enter(count: int) -> list[Member]:
            return list(await asyncio.gather(*(stack.enter_async_context(member()) for _ in range(count))))

        members = await enter(10)
        await stack.enter_async_context(watched(watch, cluster.bootstrap()))
        await whole(members, "ten members")
        for victim_of in ("coordinator", "leader"):
            if victim_of == "coordinator":
                victim = await coordinator_of(cluster, watch.group)
            else:
                victim = await cluster.leader(topic, 0)
            leaving = [members.pop() for _ in range(3)]
            await asyncio.gather(cluster.kill(victim), *(each.leave() for each in leaving))
            joining = asyncio.get_running_loop().create_task(enter(3))
            took = await goes_on(watch, f"{victim_of} killed")
            assert took < 10.0
            print(f"{victim_of} killed: every partition goes on after {took:.2f} s")  # noqa: T201
            members += await joining
            await whole(members, f"{victim_of} killed")
            await cluster.start(victim)
            await cluster.in_sync(OFFSETS_TOPIC)
            await goes_on(watch, f"{victim_of} is back")
        await whole(members, "in the end")
        assert not watch.errors
        written = set(acknowledged)

        async def everything() -> bool:
            return written <= watch.processed.keys()

        await eventually(everything, "every record was processed")
    twice = sum(count - 1 for count in watch.processed.values())
    print(f"{len(acknowledged)} records, {twice} more than once, {watch.refused} commits refused")  # noqa: T201


async def drain(consumer: Consumer, count: int) -> list[ConsumerRecord]:
    got: list[ConsumerRecord] = []
    async with asyncio.timeout(30):
        while len(got) < count:
            for records in (await consumer.getmany(timeout_ms=500, max_records=count - len(got))).values():
                got += records
    return got


async def test_who_comes_back_reads_exactly_what_came_after_its_commit(cluster: Cluster) -> None:
    topic, before, after = "back", 100, 100_000
    await cluster.create(topic, 3)
    async with Producer(bootstrap_servers=cluster.bootstrap()) as producer:
        for number in range(before):
            await producer.send(topic, b"%d" % number, partition=number % 3)
        await producer.flush()
        options = {**SETTINGS, "bootstrap_servers": cluster.bootstrap(), "group_id": "back"}
        async with Consumer(topic, **options) as consumer:
            await drain(consumer, before)
        for number in range(before, before + after):
            await producer.send(topic, b"%d" % number, partition=number % 3)
        await producer.flush()
    victim = await coordinator_of(cluster, "back")
    await cluster.kill(victim)
    async with Consumer(topic, **options) as consumer:
        got = await drain(consumer, after)
        assert sorted(int(record.value) for record in got) == list(range(before, before + after))
        assert all(consumer.lag(tp) == 0 for tp in consumer.assignment())
        await consumer.commit()
        assert sum([await consumer.committed(tp) or 0 for tp in consumer.assignment()]) == before + after


async def test_a_group_of_this_library_and_aiokafka(cluster: Cluster) -> None:
    """Both lead in turn, since whoever joins first leads."""
    topic, total = "mixed", 600
    await cluster.create(topic, 6)
    async with Producer(bootstrap_servers=cluster.bootstrap()) as producer:
        for number in range(total):
            await producer.send(topic, b"%d" % number, partition=number % 6)
        await producer.flush()
    theirs = AIOKafkaConsumer(
        topic,
        bootstrap_servers=cluster.bootstrap(),
        group_id="mixed",
        auto_offset_reset="earliest",
        session_timeout_ms=6000,
        heartbeat_interval_ms=300,
        partition_assignment_strategy=[RangePartitionAssignor],
    )
    everything = {TopicPartition(topic, index) for index in range(6)}

    async def shared() -> bool:
        await asyncio.gather(theirs.getmany(timeout_ms=10), ours.getmany(timeout_ms=10))
        owned = [set(ours.assignment()), {TopicPartition(*tp) for tp in theirs.assignment()}]
        return all(len(each) == 3 for each in owned) and set.union(*owned) == everything

    options = {**SETTINGS, "bootstrap_servers": cluster.bootstrap(), "group_id": "mixed"}
    await theirs.start()
    try:
        async with Consumer(topic, **options) as ours:
            await eventually(shared, "a member of ours joins theirs")
        await theirs.stop()
        async with Consumer(topic, **options) as ours:
            theirs = AIOKafkaConsumer(
                topic,
                bootstrap_servers=cluster.bootstrap(),
                group_id="mixed",
                session_timeout_ms=6000,
                heartbeat_interval_ms=300,
                partition_assignment_strategy=[RangePartitionAssignor],
            )
            joining = asyncio.get_running_loop().create_task(theirs.start())
            while not joining.done():
                await ours.getmany(timeout_ms=50)
            await eventually(shared, "theirs joins a member of ours")
    finally:
        await theirs.stop()


@pytest.mark.parametrize("strategy", ["cooperative-sticky", "roundrobin"])
@pytest.mark.parametrize("leads", ["ours", "theirs"])
async def test_a_group_of_this_library_and_librdkafka(cluster: Cluster, strategy: str, leads: str) -> None:
    topic = f"both-{strategy}-{leads}"
    watch = Watch(f"g-{topic}", topic, PARTITIONS)
    await cluster.create(topic, PARTITIONS)
    settings = {"partition.assignment.strategy": strategy}

    def theirs() -> ConfluentMember:
        return ConfluentMember(cluster.bootstrap(), watch.group, topic, settings)

    async with AsyncExitStack() as stack:
        acknowledged = await stack.enter_async_context(writing(cluster, topic))
        ours = Member(watch, cluster.bootstrap(), partition_assignment_strategy=strategy)
        if leads == "ours":
            await stack.enter_async_context(ours)
            other = theirs()
        else:
            other = theirs()
            await eventually(lambda: _has(other, PARTITIONS), "librdkafka has everything")
            await stack.enter_async_context(ours)
        stack.push_async_callback(asyncio.to_thread, other.stop)

        async def shared() -> bool:
            mine = {tp.partition for tp in ours.consumer.assignment()}
            return len(mine) == PARTITIONS // 2 and mine | other.assigned == set(range(PARTITIONS))

        await eventually(shared, "both have half of it")
        written = set(acknowledged)

        async def everything() -> bool:
            return written <= watch.processed.keys() | {value for _, _, value in other.seen}

        await eventually(everything, "every record was processed")
        assert not watch.errors


async def _has(member: ConfluentMember, partitions: int) -> bool:
    return len(member.assigned) == partitions
