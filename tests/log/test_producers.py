"""KIP-98 idempotence: the window, its snapshot in Kafka's form, expiry."""

from __future__ import annotations

import struct

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from ottla.log import CorruptFile, Duplicate, New, ProducerState
from ottla.records import BatchHeader, read_header
from tests.log.batches import batch


def header(sequence: int, count: int = 1, epoch: int = 0, producer: int = 7, **kinds: bool) -> BatchHeader:
    data = batch([b"x"] * count, producer_id=producer, producer_epoch=epoch, base_sequence=sequence, **kinds)
    return read_header(data)


def test_retries_of_the_last_five_batches_are_duplicates() -> None:
    state = ProducerState()
    for at in range(7):
        assert isinstance(state.check(header(at * 2, 2)), New)
        state.update(header(at * 2, 2), 100 + at * 2)
    for at in range(7):
        expected = Duplicate(100 + at * 2, 101 + at * 2, 1001) if at >= 2 else ErrorCode.out_of_order_sequence_number
        assert state.check(header(at * 2, 2)) == expected
    assert state.check(header(15)) is ErrorCode.out_of_order_sequence_number
    assert state.check(header(12, 1)) is ErrorCode.out_of_order_sequence_number


def test_epochs_fence_and_begin_at_zero() -> None:
    state = ProducerState()
    state.update(header(0, epoch=3), 0)
    assert state.check(header(1, epoch=2)) is ErrorCode.invalid_producer_epoch
    assert state.check(header(1, epoch=4)) is ErrorCode.out_of_order_sequence_number
    assert isinstance(state.check(header(0, epoch=4)), New)
    state.update(header(0, epoch=4), 1)
    assert state.check(header(0, epoch=4)) == Duplicate(1, 1, 1000)


def test_an_unknown_producer_may_begin_anywhere() -> None:
    assert isinstance(ProducerState().check(header(99)), New)
    assert isinstance(ProducerState().check(header(-1, producer=-1)), New)


def test_sequences_wrap() -> None:
    state = ProducerState()
    state.update(header(0x7FFFFFFE, 3), 10)
    assert state.check(header(0x7FFFFFFE, 3)) == Duplicate(10, 12, 1002)
    assert isinstance(state.check(header(1)), New)
    assert state.check(header(0)) is ErrorCode.out_of_order_sequence_number


def test_expiry_counts_quiet_time_by_our_own_clock() -> None:
    state = ProducerState()
    state.update(header(0), 0)
    assert state.expire(10_000_000, 1000) == 0
    assert state.expire(10_000_999, 1000) == 0
    state.update(header(1), 1)
    assert state.expire(10_001_500, 1000) == 0
    assert state.expire(9_000_000, 1000) == 0
    assert state.expire(9_001_000, 1000) == 1


def test_snapshot_has_kafkas_layout() -> None:
    state = ProducerState()
    state.update(header(0, 3, epoch=2), 40)
    data = state.snapshot()
    assert struct.unpack_from(">hIi", data) == (1, crc32c(data[6:]), 1)
    assert struct.unpack_from(">qhiqiqiq", data, 10) == (7, 2, 2, 42, 2, 1002, -1, -1)
    assert len(data) == 10 + 46


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3)), max_size=20))
def test_snapshots_round_trip_and_any_damage_is_noticed(batches: list[tuple[int, int]]) -> None:
    state = ProducerState()
    next_sequence: dict[int, int] = {}
    offset = 0
    for producer, count in batches:
        sequence = next_sequence.get(producer, 0)
        state.update(header(sequence, count, producer=producer), offset)
        next_sequence[producer] = sequence + count
        offset += count
    data = state.snapshot()
    restored = ProducerState.from_snapshot(data, offset)
    assert restored.snapshot() == data
    for producer, sequence in next_sequence.items():
        assert isinstance(restored.check(header(sequence, producer=producer)), New)
    for cut in range(len(data)):
        with pytest.raises(CorruptFile):
            ProducerState.from_snapshot(data[:cut], offset)
    for position in range(len(data)):
        with pytest.raises(CorruptFile):
            ProducerState.from_snapshot(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :], offset)
