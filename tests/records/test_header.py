"""The batch header: known bytes, damage at every place, and what a broker reads from it."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.records import (
    HEADER_SIZE,
    BatchHeader,
    CorruptBatch,
    Record,
    encode_batch,
    iter_headers,
    iter_verified,
    read_header,
    stamped_prefix,
    verify_batch,
)


def batch(count: int = 3, **options: int | bool) -> bytes:
    return encode_batch([Record(0, 1000 + i, b"k", b"v" * i) for i in range(count)], **options)  # type: ignore[arg-type]


def test_the_fields_stand_where_kafka_puts_them() -> None:
    data = batch(base_offset=7, leader_epoch=5, producer_id=9, producer_epoch=2, base_sequence=4, transactional=True)
    header = verify_batch(data)
    assert header == BatchHeader(
        base_offset=7,
        batch_length=len(data) - 12,
        leader_epoch=5,
        magic=2,
        crc=struct.unpack_from(">I", data, 17)[0],
        attributes=0x10,
        last_offset_delta=2,
        base_timestamp=1000,
        max_timestamp=1002,
        producer_id=9,
        producer_epoch=2,
        base_sequence=4,
        count=3,
    )
    assert (header.size, header.last_offset, header.next_offset, header.last_sequence) == (len(data), 9, 10, 6)
    assert header.is_transactional
    assert not header.is_control


@pytest.mark.parametrize(
    ("attributes", "compression", "time_type", "transactional", "control", "horizon"),
    [(0, 0, 0, False, False, False), (0x04, 4, 0, False, False, False), (0x78, 0, 1, True, True, True)],
)
def test_attributes(
    attributes: int, compression: int, time_type: int, transactional: bool, control: bool, horizon: bool
) -> None:
    header = read_header(batch())._replace(attributes=attributes)
    assert header.compression == compression
    assert header.timestamp_type == time_type
    assert header.is_transactional is transactional
    assert header.is_control is control
    assert header.has_delete_horizon is horizon


def test_sequences_wrap_to_zero() -> None:
    header = read_header(batch(base_sequence=2**31 - 2, producer_id=1, producer_epoch=0))
    assert header.last_sequence == 0
    assert read_header(batch()).last_sequence == -1


def test_offset_and_epoch_are_stamped_without_touching_the_checksum() -> None:
    data = batch()
    stamped = stamped_prefix(read_header(data), 500, 8) + data[16:]
    header = verify_batch(stamped)
    assert (header.base_offset, header.leader_epoch, header.last_offset) == (500, 8, 502)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: memoryview(bytearray(data))])
def test_any_buffer_will_do(kind: type) -> None:
    data = b"xx" + batch()
    assert verify_batch(kind(data), 2).count == 3


def test_every_flipped_bit_behind_the_epoch_is_found() -> None:
    data = bytearray(batch())
    for bit in range(8 * 16, 8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptBatch):
            verify_batch(data)
        with pytest.raises(CorruptBatch):
            list(iter_verified(data))
        data[bit // 8] ^= 1 << bit % 8
    verify_batch(data)


def test_one_batch_after_the_other() -> None:
    data = batch(2, base_offset=5, leader_epoch=3) + batch(1, base_offset=9, leader_epoch=4)
    assert list(iter_verified(data)) == [(5, 6, 3), (9, 9, 4)]
    assert list(iter_verified(b"")) == []


def test_every_truncation_is_found() -> None:
    data = batch()
    for end in range(len(data)):
        with pytest.raises(CorruptBatch):
            verify_batch(data[:end])
        with pytest.raises(CorruptBatch):
            list(iter_verified(data + data[: end or 1]))
        assert list(iter_headers(data[:end])) == []


@pytest.mark.parametrize("length", [-(2**31), -13, -1, 0, 48, 2**31 - 1])
def test_lengths_that_no_batch_has(length: int) -> None:
    data = bytearray(batch())
    struct.pack_into(">i", data, 8, length)
    with pytest.raises(CorruptBatch):
        verify_batch(data)
    with pytest.raises(CorruptBatch):
        list(iter_verified(data))
    if length < HEADER_SIZE - 12:
        with pytest.raises(CorruptBatch):
            list(iter_headers(data))


def test_headers_of_several_batches_up_to_an_incomplete_tail() -> None:
    first, second = batch(1, base_offset=0), batch(2, base_offset=1)
    both = first + second
    found = list(iter_headers(both + first[:-1]))
    assert [(pos, header.base_offset, header.count) for pos, header in found] == [(0, 0, 1), (len(first), 1, 2)]
    assert [pos for pos, _ in iter_headers(both, len(first))] == [len(first)]


@given(st.binary(max_size=200))
def test_garbage_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptBatch):
        verify_batch(data)
