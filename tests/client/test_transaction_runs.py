"""A transactional producer against a coordinator, over a network that loses requests and answers."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from ottla.client import (
    AbortableTransactionError,
    FatalTransactionError,
    KafkaError,
    KafkaTimeoutError,
    OffsetAndMetadata,
    ProducerFenced,
    TopicPartition,
)
from ottla.client.backoff import Backoff
from ottla.client.producer.batch import ProducerIdentity
from ottla.client.producer.transactions import State
from ottla.client.producer.transactions.core import TransactionCore
from ottla.client.producer.transactions.model import (
    AddOffsets,
    AddPartitions,
    Answer,
    CommitOffsets,
    EndTxn,
    InitProducerId,
    Request,
)
from ottla.client.structs import ConsumerGroupMetadata
from tests.client.txn_model import ModelCoordinator

TPS = [TopicPartition("t", 0), TopicPartition("t", 1)]
GROUP = ConsumerGroupMetadata("g", 3, "m", None)


class Run:
    """A program that makes one transaction after the other, and a network that loses requests and answers."""

    def __init__(self, seed: int, level: int, *, zombie: bool) -> None:
        self.rng = random.Random(seed)
        self.level = level
        self.zombie = zombie
        self.coordinator = ModelCoordinator()
        self.core = TransactionCore("x", Backoff(), random.Random(seed + 1))
        self.told: list[bool | None] = []
        """By transaction: committed, not committed, or nobody knows."""
        self.marks: list[tuple[int, int]] = []
        """By transaction: how many transactions the coordinator had seen begin and end before it."""

    def run(self, transactions: int) -> None:
        self.core.initialise(self.level)
        self.work()
        for _ in range(transactions):
            if self.core.state is not State.READY:
                break
            self.transaction()

    def transaction(self) -> None:
        core, rng = self.core, self.rng
        core.begin()
        assert core.identity is not None
        who = core.identity
        self.marks.append((self.coordinator.begun, len(self.coordinator.ended)))
        outcome: bool | None = False
        commit = rng.random() < 0.7
        try:
            for tp in rng.sample(TPS, rng.randint(0, 2)):
                core.join(tp)
                self.work(rng.randint(0, 3))
                if core.admitted(tp):
                    self.write(who, tp)
            if rng.random() < 0.4:
                core.add_offsets(GROUP, {TPS[0]: OffsetAndMetadata(len(self.told))})
                self.work()
            if self.zombie and rng.random() < 0.1:
                self.coordinator.time_out("x")
            if rng.random() < 0.1:
                core.failed(KafkaTimeoutError("delivery timeout"))
            core.end(commit, self.level)
            self.finish()
            outcome = commit
        except AbortableTransactionError as error:
            outcome = None if error.definite is False else False
            outcome = self.abort(outcome)
        except FatalTransactionError as error:
            # Also an abort may have failed because the transaction had been committed.
            outcome = None if commit and error.definite is False else False
        self.told.append(outcome)

    def abort(self, outcome: bool | None) -> bool | None:
        try:
            self.core.end(False, self.level)
            self.finish()
        except FatalTransactionError:
            return outcome
        return False

    def finish(self) -> None:
        """What is still to be added is added first: only then are records written, and settled."""
        self.work()
        self.core.settled(gap=self.rng.random() < 0.1 and self.core.state is State.ABORTING)
        self.work()
        if self.core.error is not None:
            raise self.core.error

    def write(self, who: ProducerIdentity, tp: TopicPartition) -> None:
        if self.core.second:
            code = self.coordinator.add("x", who, {tp})
        else:
            code = self.coordinator.verify("x", who, tp)
        if code is not ErrorCode.none:
            self.core.failed(KafkaError(code.name))

    def work(self, most: int = 1000) -> None:
        for _ in range(most):
            request = self.core.next()
            if request is None:
                return
            self.core.on_sent(request)
            fate = self.rng.random()
            if fate < 0.15:
                self.core.on_lost(request)
                continue
            if fate < 0.25:
                codes = [ErrorCode.not_coordinator, ErrorCode.concurrent_transactions]
                self.core.on_answer(request, self.all(request, self.rng.choice(codes)))
                continue
            answer = self.ask(request)
            if fate < 0.4:
                self.core.on_lost(request)
            else:
                self.core.on_answer(request, answer)
        assert most < 1000, f"it never ends: {self.core.state}, {self.core.next()}"

    def ask(self, request: Request) -> Answer:
        coordinator = self.coordinator
        match request:
            case InitProducerId():
                code, identity = coordinator.init("x", request.identity)
                return Answer({None: code}, 1, identity)
            case AddPartitions():
                return self.all(request, coordinator.add("x", request.identity, set(request.partitions)))
            case AddOffsets():
                return self.all(request, coordinator.add_group("x", request.identity, request.group_id))
            case CommitOffsets():
                offsets = {tp: place.offset for tp, place in request.offsets.items()}
                second = request.second
                return self.all(request, coordinator.commit_offsets("x", request.identity, "g", offsets, second=second))
            case EndTxn():
                code, identity = coordinator.end("x", request.identity, commit=request.commit, second=request.second)
                return Answer({None: code}, 1, identity)

    @staticmethod
    def all(request: Request, code: ErrorCode) -> Answer:
        match request:
            case AddPartitions():
                return Answer(dict.fromkeys(request.partitions, code), 1)
            case CommitOffsets():
                return Answer(dict.fromkeys(request.offsets, code), 1)
        return Answer({None: code}, 1)


@given(st.integers(0, 10**9), st.sampled_from([1, 2]), st.booleans())
def test_what_the_program_is_told_is_what_the_coordinator_has(seed: int, level: int, zombie: bool):
    run = Run(seed, level, zombie=zombie)
    run.run(12)
    marks = [*run.marks, (run.coordinator.begun, len(run.coordinator.ended))]
    for told, before, after in zip(run.told, marks[:-1], marks[1:], strict=True):
        begun, ended, begun_after, ended_after = *before, *after
        commits = [end.commit for end in run.coordinator.ended[ended:ended_after]]
        assert commits.count(True) <= 1
        if told is True and begun < begun_after:
            assert commits == [True]
        elif told is not None:
            assert True not in commits


@given(st.integers(0, 10**9), st.sampled_from([1, 2]))
def test_without_a_zombie_nothing_is_fatal(seed: int, level: int):
    run = Run(seed, level, zombie=False)
    run.run(12)
    assert run.core.error is None or not isinstance(run.core.error, ProducerFenced), run.core.error


@given(st.integers(0, 10**9))
def test_by_the_second_version_every_transaction_that_was_begun_in_earnest_has_its_own_epoch(seed: int):
    run = Run(seed, 2, zombie=True)
    run.run(12)
    ids = [end.identity for end in run.coordinator.ended]
    assert len(ids) == len(set(ids)), "two transactions ended under one identity"
