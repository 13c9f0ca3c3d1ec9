"""Bufstream: an acknowledged offset that is reported as 0, and clients that are stuck for ever."""

import asyncio

import pytest

from ottla.broker.replication import leading
from ottla.client import TopicPartition
from ottla.client.producer import sender
from tests.simulation.scenarios.stage import TOPIC, Broken, Stage, play


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
    monkeypatch.setattr(leading, "_again", lambda held, found: original(held, found)._replace(base_offset=0))
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
