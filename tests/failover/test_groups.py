"""Groups of this library's consumers through the deaths of their coordinator and of the leaders that they read from."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]
from aiokafka.coordinator.assignors.range import RangePartitionAssignor  # type: ignore[import-untyped]

from ottla.broker.coordination import OFFSETS_TOPIC
from ottla.client import Consumer, ConsumerRecord, Producer, TopicPartition
from tests.compatibility.members import ConfluentMember
from tests.failover.cluster import NODES, Cluster, eventually
from tests.failover.group import SETTINGS, Member, Watch, coordinator_of, goes_on, watched, whole, writing

pytestmark = pytest.mark.asyncio(loop_scope="module")

PARTITIONS = 12
MANY = 50


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky", "uniform"])
async def test_ten_members_come_and_go_while_their_coordinator_and_a_leader_are_killed(
    cluster: Cluster, strategy: str
) -> None:
    topic = f"ten-{strategy}"
    watch = Watch(f"g-{topic}", topic, PARTITIONS)
    await cluster.create(topic, PARTITIONS)
    async with AsyncExitStack() as stack:
        acknowledged = await stack.enter_async_context(writing(cluster, topic, PARTITIONS))

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
        await whole(watch, members, "ten members")
        for victim_of in ("coordinator", "leader"):
            if victim_of == "coordinator":
                victim = await coordinator_of(cluster, watch.group)
            else:
                others = {part.leader for part in (await cluster.led(topic)).partitions}
                victim = (others - {await coordinator_of(cluster, watch.group)}).pop()
            leaving = [members.pop() for _ in range(3)]
            loop = asyncio.get_running_loop()
            began = loop.time()
            await asyncio.gather(cluster.kill(victim), *(each.leave() for each in leaving))
            joining = loop.create_task(enter(3))
            await goes_on(watch, acknowledged, f"{victim_of} killed")
            took = loop.time() - began
            assert took < 10.0
            print(f"{victim_of} killed: every partition goes on after {took:.2f} s")  # noqa: T201
            members += await joining
            await whole(watch, members, f"{victim_of} killed")
            await cluster.start(victim)
            await cluster.in_sync(OFFSETS_TOPIC)
            await goes_on(watch, acknowledged, f"{victim_of} is back")
        await whole(watch, members, "in the end")
        assert not watch.errors
        written = set(acknowledged)

        async def everything() -> bool:
            return written <= watch.processed.keys()

        await eventually(everything, "every record was processed")
    twice = sum(count - 1 for count in watch.processed.values())
    print(f"{len(acknowledged)} records, {twice} more than once, {watch.refused} commits refused")  # noqa: T201


class Counting(Member):
    """Counts what it is told of rebalances."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self.calls = 0

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self.calls += 1
        super().on_partitions_assigned(assigned)

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self.calls += 1


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_killing_every_node_in_turn_makes_no_rebalance(cluster: Cluster, protocol: str) -> None:
    """Kafka's rules ask for none: a member whose session outlives the failover finds its place with the next
    coordinator, in the same generation (KIP-848: epoch), and neither leaders nor replicas in sync matter to a group."""
    topic = f"rolling-{protocol}"
    watch = Watch(f"g-{topic}", topic, MANY)
    await cluster.create(topic, MANY)
    async with AsyncExitStack() as stack:
        acknowledged = await stack.enter_async_context(writing(cluster, topic, MANY, every=0.01))
        options = {"group_protocol": protocol, "session_timeout_ms": 20_000, "heartbeat_interval_ms": 500}
        members = [Counting(watch, cluster.bootstrap(), **options) for _ in range(MANY)]
        await asyncio.gather(*(stack.enter_async_context(member) for member in members))
        await whole(watch, members, "fifty members")
        await goes_on(watch, acknowledged, "fifty members")
        await stack.enter_async_context(watched(watch, cluster.bootstrap()))

        def found() -> list[tuple[int, frozenset[TopicPartition], int]]:
            return [
                (member.consumer.group_metadata().generation_id, member.consumer.assignment(), member.calls)
                for member in members
            ]

        before, refused = found(), watch.refused
        coordinators = {await coordinator_of(cluster, watch.group)}
        for node in NODES:
            await cluster.kill(node)
            took = await goes_on(watch, acknowledged, f"node {node} killed")
            print(f"{protocol}: node {node} killed, every partition goes on after {took:.2f} s")  # noqa: T201
            await commits_go_on(watch, f"node {node} killed")
            coordinators.add(await coordinator_of(cluster, watch.group))
            await cluster.start(node)
            await cluster.in_sync(topic)
            await cluster.in_sync(OFFSETS_TOPIC)
        assert len(coordinators) > 1, "the coordinator has moved"
        assert found() == before
        assert watch.refused == refused
        assert not watch.errors


async def commits_go_on(watch: Watch, what: str) -> None:
    """Of every partition, so of every member: the coordinator takes its generation for the present one."""
    before = dict(watch.committed)

    async def probe() -> bool:
        return all(watch.committed[tp] > place for tp, place in before.items())

    await eventually(probe, f"{what}: commits of every member")


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
        acknowledged = await stack.enter_async_context(writing(cluster, topic, PARTITIONS))
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
