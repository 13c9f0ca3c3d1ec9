"""Redpanda #5355, KAFKA-14034: after UNKNOWN_SERVER_ERROR the Java client writes what follows under another epoch, also
where it is in the log already. So Produce never gives that answer, whatever has happened."""

import asyncio
from collections import Counter

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.api.produce import Production
from ottla.client import KafkaError
from ottla.client.producer.core import ProducerCore
from ottla.client.producer.sender import PRODUCE_VERSIONS
from ottla.client.producer.sequencer import PartitionQueue
from ottla.simulation.messages import Message
from ottla.wire import decode_produce_response
from tests.simulation.scenarios.stage import TOPIC, Broken, Stage, play

_RESPONSE_HEADER, _VERSION = 5, PRODUCE_VERSIONS[1]
IMPATIENT = {"replica_lag_time_max_ms": "2000"}


async def appended_and_not_replicated(stage: Stage) -> None:
    """Two batches reach the leader's log and no follower's, until the leader is alone in the ISR."""
    cluster = stage.cluster
    told: set[ErrorCode] = set()

    def listen(message: Message) -> bool:
        answer = decode_produce_response(memoryview(message.body)[_RESPONSE_HEADER:], _VERSION)
        told.update(ErrorCode(row.error_code) for _, rows in answer.topics for row in rows)
        return False

    leader = stage.leader()
    cluster.hold("Produce", source=leader, response=True, count=None, where=listen)
    async with cluster.producer(linger_ms=0, max_batch_size=1) as producer:
        await producer.send_and_wait(TOPIC, b"m0", partition=stage.index)
        # Only what they fetch is held: to everybody else the leader is as well as ever.
        fetches = cluster.hold("Fetch", target=leader, count=None)
        waiting = [await producer.send(TOPIC, value, partition=stage.index) for value in (b"m1", b"m2")]
        await cluster.until(lambda: stage.on(leader).log_end_offset == 3, "both are appended", within=5)
        await cluster.until(
            lambda: ErrorCode.request_timed_out in told or told > {ErrorCode.none}, "an error", within=5
        )
        fetches.release()
        outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 30)
    records = await stage.read()
    twice = sorted(value for value, count in Counter(records.values()).items() if count > 1)
    if twice:
        raise Broken(f"written twice, after {sorted(code.name for code in told)}: {twice}")
    assert not any(isinstance(outcome, KafkaError) for outcome in outcomes)
    assert ErrorCode.unknown_server_error not in told
    assert set(records.values()) == {b"m0", b"m1", b"m2"}


@pytest.mark.parametrize("seed", range(2))
def test_what_was_appended_in_vain_is_told_by_an_error_to_retry(seed: int):
    play(appended_and_not_replicated, seed=seed, **IMPATIENT)


def say_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Production.answer

    def answer(self: Production, late_errors):
        return original(self, dict.fromkeys(late_errors, ErrorCode.unknown_server_error))

    monkeypatch.setattr(Production, "answer", answer)


def as_java_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows a batch that has failed gets another epoch and is sent again, wherever it may be."""
    original = PartitionQueue.fail

    def fail(self: PartitionQueue, *failure, **more):
        outcomes = original(self, *failure, **more)
        for batch in self.batches:
            batch.attempt, batch.maybe_appended = None, False
            batch.unsequence()
        return outcomes

    monkeypatch.setattr(PartitionQueue, "fail", fail)
    monkeypatch.setattr(ProducerCore, "_retriable", lambda self, code: code.retriable)


def test_a_client_like_javas_is_as_well_served(monkeypatch: pytest.MonkeyPatch):
    as_java_does(monkeypatch)
    play(appended_and_not_replicated, **IMPATIENT)


def test_it_would_write_twice_if_the_answer_were_unknown_server_error(monkeypatch: pytest.MonkeyPatch):
    say_unknown(monkeypatch)
    as_java_does(monkeypatch)
    with pytest.raises(Broken, match=r"written twice, after .*unknown_server_error"):
        play(appended_and_not_replicated, **IMPATIENT)


def test_our_own_client_would_not_even_then(monkeypatch: pytest.MonkeyPatch):
    """A sequence makes the second try harmless, so it tries again as after any error to retry."""
    say_unknown(monkeypatch)
    with pytest.raises(AssertionError, match="unknown_server_error"):
        play(appended_and_not_replicated, **IMPATIENT)
