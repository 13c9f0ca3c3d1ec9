"""Redpanda #5090: who is elected may not serve before it knows all that was decided before it, or it shows what was
aborted, and forgets what is open."""

import asyncio

import pytest

from ottla.broker.coordination.shard_log import ShardLog
from ottla.broker.replication.partition import Partition
from ottla.client import FatalTransactionError
from ottla.log.producers import ProducerState
from tests.simulation.scenarios.stage import TOPIC, Broken, Stage, play
from tests.simulation.scenarios.transactions import SETTINGS, an_id, coordinator, producer, sees, send


async def the_leader_of_a_partition_dies(stage: Stage) -> None:
    """One transaction is committed, one aborted, one open, when the partition gets another leader."""
    cluster = stage.cluster
    async with producer(stage, await an_id(stage)) as one:
        async with one.transaction():
            await send(stage, one, b"kept")
        await one.begin_transaction()
        await send(stage, one, b"aborted")
        await one.abort_transaction()
        await one.begin_transaction()
        await send(stage, one, b"open")
        old = cluster.kill(stage.leader())
        await stage.led_by_another(old)
        async with producer(stage, "another") as other, other.transaction():
            await send(stage, other, b"behind it")
        seen = await readable(stage)
        if seen != [b"kept"]:
            raise Broken(f"shown before its end: {seen}")
        await asyncio.wait_for(one.commit_transaction(), 20)
    await sees(stage, b"kept", b"open", b"behind it")


async def readable(stage: Stage) -> list[bytes]:
    """What a reader of committed records is given within two seconds."""
    found: list[bytes] = []
    async with stage.cluster.consumer(auto_offset_reset="earliest", isolation_level="read_committed") as consumer:
        consumer.assign([(TOPIC, stage.index)])
        until = asyncio.get_running_loop().time() + 2
        while asyncio.get_running_loop().time() < until:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [record.value for record in records]
    return found


@pytest.mark.parametrize("seed", range(2))
def test_the_next_leader_knows_what_is_open_and_what_was_aborted(seed: int):
    play(the_leader_of_a_partition_dies, seed=seed, **SETTINGS)


def test_a_leader_that_does_not_know_shows_all_of_it(monkeypatch: pytest.MonkeyPatch):
    """Its log is whole; what follows from it is not there yet."""
    original = Partition.become_leader

    def become_leader(self: Partition, image) -> None:
        assert self.log is not None
        self.log.producers = ProducerState(self.log.log_end_offset)
        original(self, image)

    monkeypatch.setattr(Partition, "become_leader", become_leader)
    with pytest.raises(Broken, match="shown before its end"):
        play(the_leader_of_a_partition_dies, watched=False, **SETTINGS)


async def the_coordinator_dies(stage: Stage) -> None:
    """A transaction is open, and its producer asks the next coordinator for the end before that has read its log."""
    cluster = stage.cluster
    name = await an_id(stage)
    async with producer(stage, name) as one:
        await one.begin_transaction()
        await send(stage, one, b"kept")
        cluster.kill(coordinator(stage, name))
        try:
            await asyncio.wait_for(one.commit_transaction(), 20)
        except FatalTransactionError as refused:
            raise Broken(f"it does not know the producer: {refused}") from refused
    await sees(stage, b"kept")


@pytest.mark.parametrize("seed", range(2))
def test_the_next_coordinator_reads_before_it_serves(seed: int):
    play(the_coordinator_dies, seed=seed, **SETTINGS)


def test_one_that_serves_at_once_does_not_know_the_producer(monkeypatch: pytest.MonkeyPatch):
    original = ShardLog.load

    async def load(self: ShardLog) -> None:
        replay, self._replay = self._replay, lambda *_: None
        await original(self)
        self._replay = replay

    monkeypatch.setattr(ShardLog, "load", load)
    with pytest.raises(Broken, match="does not know the producer"):
        play(the_coordinator_dies, watched=False, **SETTINGS)
