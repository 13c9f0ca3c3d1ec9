"""A producer's transactions as a machine: every answer, lost and repeated ones, both versions of the protocol."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from kio.schema.errors import ErrorCode

from ottla.client import (
    AbortableTransactionError,
    CommitFailedError,
    IllegalStateError,
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
