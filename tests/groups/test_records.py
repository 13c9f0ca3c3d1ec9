"""The records of `__consumer_offsets`, against bytes as Kafka writes them."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.broker.coordination.partitioning import java_hash, partition_for
from ottla.broker.coordination.primitives import BadRecord
from ottla.broker.groups.records import (
    Entry,
    GroupKey,
    OffsetKey,
    OffsetValue,
    StoredGroup,
    StoredMember,
    decode,
    encode_key,
    encode_value,
)

OFFSET_KEY = bytes.fromhex("000100016700017400000003")
OFFSET_VALUE_3 = bytes.fromhex("0003000000000000002a0000000700016d0000000000000064")
OFFSET_VALUE_1 = bytes.fromhex("0001000000000000002a00016d000000000000006400000000000000c8")
OFFSET_VALUE_4 = bytes.fromhex("0004000000000000002a00000007026d0000000000000064010010" + "11" * 16)
GROUP_KEY = bytes.fromhex("0002000167")
GROUP_VALUE_3 = bytes.fromhex(
    "0003"
    "0008" + b"consumer".hex() + "00000005"
    "0005" + b"range".hex() + "0001"
    "6d"
    "0000000000000064"
    "00000001"
    "0001"
    "6d"
    "ffff"
    "0001"
    "63"
    "0002"
    "2f68"
    "00000bb8"
    "000007d0"
    "00000001"
    "01"
    "00000002"
    "0203"
)
STORED = StoredGroup(
    "consumer", 5, "range", "m", 100, (StoredMember("m", None, "c", "/h", 3000, 2000, b"\1", b"\2\3"),)
)


def test_known_bytes() -> None:
    key = OffsetKey("g", "t", 3)
    assert encode_key(key) == OFFSET_KEY
    assert encode_value(OffsetValue(42, 7, "m", 100)) == OFFSET_VALUE_3
    assert encode_value(OffsetValue(42, -1, "m", 100, 200)) == OFFSET_VALUE_1
    assert encode_value(OffsetValue(42, 7, "m", 100, topic_id=UUID("11" * 16))) == OFFSET_VALUE_4
    assert encode_key(GroupKey("g")) == GROUP_KEY
    assert encode_value(STORED) == GROUP_VALUE_3
    assert decode(OFFSET_KEY, OFFSET_VALUE_3) == Entry(key, OffsetValue(42, 7, "m", 100))
    assert decode(OFFSET_KEY, OFFSET_VALUE_1) == Entry(key, OffsetValue(42, -1, "m", 100, 200))
    assert decode(GROUP_KEY, GROUP_VALUE_3) == Entry(GroupKey("g"), STORED)
    assert decode(GROUP_KEY, None) == Entry(GroupKey("g"), None)


def test_what_newer_kafkas_write_is_read() -> None:
    found = decode(OFFSET_KEY, OFFSET_VALUE_4)
    assert found is not None and isinstance(found.value, OffsetValue)
    assert (found.value.offset, found.value.leader_epoch, found.value.topic_id.hex) == (42, 7, "11" * 16)


def test_records_of_unknown_types_are_passed_over() -> None:
    assert decode(bytes.fromhex("0063000167"), b"") is None


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"", None), (b"\0", None), (OFFSET_KEY[:-1], None), (OFFSET_KEY, b"\0\x63"), (OFFSET_KEY, OFFSET_VALUE_3[:-1])],
)
def test_damage_is_told(key: bytes, value: bytes | None) -> None:
    with pytest.raises(BadRecord):
        decode(key, value)


@given(st.binary(max_size=60), st.none() | st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(key: bytes, value: bytes | None) -> None:
    for start in (b"", b"\0\1", b"\0\2"):
        with suppress(BadRecord):
            decode(start + key, value)


names = st.text(max_size=20)
times = st.integers(-1, 2**63 - 1)
members = st.builds(
    StoredMember,
    names,
    st.none() | names,
    names,
    names,
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**31 - 1),
    st.binary(max_size=20),
    st.binary(max_size=20),
)


@given(
    st.builds(
        StoredGroup, names, st.integers(0, 2**31 - 1), st.none() | names, st.none() | names, times, st.tuples(members)
    )
)
def test_groups_round_trip(value: StoredGroup) -> None:
    found = decode(encode_key(GroupKey("g")), encode_value(value))
    assert found == Entry(GroupKey("g"), value)


def test_java_hash() -> None:
    """Numbers from Java's `"...".hashCode()`."""
    assert java_hash("") == 0
    assert java_hash("hello") == 99162322
    assert java_hash("polygenelubricants") == -(2**31)
    assert java_hash("\N{GRINNING FACE}") == 1772899
    assert partition_for("polygenelubricants", 50) == 0
    assert partition_for("hello", 50) == 22
    assert all(0 <= partition_for(f"group-{number}", 50) < 50 for number in range(200))
