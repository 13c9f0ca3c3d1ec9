"""KIP-890, KIP-664, KAFKA-19999, 9144 and 9666: what leaves a transaction that nobody will ever end."""

import asyncio
from dataclasses import replace

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.coordination import TRANSACTIONS_TOPIC, partition_for
from ottla.broker.transactions.shard import Shard
from ottla.client import KafkaError, KafkaTimeoutError
from ottla.log.producers import ProducerState
from ottla.simulation import CLIENTS
from tests.simulation.scenarios.stage import Broken, Stage, play
from tests.simulation.scenarios.transactions import SETTINGS, SHARDS, an_id, coordinator, producer, sees, send
from tests.simulation.transactional import Transactional

IMPATIENT = {"request_timeout_ms": 1000, "delivery_timeout_ms": 2000}


async def a_record_after_the_abort(stage: Stage, version: int = 2) -> None:
    """The producer has given up on its record, and aborted; then the record arrives."""
    cluster = stage.cluster
    name = await an_id(stage)
    async with producer(stage, name, transaction_version=version, **IMPATIENT) as one:
        await one.begin_transaction()
        await send(stage, one, b"given up")
        await one.abort_transaction()
        await one.begin_transaction()
        with cluster.hold("Produce", source=CLIENTS, target=stage.leader(), count=None) as held:
            sending = await one.send("orders", b"late", partition=stage.index)
            await held.caught()
            with pytest.raises(KafkaError):
                await asyncio.wait_for(sending, 30)
            await one.abort_transaction()
            await cluster.advance(3)
        await cluster.advance(1)
    async with producer(stage, "another", transaction_version=1) as other, other.transaction():
        await send(stage, other, b"kept")
    await sees(stage, b"kept")


async def by_the_first_version(stage: Stage) -> None:
    await a_record_after_the_abort(stage, 1)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("story", [a_record_after_the_abort, by_the_first_version])
def test_a_late_record_begins_nothing(story, seed: int):
    play(story, seed=seed, **SETTINGS)


def test_without_the_leaders_question_it_would_hold_up_every_reader(monkeypatch: pytest.MonkeyPatch):
    """It would take every transactional record, as if the transaction were open."""
    monkeypatch.setattr(ProducerState, "_in_transaction", staticmethod(lambda *_: True))
    with pytest.raises(Broken, match="a reader gets as far as"):
        play(by_the_first_version, watched=False, **SETTINGS)


async def the_answer_to_a_marker_is_lost(stage: Stage) -> None:
    """The partition has it, and the coordinator has to send it again (KAFKA-19999)."""
    cluster = stage.cluster
    name = await an_id(stage)
    async with producer(stage, name) as one:
        await one.begin_transaction()
        await send(stage, one, b"kept")
        held = cluster.hold("WriteTxnMarkers", source=stage.leader(), response=True)
        await one.commit_transaction()
        await held.caught()
        held.drop()
        async with asyncio.timeout(20), one.transaction():
            await send(stage, one, b"kept too")
    await sees(stage, b"kept", b"kept too")


@pytest.mark.parametrize("seed", range(2))
def test_a_marker_may_come_twice(seed: int):
    play(the_answer_to_a_marker_is_lost, seed=seed, **SETTINGS)


def test_if_the_second_one_were_refused_the_producer_could_never_go_on(monkeypatch: pytest.MonkeyPatch):
    original = ProducerState.check_marker

    def check(self, producer_id, epoch, marker, *, strict=False):
        entry = self.entries.get(producer_id)
        if strict and entry is not None and epoch <= entry.epoch:
            return ErrorCode.invalid_producer_epoch
        return original(self, producer_id, epoch, marker, strict=strict)

    monkeypatch.setattr(ProducerState, "check_marker", check)
    with pytest.raises(KafkaTimeoutError, match="CONCURRENT_TRANSACTIONS"):
        play(the_answer_to_a_marker_is_lost, watched=False, **SETTINGS)


async def the_coordinator_dies_between_outcome_and_markers(stage: Stage) -> None:
    cluster = stage.cluster
    name = await an_id(stage)
    async with producer(stage, name) as one:
        await one.begin_transaction()
        await send(stage, one, b"kept")
        old = coordinator(stage, name)
        held = cluster.hold("WriteTxnMarkers", source=old, count=None)
        await one.commit_transaction()
        await held.caught()
        cluster.kill(old)
        held.drop()
        async with asyncio.timeout(20), one.transaction():
            await send(stage, one, b"kept too")
    await sees(stage, b"kept", b"kept too")


@pytest.mark.parametrize("seed", range(2))
def test_the_next_coordinator_tells_the_partitions(seed: int):
    play(the_coordinator_dies_between_outcome_and_markers, seed=seed, **SETTINGS)


def test_if_it_did_not_the_transaction_would_hang(monkeypatch: pytest.MonkeyPatch):
    original = Shard._loaded

    def loaded(self):
        go_on, self._go_on = self._go_on, lambda *_: None
        original(self)
        self._go_on = go_on

    monkeypatch.setattr(Shard, "_loaded", loaded)
    with pytest.raises(KafkaTimeoutError, match="CONCURRENT_TRANSACTIONS"):
        play(the_coordinator_dies_between_outcome_and_markers, watched=False, **SETTINGS)


async def nobody_ends_it(stage: Stage) -> None:
    """The producer is gone for good; its transaction lasts as long as it asked for, and no reader waits longer."""
    cluster = stage.cluster
    name = await an_id(stage)
    one = producer(stage, name, transaction_timeout_ms=5000)
    await one.start()
    await one.begin_transaction()
    await send(stage, one, b"given up")
    cut = cluster.hold("EndTxn", source=CLIENTS, count=None, where=lambda message: name.encode() in message.data)
    stopping = asyncio.ensure_future(one.stop())
    async with producer(stage, "another") as other:
        async with other.transaction():
            await send(stage, other, b"kept")
        await cluster.advance(7)
    await sees(stage, b"kept")
    cut.drop()
    await asyncio.wait([stopping])


@pytest.mark.parametrize("seed", range(2))
def test_a_transaction_that_lasts_too_long_is_aborted(seed: int):
    play(nobody_ends_it, seed=seed, **SETTINGS)


def test_without_a_clock_it_would_hold_up_every_reader(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Shard, "tick", lambda *_: None)
    with pytest.raises(Broken, match="a reader gets as far as"):
        play(nobody_ends_it, watched=False, **SETTINGS)


async def a_transaction_outlives_the_state_of_idle_producers(stage: Stage, version: int = 2) -> None:
    """Its producer writes one record, and after a long time another one (KAFKA-9144)."""
    name = await an_id(stage)
    async with producer(stage, name, transaction_version=version) as one:
        await one.begin_transaction()
        await send(stage, one, b"early")
        await stage.cluster.advance(20)
        await send(stage, one, b"late")
        await one.commit_transaction()
    await sees(stage, b"early", b"late")


async def of_the_first_version(stage: Stage) -> None:
    await a_transaction_outlives_the_state_of_idle_producers(stage, 1)


FORGETFUL = {**SETTINGS, "producer_id_expiration_ms": "3000", "log_retention_check_interval_ms": "1000"}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("story", [a_transaction_outlives_the_state_of_idle_producers, of_the_first_version])
def test_an_open_transaction_is_not_forgotten(story, seed: int):
    play(story, seed=seed, **FORGETFUL)


def test_if_it_were_its_first_half_would_never_end(monkeypatch: pytest.MonkeyPatch):
    original = ProducerState.expire

    def expire(self, now_ms, ttl_ms):
        for entry in self.entries.values():
            entry.current_txn_first_offset = -1
        return original(self, now_ms, ttl_ms)

    monkeypatch.setattr(ProducerState, "expire", expire)
    # By the second version the late record would be refused, as one of a producer that nobody knows.
    with pytest.raises(Broken, match="a reader gets as far as"):
        play(of_the_first_version, watched=False, **FORGETFUL)


async def a_fence_that_cannot_be_written(stage: Stage) -> None:
    """A producer starts where another one has left a transaction, while too few replicas have the coordinator's log."""
    cluster = stage.cluster
    name = await an_id(stage)
    one = Transactional(cluster, name)
    await one.init()
    assert await one.add("orders", stage.index) is ErrorCode.none
    old = coordinator(stage, name)
    log = cluster.partition_on(old, TRANSACTIONS_TOPIC, partition_for(name, SHARDS))
    assert log is not None and log.image is not None
    followers = [node_id for node_id in log.image.replicas if node_id != old]
    for node_id in followers:
        cluster.kill(node_id)
    await cluster.advance(1)
    two = Transactional(cluster, name)
    starting = asyncio.ensure_future(two.init())
    await cluster.advance(5)
    assert not starting.done()
    for node_id in followers:
        cluster.start(node_id)
    await starting
    if two.epoch > 2:
        raise Broken(f"{two.asked} requests have used up {two.epoch} epochs")


@pytest.mark.parametrize("seed", range(2))
def test_a_fence_that_fails_burns_no_epoch(seed: int):
    play(a_fence_that_cannot_be_written, seed=seed, **SETTINGS)


def test_if_it_counted_all_the_same_they_would_be_used_up(monkeypatch: pytest.MonkeyPatch):
    """As it did in Kafka's memory (KAFKA-9666)."""
    original = Shard._told

    def told(self, busy, turn, decision, error):
        original(self, busy, turn, decision, error)
        if error is ErrorCode.coordinator_not_available and decision.record is not None:
            for name, found in self.transactions:
                self.transactions._transactions[name] = replace(found, producer=decision.record.producer)

    monkeypatch.setattr(Shard, "_told", told)
    with pytest.raises(Broken, match="used up"):
        play(a_fence_that_cannot_be_written, watched=False, **SETTINGS)
