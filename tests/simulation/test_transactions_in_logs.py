"""Transactions in the logs of a whole cluster while its leaders die: a reader of committed records is given each
committed record once and no other, and the invariants look at every last stable offset on the way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from ottla.broker.replication import Partition
from ottla.client import AbortableTransactionError, KafkaError, TopicPartition
from ottla.log import PartitionLog
from ottla.log.aborted import AbortedIndex
from ottla.log.transactions import Transactions
from ottla.simulation import Anomaly, SimulatedCluster, leader_of, run

TOPIC, PARTITIONS, WRITERS = "t", 2, 3
SETTINGS = {"transaction.state.log.num.partitions": "3"}


class Writer:
    """Writes in transactions, of which it commits some, aborts some, and leaves some to their timeout. What became of
    those whose end nobody has told it of is not known."""

    def __init__(self, cluster: SimulatedCluster, name: str) -> None:
        self._cluster = cluster
        self._name = name
        self._rng = random.Random(name)
        self._number = 0
        self.stopping = False
        self.committed: set[bytes] = set()
        self.taken_back: set[bytes] = set()

    async def run(self) -> None:
        while not self.stopping:
            producer = self._cluster.producer(
                transactional_id=self._name, transaction_timeout_ms=3000, request_timeout_ms=2000, linger_ms=0
            )
            try:
                async with producer:
                    while not self.stopping and self._rng.random() < 0.9:
                        await self._transaction(producer)
            except KafkaError:
                await asyncio.sleep(0.1)

    async def _transaction(self, producer) -> None:
        values = []
        commit = self._rng.random() < 0.6
        await producer.begin_transaction()
        try:
            for _ in range(self._rng.randint(1, 6)):
                self._number += 1
                values.append(f"{self._name}-{self._number}".encode())
                await producer.send_and_wait(TOPIC, values[-1], partition=self._rng.randrange(PARTITIONS))
            if self._rng.random() < 0.05:
                self.taken_back.update(values)
                await asyncio.sleep(4)  # its time is over
                commit = False
            if commit:
                await producer.commit_transaction()
                self.committed.update(values)
            else:
                self.taken_back.update(values)
                await producer.abort_transaction()
        except AbortableTransactionError:
            self.taken_back.update(values)
            await producer.abort_transaction()


async def everything(cluster: SimulatedCluster) -> list[bytes]:
    wanted = [TopicPartition(TOPIC, index) for index in range(PARTITIONS)]
    found: list[bytes] = []
    async with cluster.consumer(auto_offset_reset="earliest", isolation_level="read_committed") as reader:
        reader.assign(wanted)
        ends = await reader.end_offsets(wanted)
        async with asyncio.timeout(60):
            while any([await reader.position(where) < end for where, end in ends.items()]):
                for records in (await reader.getmany(timeout_ms=200)).values():
                    found += [record.value for record in records]
    return found


Fault = Callable[[SimulatedCluster], Callable[[], None]]


def dies(cluster: SimulatedCluster) -> Callable[[], None]:
    victim = cluster.kill(leader_of(TOPIC, 0))
    return lambda: cluster.start(victim)


def freezes(cluster: SimulatedCluster) -> Callable[[], None]:
    victim = cluster.pause(leader_of(TOPIC, 0))
    return lambda: cluster.resume(victim)


def loses_power(cluster: SimulatedCluster) -> Callable[[], None]:
    victim = cluster.power_off(leader_of(TOPIC, 1))
    return lambda: cluster.start(victim)


def all_die(cluster: SimulatedCluster) -> Callable[[], None]:
    for victim in cluster.nodes:
        cluster.kill(victim)
    return lambda: [cluster.start(victim) for victim in cluster.nodes] and None


async def story(*faults: Fault, **configs: str) -> tuple[list[Writer], list[bytes]]:
    async with SimulatedCluster(settings=SETTINGS) as cluster:
        await cluster.create_topic(TOPIC, PARTITIONS, **{"segment.bytes": "1500", **configs})
        writers = [Writer(cluster, f"writer{number}") for number in range(WRITERS)]
        tasks = [asyncio.ensure_future(writer.run()) for writer in writers]
        await cluster.advance(2)
        for fault in faults:
            end = fault(cluster)
            await cluster.advance(3)
            end()
            await cluster.advance(4)
        for writer in writers:
            writer.stopping = True
        async with asyncio.timeout(120):
            await asyncio.gather(*tasks)
        await cluster.advance(5)  # the last ones left open are over
        return writers, await everything(cluster)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("faults", "configs"),
    [
        ((dies, freezes), {}),
        ((loses_power, dies), {"flush.messages": "1"}),
        ((all_die,), {}),
    ],
    ids=["leaders die and freeze", "power is lost", "all die"],
)
def test_what_was_committed_is_read_once_and_nothing_else(
    seed: int, faults: tuple[Fault, ...], configs: dict[str, str]
) -> None:
    writers, found = run(lambda: story(*faults, **configs), seed)
    committed = set().union(*(writer.committed for writer in writers))
    taken_back = set().union(*(writer.taken_back for writer in writers))
    assert len(found) == len(set(found))
    assert committed <= set(found) and not taken_back & set(found)
    assert len(committed) > 50 and len(taken_back) > 20


def nothing_is_open(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Partition, "last_stable_offset", property(lambda self: self.high_watermark))


def markers_count_before_they_are_replicated(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Transactions, "_is_settled", lambda self, transaction: transaction.marker_offset >= 0)


def nothing_was_aborted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AbortedIndex, "add", lambda self, transaction: None)


def everything_was_aborted(patch: pytest.MonkeyPatch) -> None:
    real = PartitionLog._note_marker

    def note(self, segment, header, base, marker) -> None:
        real(self, segment, header, base, None if marker is None else marker._replace(commit=False))

    patch.setattr(PartitionLog, "_note_marker", note)


@pytest.mark.parametrize(
    "mutant",
    [
        nothing_is_open,
        markers_count_before_they_are_replicated,
        nothing_was_aborted,
        everything_was_aborted,
    ],
)
def test_the_invariants_notice(mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    with pytest.raises(Anomaly):
        run(lambda: story(), 1)
