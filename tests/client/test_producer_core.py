"""The producer's core against a model of brokers: order and exactly-once (KIP-98, KIP-360)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from ottla.client import TopicPartition
from ottla.client.producer.batch import Acked, Failed, ProducerIdentity
from ottla.client.producer.core import Answer, Call, CoreOptions, ProducerCore
from tests.client.model import ModelCluster

TPS = [TopicPartition("t", 0), TopicPartition("t", 1)]


class Run:
    """One random history."""

    def __init__(self, seed: int, *, harsh: bool, delivery_timeout: float) -> None:
        self.rng = random.Random(seed)
        options = CoreOptions(linger=0.005, max_batch_size=160, delivery_timeout=delivery_timeout)
        self.core = ProducerCore(options, random.Random(seed + 1))
        self.core.identity = ProducerIdentity(7, 0)
        self.cluster = ModelCluster(self.rng, TPS, harsh=harsh)
        self.now = 0.0
        self.sent: dict[TopicPartition, list[int]] = {tp: [] for tp in TPS}
        self.acked: dict[int, tuple[TopicPartition, int]] = {}
        self.failed: dict[int, Failed] = {}

    def settle(self, outcomes: Sequence[object]) -> None:
        for outcome in outcomes:
            assert isinstance(outcome, Acked | Failed)
            for i, token in enumerate(outcome.batch.tokens):
                assert token not in self.acked and token not in self.failed, "two outcomes for one record"
                if isinstance(outcome, Acked):
                    offset = outcome.base_offset + i if outcome.base_offset >= 0 else -1
                    self.acked[token] = (outcome.batch.tp, offset)
                else:
                    self.failed[token] = outcome

    def send(self) -> None:
        tp = self.rng.choice(TPS)
        token = sum(map(len, self.sent.values()))
        self.sent[tp].append(token)
        self.core.append(tp, 0, b"k", bytes(self.rng.randint(0, 40)), (), token, self.now)

    def dispatch(self) -> None:
        before = None
        while True:
            dispatch = self.core.dispatch(self.now, self.cluster.leader, self.cluster.slots)
            if before is not None and not before.more:
                assert not dispatch.calls, "there was no more to be sent"
                assert (dispatch.wake_at, dispatch.leaderless) == (before.wake_at, before.leaderless)
            for call in dispatch.calls:
                self.cluster.submit(call)
            if not dispatch.calls:
                return
            before = dispatch

    def step(self) -> None:
        node = self.rng.randint(0, 1)
        action = self.rng.choice(["send"] * 5 + ["dispatch"] * 4 + ["handle"] * 4 + ["answer"] * 4 + ["other"])
        if action == "send":
            self.send()
        elif action == "dispatch":
            self.dispatch()
        elif action == "handle":
            self.cluster.handle(node)
        elif action == "answer":
            self.settle(self.cluster.answer(node, self.core, self.now))
        else:
            self.disturb(node)
        self.now += self.rng.choice([0.0, 0.001, 0.01, 0.1])
        self.settle(self.core.expire(self.now))

    def disturb(self, node: int) -> None:
        kind = self.rng.choice(["break", "move", "learn", "learn"])
        if kind == "break":
            self.settle(self.cluster.break_link(node, self.core, self.now))
        elif kind == "move":
            self.cluster.move(self.rng.choice(TPS))
        else:
            self.cluster.learn()

    def heal(self) -> None:
        self.core.flushing = True
        for _ in range(3000):
            if not self.core.pending:
                break
            self.cluster.learn()
            self.dispatch()
            for node in (0, 1):
                self.cluster.handle(node, faults=False)
                self.settle(self.cluster.answer(node, self.core, self.now))
            self.now += 0.01
            self.settle(self.core.expire(self.now))
        assert not self.core.pending and self.core.buffered_bytes == 0, "no progress after healing"

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()
        self.heal()

    def check(self) -> None:
        for tp, tokens in self.sent.items():
            partition = self.cluster.partitions[tp]
            log = [token for batch in partition.batches for token in batch.tokens]
            assert len(log) == len(set(log)), f"duplicates in {tp}: {log}"
            assert log == [t for t in tokens if t in set(log)], f"order lost in {tp}: {log}"
            for token in tokens:
                if token in self.acked:
                    _, offset = self.acked[token]
                    assert token in log, "acknowledged, and not in the log"
                    assert offset in (-1, log.index(token))
                elif not self.failed[token].maybe_appended:
                    assert token not in log, "said to have failed for sure, and is in the log"


@settings(max_examples=250, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.integers(20, 250))
def test_every_record_is_acked_once_and_in_order(seed: int, steps: int) -> None:
    run = Run(seed, harsh=False, delivery_timeout=1e9)
    run.run(steps)
    run.check()
    assert not run.failed


@settings(max_examples=250, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.integers(20, 250))
def test_records_that_are_given_up_spoil_nothing_else(seed: int, steps: int) -> None:
    run = Run(seed, harsh=True, delivery_timeout=1.5)
    run.run(steps)
    run.check()


def one_batch(*, idempotent: bool = True) -> tuple[ProducerCore, list[Call]]:
    core = ProducerCore(CoreOptions(linger=0.0, idempotent=idempotent), random.Random(1))
    core.identity = ProducerIdentity(7, 0)
    core.append(TPS[0], 0, None, b"a", (), "a", 0.0)
    return core, core.dispatch(0.0, lambda tp: 1, lambda node: 5).calls


def test_an_ambiguous_batch_fails_when_the_broker_lost_track() -> None:
    core, (call,) = one_batch()
    batch = call.batches[0]
    assert core.on_lost(call, 0.0) == []
    (again,) = core.dispatch(0.0, lambda tp: 1, lambda node: 5).calls
    assert again.batches == (batch,) and batch.sequence == 0
    (outcome,) = core.on_answer(again, batch, Answer(ErrorCode.out_of_order_sequence_number), 0.0)
    assert isinstance(outcome, Failed) and outcome.maybe_appended
    core.append(TPS[0], 0, None, b"b", (), "b", 0.0)
    (following,) = core.dispatch(0.0, lambda tp: 1, lambda node: 5).calls
    assert following.batches[0].identity == ProducerIdentity(7, 1)
    assert following.batches[0].sequence == 0


def test_a_batch_that_no_log_holds_moves_to_the_next_epoch() -> None:
    core, (call,) = one_batch()
    batch = call.batches[0]
    assert core.on_answer(call, batch, Answer(ErrorCode.unknown_producer_id), 0.0) == []
    (again,) = core.dispatch(0.0, lambda tp: 1, lambda node: 5).calls
    assert again.batches == (batch,)
    assert (batch.identity, batch.sequence) == (ProducerIdentity(7, 1), 0)


def test_a_used_up_epoch_asks_for_a_new_producer_id() -> None:
    core, (call,) = one_batch()
    core.identity = ProducerIdentity(7, 0x7FFF)
    batch = call.batches[0]
    batch.identity = core._queues[TPS[0]].identity = core.identity
    core.on_answer(call, batch, Answer(ErrorCode.unknown_producer_id), 0.0)
    assert not core.dispatch(0.0, lambda tp: 1, lambda node: 5).calls
    assert core.needs_identity
    core.identity = ProducerIdentity(8, 0)
    (again,) = core.dispatch(0.0, lambda tp: 1, lambda node: 5).calls
    assert again.batches[0].identity == ProducerIdentity(8, 0)


def test_a_deposed_leader_is_not_waited_for() -> None:
    core, (call,) = one_batch()
    (again,) = core.dispatch(0.0, lambda tp: 2, lambda node: 5).calls
    assert again.node == 2
    batch = again.batches[0]
    assert core.on_answer(call, batch, Answer(ErrorCode.not_leader_or_follower), 0.0) == []
    assert batch.attempt == again.attempt
    (acked,) = core.on_answer(again, batch, Answer(ErrorCode.duplicate_sequence_number), 0.0)
    assert isinstance(acked, Acked) and acked.base_offset == -1


def test_without_idempotence_one_batch_per_partition_is_in_flight() -> None:
    core, _ = one_batch(idempotent=False)
    core.append(TPS[0], 0, None, b"b", (), "b", 0.0)
    assert not core.dispatch(0.0, lambda tp: 1, lambda node: 5).calls
    assert not core.dispatch(0.0, lambda tp: 2, lambda node: 5).calls


def test_small_records_wait_for_company_and_large_ones_do_not() -> None:
    core = ProducerCore(CoreOptions(linger=0.01, max_batch_size=200), random.Random(1))
    core.identity = ProducerIdentity(7, 0)
    assert core.append(TPS[0], 0, None, b"a", (), "a", 1.0)
    waiting = core.dispatch(1.0, lambda tp: 1, lambda node: 5)
    assert not waiting.calls and waiting.wake_at == 1.01
    assert not core.append(TPS[0], 0, None, b"b", (), "b", 1.0)
    assert core.append(TPS[0], 0, None, bytes(500), (), "c", 1.0)
    (call,) = core.dispatch(1.0, lambda tp: 1, lambda node: 5).calls
    assert call.batches[0].tokens == ["a", "b"]


def test_a_batch_behind_one_that_lost_its_sequence_loses_its_own() -> None:
    """Otherwise each would wait for the other: one for the next epoch, one for its turn."""
    core, (call,) = one_batch()
    core.on_answer(call, call.batches[0], Answer(ErrorCode.none, 0), 0.0)
    calls = []
    for token in "bc":
        core.append(TPS[0], 0, None, b"x", (), token, 0.0)
        calls += core.dispatch(0.0, lambda tp: 1, lambda node: 5).calls
    (first,), (second,) = calls[0].batches, calls[1].batches
    assert core.on_answer(calls[0], first, Answer(ErrorCode.unknown_producer_id), 0.0) == []
    assert core.on_answer(calls[1], second, Answer(ErrorCode.not_enough_replicas), 0.0) == []
    assert not first.sequenced and not second.sequenced
    (again,) = core.dispatch(1.0, lambda tp: 1, lambda node: 5).calls
    assert again.batches == (first,) and first.identity == ProducerIdentity(7, 1)
    core.on_answer(again, first, Answer(ErrorCode.none, 1), 1.0)
    (last,) = core.dispatch(1.0, lambda tp: 1, lambda node: 5).calls
    assert last.batches == (second,) and (second.identity, second.sequence) == (ProducerIdentity(7, 1), 1)


def test_a_batch_behind_one_that_lost_its_sequence_fails_if_it_may_be_stored() -> None:
    core, (call,) = one_batch()
    core.on_answer(call, call.batches[0], Answer(ErrorCode.none, 0), 0.0)
    calls = []
    for token in "bc":
        core.append(TPS[0], 0, None, b"x", (), token, 0.0)
        calls += core.dispatch(0.0, lambda tp: 1, lambda node: 5).calls
    core.on_answer(calls[0], calls[0].batches[0], Answer(ErrorCode.unknown_producer_id), 0.0)
    (outcome,) = core.on_lost(calls[1], 0.0)
    assert isinstance(outcome, Failed) and outcome.maybe_appended and outcome.batch.tokens == ["c"]
