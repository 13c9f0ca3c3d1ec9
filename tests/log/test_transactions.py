"""KIP-98 and KIP-890 in the state of producers: what may be appended in a transaction, who may end it, and what it
holds back."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from ottla.log import CorruptFile, Duplicate, ModelledDisk, New, PartitionLog, ProducerState
from ottla.log.aborted import AbortedIndex, AbortedTransaction
from ottla.log.transactions import SWEEP_AT, Transactions
from ottla.log.verification import MAX_VERIFICATIONS, Verification, Verifications
from ottla.records import BatchHeader, CorruptBatch, EndMarker, encode_batch, read_header, read_marker
from ottla.records import Record as Plain
from tests.log.batches import batch, headers, lead, read_all
from tests.log.transactional import ABORT, COMMIT, CONFIG, DIRECTORY, Story, committed, marker, open_log, records

COMMITTED, ABORTED = EndMarker(True, 0), EndMarker(False, 0)


def header(sequence: int, count: int = 1, *, epoch: int = 0, transactional: bool = True) -> BatchHeader:
    values = [b"v"] * count
    return read_header(records(*values, producer_id=7, epoch=epoch, sequence=sequence, transactional=transactional))


def end(epoch: int = 0) -> BatchHeader:
    return read_header(marker(COMMIT, 7, epoch))


def begun(sequence: int = 0, epoch: int = 0) -> ProducerState:
    state = ProducerState()
    state.update(header(sequence, epoch=epoch), 5)
    return state


def asked(state: ProducerState, epoch: int, sequence: int, *, strict: bool = False) -> Verification:
    found = state.ask(7, epoch, sequence, strict=strict)
    assert isinstance(found, Verification)
    return found


# What may be appended


def test_the_first_batch_of_a_transaction_needs_a_verification_and_the_next_do_not() -> None:
    state = ProducerState()
    assert state.check(header(0)) is ErrorCode.invalid_txn_state
    assert state.check(header(0), Verification(0, strict=False)) is ErrorCode.invalid_txn_state
    verification = asked(state, 0, 0)
    assert isinstance(state.check(header(0), verification), New)
    state.update(header(0), 5)
    assert state.ask(7, 0, 1, strict=False) is None
    assert isinstance(state.check(header(1)), New)
    assert state.check(header(0)) == Duplicate(5, 5, 1000)


def test_a_marker_between_the_question_and_the_append_ends_what_was_asked_about() -> None:
    """KIP-890: else the late batch begins a transaction that nobody ends."""
    for commit in (COMMITTED, ABORTED):
        state = ProducerState()
        verification = asked(state, 0, 0)
        state.end_transaction(end(), 5, commit)
        assert state.check(header(0), verification) is ErrorCode.invalid_txn_state
        again = asked(state, 0, 0)
        assert again is not verification
        assert state.check(header(0), verification) is ErrorCode.invalid_txn_state
        assert isinstance(state.check(header(0), again), New)


def test_with_transactions_v2_the_last_transactions_marker_ends_no_question_about_the_next() -> None:
    """The producer goes on in the next epoch before that marker has come, and the coordinator answers after it."""
    state = begun(epoch=0)
    verification = asked(state, 1, 0, strict=True)
    state.end_transaction(end(epoch=1), 6, COMMITTED)
    assert isinstance(state.check(header(0, epoch=1), verification), New)
    state.end_transaction(end(epoch=2), 7, ABORTED)
    assert state.check(header(0, epoch=1), verification) is ErrorCode.invalid_producer_epoch
    assert state.check(header(0, epoch=2), verification) is ErrorCode.invalid_txn_state


def test_under_a_new_epoch_the_open_transaction_is_another_one() -> None:
    state = begun()
    assert state.check(header(0, epoch=1)) is ErrorCode.invalid_txn_state
    assert isinstance(state.check(header(0, epoch=1), asked(state, 1, 0)), New)
    state.end_transaction(end(epoch=1), 6, ABORTED)
    assert state.check(header(1, epoch=0)) is ErrorCode.invalid_producer_epoch
    assert state.ask(7, 0, 1, strict=False) is ErrorCode.invalid_producer_epoch


def test_a_question_about_one_epoch_says_nothing_of_another() -> None:
    state = ProducerState()
    first, second, forged = asked(state, 1, 0), asked(state, 2, 0, strict=True), asked(state, 9, 0)
    assert state.check(header(0, epoch=1), second) is ErrorCode.invalid_txn_state
    assert isinstance(state.check(header(0, epoch=1), first), New)
    state.end_transaction(end(epoch=1), 6, COMMITTED)
    for each in (first, second):
        assert state.check(header(0, epoch=1), each) is ErrorCode.invalid_txn_state
    assert isinstance(state.check(header(0, epoch=2), second), New)
    assert state.check(header(0, epoch=2), forged) is ErrorCode.invalid_txn_state
    state.update(header(0, epoch=2), 7)
    assert len(state.verifications) == 0


def test_a_plain_batch_in_the_middle_of_a_transaction() -> None:
    state = begun()
    assert state.check(header(1, transactional=False)) is ErrorCode.invalid_txn_state
    state.end_transaction(end(), 6, COMMITTED)
    assert isinstance(state.check(header(1, transactional=False)), New)


def test_a_higher_sequence_does_not_get_ahead_of_one_that_is_being_verified() -> None:
    state = ProducerState()
    later = asked(state, 0, 5)
    assert asked(state, 0, 3) is later
    assert state.check(header(5), later) is ErrorCode.out_of_order_sequence_number
    assert isinstance(state.check(header(3), later), New)
    assert isinstance(state.check(header(9, epoch=1), asked(state, 1, 9)), New), "a new epoch has sequences of its own"


def test_with_transactions_v2_an_unknown_producer_begins_at_zero() -> None:
    state = ProducerState()
    assert state.check(header(4), asked(state, 0, 4, strict=True)) is ErrorCode.out_of_order_sequence_number
    state = ProducerState()
    assert isinstance(state.check(header(4), asked(state, 0, 4)), New)


def test_a_coordinators_own_records_are_verified_but_in_no_sequence() -> None:
    state = begun()
    state.end_transaction(end(epoch=1), 6, COMMITTED)
    offsets = header(0, epoch=1)
    assert state.check(offsets, sequenced=False) is ErrorCode.invalid_txn_state
    verification = asked(state, 1, 0)
    assert isinstance(state.check(offsets, verification, sequenced=False), New)
    state.update(offsets, 7)
    assert isinstance(state.check(offsets, sequenced=False), New), "the same once more is no duplicate"
    assert state.check(header(0), sequenced=False) is ErrorCode.invalid_producer_epoch


# Who may end it


def test_coordinators_and_producers_of_the_past_are_fenced() -> None:
    state = begun(epoch=3)
    state.end_transaction(end(epoch=4), 6, EndMarker(True, 8))
    assert state.check_marker(7, 3, EndMarker(True, 9)) is ErrorCode.invalid_producer_epoch
    assert state.check_marker(7, 4, EndMarker(True, 7)) is ErrorCode.transaction_coordinator_fenced
    assert isinstance(state.check_marker(7, 4, EndMarker(True, 9)), New)
    assert isinstance(state.check_marker(8, 0, EndMarker(True, 0)), New), "of an unknown producer: it fences"


def test_a_retried_marker_changes_nothing() -> None:
    """KAFKA-19999: to refuse it would have the coordinator try for ever."""
    state = begun(epoch=3)
    for strict in (False, True):
        assert isinstance(state.check_marker(7, 4, COMMITTED, strict=strict), New)
    state.end_transaction(end(epoch=4), 6, COMMITTED)
    for strict in (False, True):
        assert state.check_marker(7, 4, COMMITTED, strict=strict) is None


def test_a_late_copy_of_a_marker_does_not_end_the_next_transaction() -> None:
    """KIP-1228: with transactions v2 the epoch of the copy is that of the next transaction already."""
    state = begun(epoch=3)
    state.end_transaction(end(epoch=4), 6, COMMITTED)
    state.update(header(0, epoch=4), 7)
    assert state.check_marker(7, 4, COMMITTED, strict=True) is ErrorCode.invalid_producer_epoch
    assert isinstance(state.check_marker(7, 5, COMMITTED, strict=True), New)
    assert isinstance(state.check_marker(7, 4, COMMITTED), New), "transactions v1 cannot tell"


def test_the_last_epoch_of_all_can_still_be_ended() -> None:
    state = begun(epoch=0x7FFF)
    assert isinstance(state.check_marker(7, 0x7FFF, COMMITTED, strict=True), New)


def test_transactions_survive_snapshots() -> None:
    state = begun()
    state.end_transaction(read_header(marker(COMMIT, 8)), 6, EndMarker(True, 3))
    state.update(read_header(records(b"v", producer_id=9)), 7)
    restored = ProducerState.from_snapshot(state.snapshot(), 8)
    assert restored.transactions.first_unstable(100) == 5
    assert restored.check_marker(8, 0, EndMarker(True, 2)) is ErrorCode.transaction_coordinator_fenced
    assert restored.end_transaction(end(), 8, ABORTED) == AbortedTransaction(7, 5, 8, 7)
    assert restored.transactions.first_unstable(100) == 7
    assert restored.end_transaction(read_header(marker(ABORT, 9)), 9, ABORTED) == AbortedTransaction(9, 7, 9, 10)


def test_an_open_transaction_does_not_expire_and_its_coordinators_epoch_with_it() -> None:
    """KAFKA-9144."""
    state = begun()
    state.expire(0, 1)
    assert state.expire(10, 1) == 0
    state.end_transaction(end(), 6, EndMarker(True, 5))
    state.expire(20, 1)
    assert state.expire(30, 1) == 1


# What it holds back


def test_the_last_stable_offset_waits_for_the_marker_to_be_replicated() -> None:
    transactions = Transactions()
    transactions.begin(1, 10)
    transactions.begin(2, 12)
    assert transactions.end(1, 15) == (10, 12)
    assert transactions.first_unstable(15) == 10
    assert transactions.first_unstable(16) == 12
    assert transactions.end(2, 17) == (12, 18)
    assert transactions.end(2, 17) is None
    assert transactions.first_unstable(17) == 12
    assert transactions.first_unstable(18) is None


def test_what_is_settled_behind_an_open_transaction_does_not_gather() -> None:
    transactions = Transactions()
    transactions.begin(0, 0)
    for at in range(1, 20 * SWEEP_AT, 2):
        transactions.begin(1, at)
        transactions.end(1, at + 1)
        transactions.first_unstable(at + 2)
    assert len(transactions.unsettled) <= SWEEP_AT + 1


def test_questions_are_bounded_and_expire() -> None:
    verifications = Verifications()
    first = verifications.ask(0, 0, 0, strict=False)
    for producer_id in range(1, MAX_VERIFICATIONS + 1):
        verifications.ask(producer_id, 0, 0, strict=False)
    assert len(verifications) == MAX_VERIFICATIONS and verifications.get(0, 0) is None
    assert verifications.ask(0, 0, 0, strict=False) is not first
    verifications.expire(1000, 50)
    verifications.expire(1049, 50)
    assert len(verifications) == MAX_VERIFICATIONS
    verifications.expire(1050, 50)
    assert len(verifications) == 0


# Markers and the index


def test_a_marker_has_kafkas_bytes() -> None:
    data = marker(ABORT, 7, epoch=3, coordinator_epoch=9)
    found = read_header(data)
    assert (found.is_control, found.is_transactional, found.base_sequence, found.count) == (True, True, -1, 1)
    assert data.endswith(bytes.fromhex("2000 00 00 08 00000000 0c 000000000009 00".replace(" ", "")))
    assert read_marker(data) == EndMarker(False, 9)


@pytest.mark.parametrize(
    ("key", "value"), [(b"\0\0", b""), (None, b"\0" * 6), (b"\0\0\0\1", b"\0\0"), (b"\0" * 4, None)]
)
def test_a_marker_that_makes_no_sense(key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(CorruptBatch):
        read_marker(encode_batch([Plain(0, 1, key, value)], control=True))


def test_control_records_of_another_kind_end_nothing() -> None:
    assert read_marker(encode_batch([Plain(0, 1, b"\0\0\0\2", b"")], control=True)) is None


def test_the_index_has_kafkas_layout_and_any_damage_is_noticed() -> None:
    index = AbortedIndex()
    index.add(AbortedTransaction(7, 3, 9, 5))
    index.add(AbortedTransaction(8, 5, 12, 13))
    data, checksum = index.encode()
    assert data == struct.pack(">hqqqq", 0, 7, 3, 9, 5) + struct.pack(">hqqqq", 0, 8, 5, 12, 13)
    assert list(AbortedIndex.decode(data, checksum)) == list(index)
    for at in range(len(data)):
        with pytest.raises(CorruptFile):
            AbortedIndex.decode(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], checksum)
        with pytest.raises(CorruptFile):
            AbortedIndex.decode(data[:at], checksum)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)), max_size=30), st.integers(0, 80), st.integers(0, 80))
def test_the_index_finds_what_a_search_finds(steps: list[tuple[int, int]], start: int, end: int) -> None:
    index, rows, last = AbortedIndex(), [], 0
    for back, step in steps:
        last += step
        row = AbortedTransaction(1, max(last - back, 0), last, last + 1)
        rows.append(row)
        index.add(row)
    found: list[tuple[int, int]] = []
    over = index.collect(start, end, found)
    hits = [(row.producer_id, row.first_offset) for row in rows if row.first_offset < end and row.last_offset >= start]
    # A last stable offset right behind the marker says that nothing that began earlier is open.
    assert [hit for hit in hits if hit in found] == found and (over or found == hits)
    index.truncate(end)
    assert list(index) == [row for row in rows if row.last_offset < end]


@pytest.mark.parametrize("seed", range(5))
def test_a_follower_makes_the_same_of_the_same_batches(seed: int) -> None:
    story = Story(ModelledDisk(random.Random(seed)), seed)
    story.rare = [story.flush]
    story.run(120, check=False)
    rng = random.Random(seed)
    follower = PartitionLog.open(story.disk, "data/f-0", CONFIG, clean=False, now_ms=0)
    while follower.log_end_offset < story.log.log_end_offset:
        end = follower.log_end_offset
        follower.append_as_follower(story.log.read(end, rng.choice([1, 300, 5000]), up_to=story.log.log_end_offset))
    assert follower.producers.entries == story.log.producers.entries
    end = follower.log_end_offset
    assert follower.aborted_transactions(0, end) == story.log.aborted_transactions(0, end)
    assert follower.first_unstable_offset(end) == story.log.first_unstable_offset(end)


def test_a_marker_that_cannot_be_read_is_not_taken_from_a_leader() -> None:
    log = open_log(ModelledDisk(random.Random(0)))
    lead(log, batch())
    bad = encode_batch([Plain(0, 1, b"?", b"?")], base_offset=1, leader_epoch=0, producer_id=1, control=True)
    with pytest.raises(CorruptBatch):
        log.append_as_follower(bad)
    assert log.log_end_offset == 1 and len(headers(read_all(log))) == 1


@pytest.mark.parametrize("harm", ["flipped", "cut", "no checksum", "no index"])
@pytest.mark.parametrize("snapshots", [True, False])
def test_a_rotten_index_is_made_anew_from_the_log(harm: str, snapshots: bool) -> None:
    disk = ModelledDisk(random.Random(0))
    log = open_log(disk)
    for producer_id in range(1, 30):
        lead(log, records(b"%d" % producer_id, producer_id=producer_id))
        if producer_id % 3:
            lead(log, marker(producer_id % 3 == 1, producer_id))
    expected = log.aborted_transactions(0, log.log_end_offset)
    stable = log.first_unstable_offset(log.log_end_offset)
    log.close(0)
    names = [name for name in disk.listdir(DIRECTORY) if name.endswith(".txnindex")]
    assert len(names) > 3
    for name in names:
        path = f"{DIRECTORY}/{name}"
        data = disk.read(path)
        if harm == "flipped":
            disk.write_atomic(path, data[:20] + bytes([data[20] ^ 16]) + data[21:])
        elif harm == "cut":
            disk.write_atomic(path, data[:-34])
        else:
            disk.remove(path + (".crc32c" if harm == "no checksum" else ""))
    if not snapshots:
        for name in disk.listdir(DIRECTORY):
            if name.endswith(".snapshot") and int(name[:20]) != log.log_end_offset:
                disk.remove(f"{DIRECTORY}/{name}")
    again = open_log(disk, clean=True)
    assert again.recovered.scanned_from is None
    assert again.aborted_transactions(0, again.log_end_offset) == expected
    assert again.first_unstable_offset(again.log_end_offset) == stable
    assert [offset for offset, _ in committed(again, 0, again.log_end_offset, 10_000)] == [0]


def test_where_nothing_was_aborted_nothing_is_looked_for() -> None:
    disk = ModelledDisk(random.Random(0))
    log = open_log(disk)
    for sequence in range(30):
        lead(log, records(b"v", producer_id=1, sequence=sequence))
    lead(log, marker(COMMIT, 1))
    log.close(0)
    log = open_log(disk, clean=True)
    assert log.last_abort == log.log_end_offset - 1, "for all that is known"
    assert log.aborted_in(log.read(0, 100, up_to=31), 0) == []
    assert log.last_abort == -1, "one pass over the indexes has found none"
    lead(log, records(b"v", producer_id=2))
    lead(log, marker(ABORT, 2))
    assert log.last_abort == 32 and log.aborted_in(log.read(31, 100, up_to=33), 31) == [(2, 31)]
    log.truncate_to(32)
    assert log.aborted_in(log.read(31, 100, up_to=32), 31) == []


def stopped(disk: ModelledDisk, *, roll: bool) -> tuple[int, int]:
    """A log that was closed cleanly after a transaction, with records before and after it: where that began, and its
    marker. With `roll` the marker is the last of its segment, and a snapshot lies right behind it."""
    log = open_log(disk)
    lead(log, batch([b"a", b"b"]))
    first = log.log_end_offset
    lead(log, records(b"a", producer_id=7, transactional=True))
    lead(log, batch())
    at = log.log_end_offset
    lead(log, marker(COMMIT, 7))
    lead(log, batch([bytes(400 if roll else 1)]))
    assert (at + 1 in [segment.base_offset for segment in log.segments]) is roll
    log.close(0)
    return first, at


@pytest.mark.parametrize("roll", [False, True], ids=["", "rolled"])
@pytest.mark.parametrize("clean", [False, True], ids=["killed", "stopped"])
def test_what_had_ended_but_was_not_replicated_holds_back_the_offset_after_a_restart_too(
    clean: bool, roll: bool
) -> None:
    disk = ModelledDisk(random.Random(1))
    first, at = stopped(disk, roll=roll)
    log = open_log(disk, clean=clean, recovery_point=at + 1, high_watermark=at)
    assert log.producers.transactions.first_unstable(at) == first
    assert log.producers.transactions.first_unstable(at + 1) is None
    log.close(0)
    log = open_log(disk, clean=clean, recovery_point=at + 1, high_watermark=at + 1)
    assert log.producers.transactions.first_unstable(at + 1) is None
