"""Redpanda #3039: a broker that forgets a producer's last five batches refuses a retry, and the client writes again."""

import asyncio
from collections import Counter

import pytest

from ottla.client import OutOfOrderSequenceNumber
from ottla.client.producer.sequencer import PartitionQueue
from ottla.log import producer_entries
from tests.simulation.scenarios.stage import TOPIC, Broken, Stage, play

BATCHES = [b"m%d" % number for number in range(1, 6)]


async def killed_between_append_and_answer(stage: Stage) -> None:
    """Five batches of an idempotent producer are in every log when their leader dies, and no answer has left."""
    cluster = stage.cluster
    async with cluster.producer(linger_ms=0, max_batch_size=1) as producer:
        await producer.send_and_wait(TOPIC, b"m0", partition=stage.index)
        old = stage.leader()
        held = cluster.hold("Produce", source=old, response=True)
        waiting = [await producer.send(TOPIC, value, partition=stage.index) for value in BATCHES]
        others = [stage.on(node_id) for node_id in stage.others(old)]
        await cluster.until(lambda: all(each.high_watermark == 6 for each in others), "all is committed", within=10)
        await held.caught()
        assert not any(future.done() for future in waiting)
        cluster.kill(old)
        held.drop()
        try:
            places = [(await asyncio.wait_for(future, 20)).offset for future in waiting]
        except OutOfOrderSequenceNumber as refused:
            raise Broken(f"what is in the log was refused: {refused}") from refused
    twice = {value: count for value, count in Counter((await stage.read()).values()).items() if count > 1}
    if twice:
        raise Broken(f"written twice: {sorted(twice)}")
    stage.acknowledged = dict(zip(places, BATCHES, strict=True))


@pytest.mark.parametrize("seed", range(2))
def test_the_next_leader_recognises_all_five(seed: int):
    play(killed_between_append_and_answer, seed=seed)


def forget_all_but_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_entries, "WINDOW", 1)


def test_a_leader_that_remembers_only_the_last_one_refuses_what_it_has(monkeypatch: pytest.MonkeyPatch):
    forget_all_but_the_last(monkeypatch)
    with pytest.raises(Broken, match="refused"):
        play(killed_between_append_and_answer)


def test_a_client_that_tries_again_in_the_next_epoch_then_writes_twice(monkeypatch: pytest.MonkeyPatch):
    """Ours does not: a batch that may be in the log is never written under another sequence."""
    forget_all_but_the_last(monkeypatch)
    original = PartitionQueue.out_of_sequence

    def try_again(self: PartitionQueue, batch, code, now):
        for each in self.batches:
            each.maybe_appended = False
        return original(self, batch, code, now)

    monkeypatch.setattr(PartitionQueue, "out_of_sequence", try_again)
    with pytest.raises(Broken, match="written twice"):
        play(killed_between_append_and_answer)
