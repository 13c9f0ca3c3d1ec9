"""kio's messages built from plain values, and the walk that counts their elements."""

import contextlib
import random
import struct
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode
from kio.schema.index import api_key_map, schema_name_map

from ottla.wire import ProtocolError, build, decode, encode, parse_fetch_request, request_type, response_type
from ottla.wire.schema import walker
from tests.wire.fuzz import random_entity

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SERVED = (0, 1, 2, 3, 18, 19, 20, 22, 23, 32, 36, 44, 60, 75)
REQUESTS = [(key, version) for key in SERVED for version in schema_name_map[api_key_map[key]]]


def test_missing_names_get_defaults_and_unknown_ones_are_dropped() -> None:
    cls = response_type(3, 12)
    entity = build(cls, {"throttle_time": 7, "cluster_id": "c", "no_such_field": 1, "topics": [{"name": "t"}]})
    assert entity.throttle_time == timedelta(milliseconds=7)
    assert entity.topics[0].error_code is ErrorCode.none
    assert entity.topics[0].partitions == ()
    assert entity.brokers == ()
    assert entity.controller_id == -1


def test_times_and_codes_may_be_integers() -> None:
    cls = response_type(0, 9)
    partition = {"index": 1, "error_code": 6, "log_append_time": -1}
    entity = build(cls, {"responses": [{"name": "t", "partition_responses": [partition]}]})
    built = entity.responses[0].partition_responses[0]
    assert built.error_code is ErrorCode.not_leader_or_follower
    assert built.log_append_time is None
    later = build(cls, {"responses": [{"name": "t", "partition_responses": [partition | {"log_append_time": 1500}]}]})
    assert later.responses[0].partition_responses[0].log_append_time == datetime.fromtimestamp(1.5, UTC)


def test_instances_pass_through() -> None:
    cls = response_type(3, 12)
    entity = build(cls, {"brokers": [{"node_id": 1, "host": "h", "port": 9}]})
    assert build(cls, {"brokers": entity.brokers}).brokers == entity.brokers


@pytest.mark.parametrize("size", [127, 128, 32_767, 32_768, 70_000])
def test_a_string_is_no_longer_than_a_length_of_16_bits_can_say(size: int) -> None:
    cls = request_type(22, 5)
    data = encode(cls, {"transactional_id": "x" * size})
    if size <= 32_767:
        assert decode(cls, data).transactional_id == "x" * size
    else:
        with pytest.raises(ProtocolError, match=f"a string of {size} bytes"):
            decode(cls, data)


@pytest.mark.parametrize(("key", "version"), REQUESTS)
def test_every_request_is_built_from_nothing(key: int, version: int) -> None:
    for cls in (request_type(key, version), response_type(key, version)):
        assert decode(cls, encode(cls, {})) == build(cls, {})


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(REQUESTS), st.integers(0, 2**32))
def test_the_walk_agrees_with_the_reader(request_: tuple[int, int], seed: int) -> None:
    """What the codec reads, the counter walks over to the same end."""
    cls = request_type(*request_)
    data = encode(cls, random_entity(cls, random.Random(seed)))
    walker(cls).check(data, 0, 10_000)
    if data:
        with pytest.raises(ProtocolError):
            walker(cls).check(data[:-1], 0, 10_000)
        with pytest.raises(ProtocolError):
            decode(cls, data[:-1])


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(REQUESTS), st.integers(0, 2**32))
def test_lengths_and_counts_of_the_largest_kind_at_every_place(request_: tuple[int, int], seed: int) -> None:
    """kio alone would reserve memory for what an array claims, and abort the process."""
    cls = request_type(*request_)
    data = encode(cls, random_entity(cls, random.Random(seed), max_items=1))
    for word in (b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x07", b"\x7f\xff\xff\xff", b"\x80\0\0\0"):
        for at in range(len(data)):
            for damaged in (data[:at] + word + data[at:], data[:at] + word + data[at + len(word) :]):
                with contextlib.suppress(ProtocolError):
                    decode(cls, damaged)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(REQUESTS), st.integers(0, 2**32))
def test_without_unknown_tags_a_message_of_known_ones_is_whole(request_: tuple[int, int], seed: int) -> None:
    cls = request_type(*request_)
    data = encode(cls, random_entity(cls, random.Random(seed)))
    assert walker(cls).known(b"xx" + data + b"yy", 2, 10_000) == data


def test_unknown_tagged_fields_are_ignored() -> None:
    """KIP-482, at every level: in the request, in an array's struct, inside the value of a known tag."""
    cls = request_type(1, 17)
    topic = UUID(int=5)
    partition = struct.pack(">iiqiqi", 3, 1, 2, 1, 4, 5)
    unknown = b"\x63\x02hi"
    directory = b"\0\x10" + UUID(int=9).bytes
    replica = struct.pack(">iq", 7, 8) + b"\x01" + unknown
    data = (
        struct.pack(">iiibii", 1, 2, 3, 0, 0, -1)
        + (b"\x02" + topic.bytes + b"\x02" + partition + b"\x02" + directory + unknown + b"\x01" + unknown)
        + (b"\x01" + b"\x01")
        + (b"\x03" + b"\0\x02\x02c" + b"\x01" + bytes([len(replica)]) + replica + unknown)
    )
    entity = decode(cls, b"junk" + data, 4)
    assert entity.cluster_id == "c"
    assert (entity.replica_state.replica_id, entity.replica_state.replica_epoch) == (7, 8)
    assert entity.topics[0].topic_id == topic
    assert entity.topics[0].partitions[0].replica_directory_id == UUID(int=9)
    with pytest.raises(ProtocolError):
        decode(cls, data[:-1])
    light = parse_fetch_request(data, 17)
    assert (light.cluster_id, light.replica_id, light.replica_epoch) == ("c", 7, 8)
    assert light.topics[0][1][0].partition == 3


def test_too_many_elements_are_refused_before_they_are_objects() -> None:
    cls = request_type(3, 12)
    topics = [{"topic_id": None, "name": None}] * 1000
    data = encode(cls, {"topics": topics})
    walker(cls).check(data, 0, 5000)
    with pytest.raises(ProtocolError, match="too many"):
        walker(cls).check(data, 0, 4999)


def test_an_array_longer_than_the_frame_is_refused_at_once() -> None:
    with pytest.raises(ProtocolError, match="elements"):
        walker(request_type(3, 1)).check(b"\x7f\xff\xff\xff" + bytes(100), 0, 2**40)


def test_a_null_array_is_refused_where_the_schema_has_none() -> None:
    """kio would hand it on as None, which no handler expects."""
    walker(request_type(3, 1)).check(b"\xff\xff\xff\xff", 0, 10)
    with pytest.raises(ProtocolError, match="-1 elements"):
        walker(request_type(3, 0)).check(b"\xff\xff\xff\xff", 0, 10)
    with pytest.raises(ProtocolError, match="-1 elements"):
        walker(request_type(2, 6)).check(b"\xff\xff\xff\xff\0\0\0", 0, 10)


@pytest.mark.parametrize("ms", [-1, -(2**63)])
def test_a_time_before_1970_is_read_as_1970(ms: int) -> None:
    """-1 says that there is none. kio reads none of them."""
    row = {"transactional_id": "a", "transaction_state": "Empty", "producer_id": 7, "topics": []}
    cls = response_type(65, 0)
    later = datetime(2001, 1, 1, tzinfo=UTC)
    rows = [{**row, "transaction_start_time": moment} for moment in (EPOCH + timedelta(milliseconds=1), later)]
    data = bytearray(encode(cls, {"transaction_states": rows}))
    at = data.index((1).to_bytes(8, "big"))
    data[at : at + 8] = ms.to_bytes(8, "big", signed=True)
    first, second = decode(cls, bytes(data)).transaction_states
    assert (first.transaction_start_time, first.producer_id) == (EPOCH, 7)
    assert second.transaction_start_time == later
