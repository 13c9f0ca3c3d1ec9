"""Bufstream: an acknowledged offset that is reported as 0, and clients that are stuck for ever."""

import asyncio
from dataclasses import replace

import pytest

from ottla.broker.replication import leading
from ottla.broker.transactions.shard import Shard
from ottla.client import TopicPartition
from ottla.client.producer import sender
from tests.simulation.scenarios.stage import TOPIC, Broken, Stage, play
from tests.simulation.scenarios.transactions import SETTINGS, an_id, coordinator, producer, sees, send


async def the_answer_is_lost(stage: Stage) -> None:
    """A record is in every log when the connection breaks on which its acknowledgement was to come."""
    cluster = stage.cluster
    async with cluster.producer(linger_ms=0) as producer:
        for number in range(3):
            place = await producer.send_and_wait(TOPIC, b"m%d" % number, partition=stage.index)
            stage.acknowledged[place.offset] = b"m%d" % number
        held = cluster.hold("Produce", source=stage.leader(), response=True)
        waiting = await producer.send(TOPIC, b"m3", partition=stage.index)
        await held.caught()
        held.drop()
        offset = (await asyncio.wait_for(waiting, 10)).offset
    if offset in stage.acknowledged:
        raise Broken(f"it was acknowledged at {offset}, where there is {stage.acknowledged[offset]!r}")
    stage.acknowledged[offset] = b"m3"


@pytest.mark.parametrize("seed", range(2))
def test_a_repetition_is_told_where_the_record_is(seed: int):
    play(the_answer_is_lost, seed=seed)


def test_the_reader_would_look_for_it_elsewhere(monkeypatch: pytest.MonkeyPatch):
    original = leading._again
    monkeypatch.setattr(leading, "_again", lambda held, found: replace(original(held, found), base_offset=0))
    with pytest.raises(Broken, match="acknowledged at 0"):
        play(the_answer_is_lost, watched=False)


async def everybody_waits_at_a_leader_that_stands_still(stage: Stage) -> None:
    """A producer waits for its acknowledgement and a consumer for its next record when their leader is paused."""
    cluster, where = stage.cluster, TopicPartition(TOPIC, stage.index)
    await stage.write(b"m0")
    leader = stage.leader()
    async with cluster.consumer(auto_offset_reset="earliest") as consumer, cluster.producer(linger_ms=0) as producer:
        consumer.assign([where])
        assert (await consumer.getone()).value == b"m0"
        reading = asyncio.ensure_future(consumer.getone())
        await asyncio.sleep(0.2)
        cluster.pause(leader)
        writing = await producer.send(TOPIC, b"m1", partition=stage.index)
        # Neither connection breaks, and neither request is answered in half a minute.
        place = await asyncio.wait_for(writing, 6)
        stage.acknowledged[place.offset] = b"m1"
        assert (await asyncio.wait_for(reading, 6)).value == b"m1"
        cluster.resume(leader)


@pytest.mark.parametrize("seed", range(2))
def test_they_go_on_with_the_next_leader(seed: int):
    play(everybody_waits_at_a_leader_that_stands_still, seed=seed)


def test_a_producer_that_trusts_a_silent_leader_is_stuck(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sender, "STALL", 1e9)
    with pytest.raises(Broken, match="it never ends"):
        play(everybody_waits_at_a_leader_that_stands_still)


async def its_producer_is_gone(stage: Stage) -> None:
    """A consumer of committed records stands at a transaction that nobody ends, with more behind it."""
    cluster = stage.cluster
    gone = producer(stage, await an_id(stage), transaction_timeout_ms=3000)
    await gone.start()
    await gone.begin_transaction()
    await send(stage, gone, b"never committed")
    await gone.stop(flush=False)
    async with producer(stage, "another") as other, other.transaction():
        await send(stage, other, b"behind it")
    async with cluster.consumer(auto_offset_reset="earliest", isolation_level="read_committed") as consumer:
        consumer.assign([TopicPartition(TOPIC, stage.index)])
        assert (await asyncio.wait_for(consumer.getone(), 10)).value == b"behind it"


@pytest.mark.parametrize("seed", range(2))
def test_a_reader_waits_no_longer_than_a_transaction_may_last(seed: int):
    play(its_producer_is_gone, seed=seed, **SETTINGS)


def test_without_that_it_would_be_stuck(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Shard, "tick", lambda *_: None)
    with pytest.raises(Broken, match="it never ends"):
        play(its_producer_is_gone, watched=False, **SETTINGS)


async def its_name_is_taken_over(stage: Stage) -> None:
    """A producer starts under the name of one whose outcome is decided and cannot be told to the partition for a while,
    and the coordinator dies meanwhile."""
    cluster = stage.cluster
    name = await an_id(stage)
    first = producer(stage, name)
    await first.start()
    await first.begin_transaction()
    await send(stage, first, b"kept")
    old = coordinator(stage, name)
    held = cluster.hold("WriteTxnMarkers", source=old, count=None)
    await first.commit_transaction()
    await first.stop(flush=False)
    await held.caught()
    cluster.kill(old)
    held.drop()
    async with asyncio.timeout(15), producer(stage, name) as second, second.transaction():
        await send(stage, second, b"kept too")
    await sees(stage, b"kept", b"kept too")


@pytest.mark.parametrize("seed", range(2))
def test_who_takes_over_a_name_is_not_stuck(seed: int):
    play(its_name_is_taken_over, seed=seed, **SETTINGS)
