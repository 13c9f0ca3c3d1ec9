"""A producer's transactions as a machine: every answer, lost and repeated ones, both versions of the protocol."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from ottla.client import (
    AbortableTransactionError,
    CommitFailedError,
    FatalTransactionError,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    OffsetAndMetadata,
    ProducerFenced,
    TopicPartition,
)
from ottla.client.backoff import Backoff
from ottla.client.producer.batch import ProducerIdentity
from ottla.client.producer.transactions import TRANSITIONS, State
from ottla.client.producer.transactions.core import TransactionCore
from ottla.client.producer.transactions.model import (
    AddOffsets,
    AddPartitions,
    Answer,
    CommitOffsets,
    EndTxn,
    InitProducerId,
    Meaning,
    Request,
    meaning,
)
from ottla.client.structs import ConsumerGroupMetadata
from tests.client.txn_model import ModelCoordinator

TPS = [TopicPartition("t", 0), TopicPartition("t", 1)]
GROUP = ConsumerGroupMetadata("g", 3, "m", None)
FIRST = ProducerIdentity(7, 0)


def make(level: int = 2) -> TransactionCore:
    """One that has its producer id."""
    core = TransactionCore("x", Backoff(), random.Random(1))
    core.initialise(level)
    request = core.next()
    assert request == InitProducerId(None)
    answered(core, request, identity=FIRST)
    assert core.state is State.READY
    return core


def answered(
    core: TransactionCore,
    request: Request | None,
    code: ErrorCode = ErrorCode.none,
    identity: ProducerIdentity | None = None,
    tps: Iterable[TopicPartition | None] = (None,),
):
    assert request is not None
    core.on_sent(request)
    return core.on_answer(request, Answer(dict.fromkeys(tps, code), 1, identity))


def in_transaction(level: int = 2) -> TransactionCore:
    core = make(level)
    core.begin()
    core.join(TPS[0])
    if level < 2:
        answered(core, core.next(), tps=TPS[:1])
    return core


def ending(level: int = 2, *, commit: bool = True) -> tuple[TransactionCore, EndTxn]:
    core = in_transaction(level)
    core.end(commit, level)
    core.settled(gap=False)
    request = core.next()
    assert isinstance(request, EndTxn)
    return core, request


def test_a_transaction_of_the_second_version_asks_once():
    core = make()
    core.begin()
    assert not core.join(TPS[0]) and core.admitted(TPS[0])
    assert core.next() is None
    core.end(True, 2)
    assert core.next() is None, "records are still on their way"
    core.settled(gap=False)
    request = core.next()
    assert request == EndTxn(FIRST, True, True)
    answered(core, request, identity=ProducerIdentity(7, 1))
    assert core.state is State.READY and core.identity == ProducerIdentity(7, 1)
    assert not core.admitted(TPS[0])


def test_a_transaction_of_the_first_version_adds_partitions_before():
    core = make(1)
    core.begin()
    assert core.join(TPS[0]) and core.join(TPS[1])
    assert not core.join(TPS[1]), "it is on its way"
    request = core.next()
    assert request == AddPartitions(FIRST, tuple(TPS))
    assert not core.admitted(TPS[0])
    answered(core, request, tps=TPS)
    assert core.admitted(TPS[0]) and core.next() is None
    core.end(True, 1)
    core.settled(gap=False)
    request = core.next()
    assert request == EndTxn(FIRST, True, False)
    answered(core, request)
    assert core.state is State.READY and core.identity == FIRST


def test_offsets_are_added_and_then_sent_to_the_group():
    core = make(1)
    core.begin()
    core.add_offsets(GROUP, {TPS[0]: OffsetAndMetadata(5)})
    request = core.next()
    assert request == AddOffsets(FIRST, "g")
    answered(core, request)
    request = core.next()
    assert request == CommitOffsets(FIRST, GROUP, {TPS[0]: OffsetAndMetadata(5)}, False)
    answered(core, request, tps=TPS[:1])
    assert not core.offsets_pending
    core.add_offsets(GROUP, {TPS[0]: OffsetAndMetadata(6)})
    assert isinstance(core.next(), CommitOffsets), "the group is a part of it already"


def test_the_second_version_sends_offsets_at_once_and_only_what_failed_again():
    core = make()
    core.begin()
    core.add_offsets(GROUP, {tp: OffsetAndMetadata(5) for tp in TPS})
    request = core.next()
    assert isinstance(request, CommitOffsets) and request.second
    core.on_sent(request)
    codes = {TPS[0]: ErrorCode.none, TPS[1]: ErrorCode.coordinator_load_in_progress}
    assert core.on_answer(request, Answer(codes, 1)).wait > 0
    again = core.next()
    assert isinstance(again, CommitOffsets) and set(again.offsets) == {TPS[1]}
    answered(core, again, tps=TPS[1:])
    assert not core.offsets_pending


def test_a_transaction_in_which_nothing_was_sent_is_over_at_once():
    for level in (1, 2):
        core = make(level)
        core.begin()
        core.end(True, level)
        core.settled(gap=False)
        assert core.next() is None and core.state is State.READY


@pytest.mark.parametrize("code", [ErrorCode.not_coordinator, ErrorCode.coordinator_not_available])
def test_a_coordinator_that_has_moved_is_looked_up(code: ErrorCode):
    core, request = ending()
    following = answered(core, request, code)
    assert following.moved and following.wait > 0
    assert core.next() == request and core.attempts == 1 and core.last_error is code


def test_the_transaction_before_is_waited_for_shortly():
    core = make(1)
    core.begin()
    core.join(TPS[0])
    following = answered(core, core.next(), ErrorCode.concurrent_transactions, tps=TPS[:1])
    assert not following.moved and 0 < following.wait < 0.02


@pytest.mark.parametrize("code", [ErrorCode.producer_fenced, ErrorCode.invalid_producer_epoch])
def test_a_fenced_producer_is_told_by_a_type(code: ErrorCode):
    core, request = ending()
    answered(core, request, code)
    assert core.state is State.FATAL_ERROR
    assert isinstance(core.error, ProducerFenced) and core.error.definite is True
    assert core.error.broker == 1 and core.error.attempts == 1
    for refused in (core.begin, lambda: core.join(TPS[0]), lambda: core.end(False, 2)):
        with pytest.raises(ProducerFenced):
            refused()


def test_a_commit_that_may_have_been_taken_is_not_definite():
    core, request = ending()
    core.on_sent(request)
    core.on_lost(request)
    answered(core, request, ErrorCode.producer_fenced)
    assert isinstance(core.error, ProducerFenced) and core.error.definite is False


def test_a_commit_that_was_only_put_off_is_definite():
    core, request = ending()
    answered(core, request, ErrorCode.concurrent_transactions)
    answered(core, request, ErrorCode.invalid_producer_id_mapping)
    assert core.error is not None and core.error.definite is True


def test_what_can_be_aborted_is_aborted_and_the_producer_goes_on():
    core, request = ending()
    answered(core, request, ErrorCode.transaction_abortable)
    assert core.state is State.ABORTABLE_ERROR and core.next() is None
    assert isinstance(core.error, AbortableTransactionError)
    with pytest.raises(AbortableTransactionError):
        core.end(True, 2)
    with pytest.raises(IllegalStateError):
        core.begin()
    core.end(False, 2)
    core.settled(gap=False)
    answered(core, core.next(), identity=ProducerIdentity(7, 1))
    assert core.state is State.READY and core.error is None
    core.begin()


def test_offsets_of_partitions_that_have_another_owner_are_abortable():
    """KIP-447."""
    core = make()
    core.begin()
    core.add_offsets(GROUP, {TPS[0]: OffsetAndMetadata(5)})
    answered(core, core.next(), ErrorCode.illegal_generation, tps=TPS[:1])
    assert isinstance(core.error, AbortableTransactionError)
    assert isinstance(core.error.__cause__, CommitFailedError)
    assert not core.offsets_pending


def test_a_record_that_was_given_up_takes_the_transaction_with_it():
    core = in_transaction()
    cause = KafkaTimeoutError("delivery timeout")
    core.failed(cause)
    assert core.state is State.ABORTABLE_ERROR and core.error is not None and core.error.__cause__ is cause
    with pytest.raises(AbortableTransactionError):
        core.join(TPS[0])


def test_a_fenced_record_is_fatal():
    core = in_transaction()
    core.failed(ProducerFenced(ErrorCode.producer_fenced))
    assert core.state is State.FATAL_ERROR and isinstance(core.error, ProducerFenced)


def test_lost_sequences_need_another_epoch_by_the_first_version():
    """KIP-360: after the abort, and before anything else is sent."""
    core = in_transaction(1)
    core.end(False, 1)
    core.settled(gap=True)
    answered(core, core.next())
    assert core.state is State.INITIALIZING
    request = core.next()
    assert request == InitProducerId(FIRST)
    answered(core, request, identity=ProducerIdentity(7, 1))
    assert core.state is State.READY and core.identity == ProducerIdentity(7, 1)


def test_the_second_version_begins_with_an_epoch_of_its_own():
    core = in_transaction(1)
    core.end(True, 2)
    core.settled(gap=False)
    request = core.next()
    assert request == EndTxn(FIRST, True, False), "it ends as it has begun"
    answered(core, request)
    assert core.state is State.INITIALIZING and core.second
    answered(core, core.next(), identity=ProducerIdentity(7, 1))
    core.begin()
    assert not core.join(TPS[0])


def test_what_may_have_been_added_is_known_before_the_transaction_ends():
    """By the first version an EndTxn for a transaction that the coordinator has not heard of would be refused."""
    core = make(1)
    core.begin()
    core.join(TPS[0])
    request = core.next()
    assert request is not None
    core.on_sent(request)
    core.on_lost(request)
    core.join(TPS[1])
    core.end(False, 1)
    core.settled(gap=False)
    again = core.next()
    assert again == AddPartitions(FIRST, (TPS[0],)), "and nothing that was never asked for"
    answered(core, again, tps=TPS[:1])
    assert isinstance(core.next(), EndTxn)


def test_a_group_that_may_have_been_added_is_known_before_the_transaction_ends():
    core = make(1)
    core.begin()
    core.add_offsets(GROUP, {TPS[0]: OffsetAndMetadata(5)})
    request = core.next()
    assert request is not None
    core.on_sent(request)
    core.on_lost(request)
    core.end(False, 1)
    core.settled(gap=False)
    again = core.next()
    assert again == AddOffsets(FIRST, "g")
    answered(core, again)
    assert core.next() == EndTxn(FIRST, False, False), "and the offsets are not sent"


def test_a_topic_that_is_gone_does_not_keep_a_transaction_from_its_end():
    core = make(1)
    core.begin()
    core.join(TPS[0])
    answered(core, core.next(), ErrorCode.unknown_topic_or_partition, tps=TPS[:1])
    core.end(False, 1)
    core.settled(gap=False)
    answered(core, core.next(), ErrorCode.unknown_topic_or_partition, tps=TPS[:1])
    assert core.next() is None and core.state is State.READY


def test_what_cannot_be_is_refused():
    core = make()
    with pytest.raises(IllegalStateError, match="Ready"):
        core.join(TPS[0])
    with pytest.raises(IllegalStateError):
        core.end(True, 2)
    with pytest.raises(IllegalStateError):
        core.add_offsets(GROUP, {TPS[0]: OffsetAndMetadata(1)})
    core.begin()
    with pytest.raises(IllegalStateError):
        core.begin()
    core.end(True, 2)
    core.end(True, 2)
    with pytest.raises(IllegalStateError):
        core.end(False, 2)


def test_every_answer_has_a_meaning():
    requests: list[Request] = [
        InitProducerId(None),
        AddPartitions(FIRST, ()),
        AddOffsets(FIRST, "g"),
        CommitOffsets(FIRST, GROUP, {}, True),
        EndTxn(FIRST, True, True),
    ]
    for request in requests:
        for code in ErrorCode:
            means = meaning(request, code)
            assert (means is Meaning.DONE) == (code is ErrorCode.none)
            assert not (code.retriable and means is Meaning.FATAL)


def test_every_state_can_be_left_but_the_last():
    assert set(TRANSITIONS) == set(State)
    assert all(TRANSITIONS[state] for state in State if state is not State.FATAL_ERROR)
    reached = {State.UNINITIALIZED} | {to for ways in TRANSITIONS.values() for to in ways}
    assert reached == set(State)


# -- against a coordinator


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
