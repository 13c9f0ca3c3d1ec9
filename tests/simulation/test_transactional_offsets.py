"""Consume, transform, produce: offsets that are committed with the records made of the input (KIP-447).

Members of a group copy every record, each in transactions of its own; their partitions change hands, coordinators die
and freeze. Whoever reads committed records finds every input once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.coordination import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, partition_for
from ottla.broker.groups.commits import Commits
from ottla.client import Consumer, FatalTransactionError, KafkaError, Producer, TopicPartition
from ottla.simulation import SimulatedCluster, leader_of, run
from ottla.simulation.cluster import Role

GROUP, INPUT, OUTPUT, PARTITIONS, SHARDS = "copiers", "in", "out", 4, 3
SETTINGS = {
    "group.initial.rebalance.delay.ms": "100",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "3000",
    "group.consumer.session.timeout.ms": "3000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "500",
    "offsets.topic.num.partitions": str(SHARDS),
    "transaction.state.log.num.partitions": str(SHARDS),
}
PROTOCOLS = ("classic", "consumer")


class Copier:
    """A process: it copies until it is killed, or is told to stop."""

    def __init__(self, cluster: SimulatedCluster, name: str, protocol: str) -> None:
        self._cluster = cluster
        self._name = name
        self._process, context = cluster.world.loop.spawn(name, cluster.world.home)
        self._stopping = False
        self._consumer = cluster.consumer(
            INPUT,
            group_id=GROUP,
            group_protocol=protocol,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed",
            session_timeout_ms=3000,
            heartbeat_interval_ms=500,
            request_timeout_ms=2000,
            max_poll_records=3,
        )
        self.task = cluster.world.loop.create_task(self._run(), name=name, context=context)

    def kill(self) -> None:
        self._cluster.world.loop.kill(self._process)
        self._cluster.world.network.leave(self._process, silently=False)

    def pause(self) -> None:
        self._cluster.world.loop.pause(self._process)

    def resume(self) -> None:
        self._cluster.world.loop.resume(self._process)

    async def stop(self) -> None:
        self._stopping = True
        async with asyncio.timeout(60):
            await self.task

    async def _run(self) -> None:
        async with self._consumer as consumer:
            while not self._stopping:
                try:
                    producer = self._cluster.producer(
                        transactional_id=self._name,
                        transaction_timeout_ms=5000,
                        request_timeout_ms=2000,
                        linger_ms=0,
                    )
                    async with producer:
                        await self._copy(consumer, producer)
                except FatalTransactionError:
                    await asyncio.sleep(0.1)
                except KafkaError:
                    await asyncio.sleep(0.1)

    async def _copy(self, consumer: Consumer, producer: Producer) -> None:
        while not self._stopping:
            got = await consumer.getmany(timeout_ms=200)
            if not got:
                continue
            try:
                async with producer.transaction():
                    for records in got.values():
                        for record in records:
                            await producer.send(OUTPUT, record.value, partition=record.partition)
                    ends = {where: records[-1].offset + 1 for where, records in got.items()}
                    await producer.send_offsets_to_transaction(ends, consumer.group_metadata())
            except FatalTransactionError:
                await self._rewind(consumer)
                raise
            except KafkaError:
                await self._rewind(consumer)

    async def _rewind(self, consumer: Consumer) -> None:
        """What was read is not copied, as far as anybody knows: go on from where the group is."""
        while consumer.assignment():
            try:
                await consumer.seek_to_committed()
            except KafkaError:
                await asyncio.sleep(0.1)
            else:
                return


async def copied(cluster: SimulatedCluster) -> Counter[bytes]:
    found: Counter[bytes] = Counter()
    wanted = [TopicPartition(OUTPUT, index) for index in range(PARTITIONS)]
    async with cluster.consumer(auto_offset_reset="earliest", isolation_level="read_committed") as reader:
        reader.assign(wanted)
        ends = await reader.end_offsets(wanted)
        async with asyncio.timeout(60):
            while any([await reader.position(where) < end for where, end in ends.items()]):
                for records in (await reader.getmany(timeout_ms=200)).values():
                    found.update(record.value for record in records)
    return found


Fault = Callable[[SimulatedCluster, list[Copier]], Callable[[], None]]


def kill(role: Role) -> Fault:
    def begin(cluster: SimulatedCluster, _copiers: list[Copier]) -> Callable[[], None]:
        victim = cluster.kill(role)
        return lambda: cluster.start(victim)

    return begin


def pause(role: Role) -> Fault:
    def begin(cluster: SimulatedCluster, _copiers: list[Copier]) -> Callable[[], None]:
        victim = cluster.pause(role)
        return lambda: cluster.resume(victim)

    return begin


def a_member_stands_still(_cluster: SimulatedCluster, copiers: list[Copier]) -> Callable[[], None]:
    """Others take over; when it goes on, it has a transaction open and records in its hands."""
    copiers[0].pause()
    return copiers[0].resume


GROUP_COORDINATOR = leader_of(OFFSETS_TOPIC, partition_for(GROUP, SHARDS))
TRANSACTION_COORDINATOR = leader_of(TRANSACTIONS_TOPIC, partition_for("copier-0", SHARDS))
FAULTS = {
    "the group's coordinator dies": kill(GROUP_COORDINATOR),
    "the group's coordinator freezes": pause(GROUP_COORDINATOR),
    "the transaction's coordinator dies": kill(TRANSACTION_COORDINATOR),
    "the leader of the output dies": kill(leader_of(OUTPUT, 0)),
    "a member stands still": a_member_stands_still,
}


async def story(protocol: str, fault: Fault) -> tuple[Counter[bytes], int]:
    total = 0
    async with SimulatedCluster(settings=SETTINGS) as cluster:
        for topic in (INPUT, OUTPUT):
            await cluster.create_topic(topic, PARTITIONS)
        async with cluster.producer(linger_ms=0) as writer:

            async def write(count: int) -> None:
                nonlocal total
                for number in range(total, total + count):
                    await writer.send_and_wait(INPUT, b"%d" % number, partition=number % PARTITIONS)
                total += count

            copiers = [Copier(cluster, f"copier-{number}", protocol) for number in range(2)]
            await write(20)
            await cluster.advance(2)
            end = fault(cluster, copiers)
            await write(20)
            await cluster.advance(6)
            end()
            copiers.append(Copier(cluster, "copier-2", protocol))
            await write(20)
            await cluster.advance(2)
            copiers.pop(0).kill()
            await write(20)
        async with cluster.consumer(group_id=GROUP, isolation_level="read_committed") as outsider:
            where = [TopicPartition(INPUT, index) for index in range(PARTITIONS)]

            async def all_committed() -> bool:
                return [await outsider.committed(each) for each in where] == [total // PARTITIONS] * PARTITIONS

            async with asyncio.timeout(90):
                while not await all_committed():  # noqa: ASYNC110
                    await asyncio.sleep(0.5)
            for copier in copiers:
                await copier.stop()
            return await copied(cluster), total


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_record_is_copied_once(protocol: str, fault: str) -> None:
    found, total = run(lambda: story(protocol, FAULTS[fault]), 1)
    assert found == Counter({b"%d" % number: 1 for number in range(total)})


def test_if_anybody_could_commit_a_record_would_be_copied_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stood still goes on with records that have another owner by then."""
    monkeypatch.setattr(Commits, "check_in_transaction", lambda *_: ErrorCode.none)
    found, total = run(lambda: story("classic", a_member_stands_still), 1)
    assert max(found.values()) > 1 and len(found) == total
