"""Row 9 for transactions: a message of each kind is held for seconds, and then arrives, is lost, arrives twice, or was
not answered. Meanwhile somebody consumes, transforms and produces."""

from __future__ import annotations

import asyncio

import pytest

from ottla.client import KafkaError, Producer, TopicPartition
from ottla.simulation import SimulatedCluster, run
from ottla.simulation.messages import Message
from tests.simulation.matrix.test_09_held_messages import finish

SETTINGS = {"offsets.topic.num.partitions": "1", "transaction.state.log.num.partitions": "1"}
GROUP, SOURCE, PARTITIONS = "copiers", TopicPartition("in", 0), 3
TARGETS = [TopicPartition("out", index) for index in range(PARTITIONS)]
NAMES = {
    1: ("InitProducerId", "AddPartitionsToTxn", "AddOffsetsToTxn", "TxnOffsetCommit", "EndTxn", "WriteTxnMarkers"),
    2: ("InitProducerId", "AddPartitionsToTxn", "TxnOffsetCommit", "EndTxn", "WriteTxnMarkers", "Produce"),
}
TRANSACTIONS = 3
"""Of one producer; then another one starts."""


class Copier:
    """Writes the number that the group has come to into every partition, and commits the next one with it, at the
    second try. A producer of the second version gives up requests before they are let go. `done`: commits that it was
    told of."""

    def __init__(self, cluster: SimulatedCluster, version: int) -> None:
        self.done = 0
        self._cluster = cluster
        self._options = {"transaction_version": version, "request_timeout_ms": 1000 if version > 1 else 5000}
        self._stopping = False

    def stop(self) -> None:
        self._stopping = True

    async def run(self) -> None:
        while not self._stopping:
            try:
                await self._live()
            except KafkaError:
                await asyncio.sleep(0.1)

    async def _live(self) -> None:
        producer = self._cluster.producer(transactional_id="copier", linger_ms=0, **self._options)
        async with producer:
            number = await committed(self._cluster)
            for _ in range(TRANSACTIONS):
                await producer.begin_transaction()
                await self._copy(producer, number)
                await producer.abort_transaction()
                async with producer.transaction():
                    await self._copy(producer, number)
                number += 1
                self.done += 1

    async def _copy(self, producer: Producer, number: int) -> None:
        for where in TARGETS:
            await producer.send_and_wait(where.topic, b"%d" % number, partition=where.partition)
            await asyncio.sleep(0.05)
        await producer.send_offsets_to_transaction({SOURCE: number + 1}, GROUP)


async def committed(cluster: SimulatedCluster) -> int:
    """Where the group is, whatever transaction has yet to end."""
    options = {"isolation_level": "read_committed", "enable_auto_commit": False}
    async with cluster.consumer(group_id=GROUP, **options) as consumer:
        consumer.assign([SOURCE])
        found = await consumer.committed(SOURCE)
        return 0 if found is None else found


async def read(cluster: SimulatedCluster) -> list[list[int]]:
    """What a reader of committed records gets of each partition."""
    found: dict[TopicPartition, list[int]] = {where: [] for where in TARGETS}
    async with cluster.consumer(auto_offset_reset="earliest", isolation_level="read_committed") as reader:
        reader.assign(TARGETS)
        ends = await reader.end_offsets(TARGETS)
        async with asyncio.timeout(30):
            while any([await reader.position(where) < end for where, end in ends.items()]):
                for where, records in (await reader.getmany(timeout_ms=200)).items():
                    found[where] += [int(record.value) for record in records]
    return list(found.values())


def worst(message: Message) -> bool:
    """Of what ends transactions that which commits: the last field, before no tagged ones."""
    return message.response or message.names[0] != "EndTxn" or bool(message.body[-2])


def none_is_open(cluster: SimulatedCluster) -> bool:
    leaders = [cluster.partition_on(cluster.leader(*where), *where) for where in TARGETS]
    return all(each is not None and each.last_stable_offset == each.log_end_offset for each in leaders)


# A client of the first version cannot be told from its own next transaction: what comes late is not for it.
@pytest.mark.parametrize(
    ("version", "fate"),
    [(1, "release"), (1, "drop"), (1, "unanswered"), (2, "release"), (2, "drop"), (2, "twice"), (2, "unanswered")],
)
def test_each_transaction_is_there_once_and_as_a_whole(version: int, fate: str):
    async def story():
        async with SimulatedCluster(settings=SETTINGS) as cluster:
            await cluster.create_topic("in")
            await cluster.create_topic("out", PARTITIONS)
            copier = Copier(cluster, version)
            running = asyncio.ensure_future(copier.run())
            await cluster.until(lambda: copier.done > TRANSACTIONS, "something is copied")
            for name in NAMES[version]:
                held = cluster.hold(name, response=fate == "unanswered", where=worst)
                await held.caught()
                await cluster.advance(2)
                again = held.repeatable and fate == "twice"
                finish(held, "drop" if fate == "unanswered" else fate)
                done = copier.done
                if again:
                    await held.deliver_again()
                await cluster.until(lambda least=done + TRANSACTIONS: copier.done > least, f"it goes on after {name}")
            copier.stop()
            await running
            await cluster.until(lambda: none_is_open(cluster), "no transaction is open")
            count = await committed(cluster)
            return copier.done, count, await read(cluster)

    done, count, found = run(story, f"{version} {fate}")
    assert found == [list(range(count))] * PARTITIONS
    assert 0 <= count - done <= len(NAMES[version]), "of few it was not told"
