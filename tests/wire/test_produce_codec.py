"""The hand-written Produce codec against kio's, for every version."""

import contextlib
import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.wire import (
    NodeEndpoint,
    ProducePartitionResponse,
    ProtocolError,
    decode_produce_response,
    encode,
    encode_produce_request,
    encode_produce_response,
    parse_produce_request,
    request_type,
    response_type,
)
from ottla.wire.produce import MAX_VERSION, MIN_VERSION
from tests.wire.fuzz import random_entity

versions = st.integers(MIN_VERSION, MAX_VERSION)
seeds = st.integers(0, 2**32)
i16 = st.integers(-(2**15), 2**15 - 1)
i32 = st.integers(-(2**31), 2**31 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
names = st.text(max_size=200)


def joined(raw: Any) -> bytes:
    return b"".join(raw.chunks)


@settings(max_examples=400, deadline=None)
@given(versions, seeds, st.booleans())
def test_requests_are_read_as_kio_reads_them(version: int, seed: int, large: bool) -> None:
    cls = request_type(0, version)
    entity = random_entity(cls, random.Random(seed))
    data = b"junk" + encode(cls, entity) + b"trailing"
    request = parse_produce_request(memoryview(data) if large else data, version, 4)
    assert request.transactional_id == entity.transactional_id
    assert (request.acks, timedelta(milliseconds=request.timeout_ms)) == (entity.acks, entity.timeout)
    by_id = version >= 13
    expected = [
        ("" if by_id else topic.name, [(p.index, p.records) for p in topic.partition_data])
        for topic in entity.topic_data
    ]
    assert request.topic_ids == ([topic.topic_id or UUID(int=0) for topic in entity.topic_data] if by_id else [])
    assert [
        (name, [(index, None if records is None else bytes(records)) for index, records in partitions])
        for name, partitions in request.topics
    ] == expected


@settings(max_examples=200, deadline=None)
@given(versions, seeds)
def test_every_truncation_is_an_error(version: int, seed: int) -> None:
    cls = request_type(0, version)
    data = encode(cls, random_entity(cls, random.Random(seed)))
    for end in range(len(data)):
        with pytest.raises(ProtocolError):
            parse_produce_request(data[:end], version)


@given(versions, st.binary(max_size=60))
def test_garbage_is_an_error_or_a_request(version: int, data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        parse_produce_request(data, version)


@given(
    versions,
    st.lists(st.tuples(names, st.lists(st.tuples(i32, st.binary(max_size=300)), max_size=3)), max_size=3),
    i16,
    i32,
    st.none() | names,
)
def test_requests_are_written_as_kio_writes_them(
    version: int, topics: list[Any], acks: int, timeout_ms: int, transactional_id: str | None
) -> None:
    ids = [UUID(int=at + 1) for at in range(len(topics))]
    raw = encode_produce_request(
        version, topics, acks=acks, timeout_ms=timeout_ms, transactional_id=transactional_id, topic_ids=ids
    )
    values = {
        "transactional_id": transactional_id,
        "acks": acks,
        "timeout": timeout_ms,
        "topic_data": [
            {
                "name": name,
                "topic_id": topic_id,
                "partition_data": [{"index": i, "records": records} for i, records in partitions],
            }
            for topic_id, (name, partitions) in zip(ids, topics, strict=True)
        ],
    }
    assert joined(raw) == encode(request_type(0, version), values)


partitions = st.builds(
    ProducePartitionResponse,
    i32,
    st.sampled_from((0, -1, 6, 87)),
    i64,
    st.sampled_from((-1, 1_700_000_000_000)),
    i64,
    st.none() | names,
    st.lists(st.tuples(i32, st.none() | names), max_size=2),
    st.sampled_from((-1, 3)),
    st.sampled_from((-1, 9)),
)
endpoints = st.lists(st.builds(NodeEndpoint, i32, names, i32, st.none() | names), max_size=2)


@settings(max_examples=400, deadline=None)
@given(versions, st.lists(st.tuples(names, st.lists(partitions, max_size=3)), max_size=3), i32, endpoints)
def test_responses_are_written_as_kio_writes_them(
    version: int, topics: list[Any], throttle_ms: int, node_endpoints: list[NodeEndpoint]
) -> None:
    ids = [UUID(int=at + 1) for at in range(len(topics))]
    raw = encode_produce_response(
        version, topics, throttle_ms=throttle_ms, node_endpoints=node_endpoints, topic_ids=ids
    )
    values = {
        "throttle_time": throttle_ms,
        "node_endpoints": [endpoint._asdict() for endpoint in node_endpoints],
        "responses": [
            {
                "name": name,
                "topic_id": topic_id,
                "partition_responses": [
                    {
                        **p._asdict(),
                        "index": p.partition,
                        "record_errors": [
                            {"batch_index": i, "batch_index_error_message": text} for i, text in p.record_errors
                        ],
                        "current_leader": {"leader_id": p.leader_id, "leader_epoch": p.leader_epoch},
                    }
                    for p in parts
                ],
            }
            for topic_id, (name, parts) in zip(ids, topics, strict=True)
        ],
    }
    assert joined(raw) == encode(response_type(0, version), values)
    read = decode_produce_response(b"junk" + joined(raw) + b"trailing", version, 4)
    assert read.throttle_ms == throttle_ms
    assert read.node_endpoints == (node_endpoints if version >= 10 else [])
    by_id = version >= 13
    assert read.topics == [("" if by_id else name, [in_version(p, version) for p in parts]) for name, parts in topics]
    assert read.topic_ids == (ids if by_id else [])
    for end in range(len(joined(raw))):
        with pytest.raises(ProtocolError):
            decode_produce_response(joined(raw)[:end], version)


def in_version(partition: ProducePartitionResponse, version: int) -> ProducePartitionResponse:
    """What of it a version can say."""
    if version < 5:
        partition = partition._replace(log_start_offset=-1)
    if version < 8:
        partition = partition._replace(error_message=None, record_errors=())
    if version < 10:
        partition = partition._replace(leader_id=-1, leader_epoch=-1)
    return partition


@pytest.mark.parametrize("version", [8, 9])
def test_records_are_slices_of_the_frame(version: int) -> None:
    data = joined(encode_produce_request(version, [("t", [(0, b"r" * 100)])], acks=1, timeout_ms=5))
    records = parse_produce_request(data, version).topics[0][1][0][1]
    assert isinstance(records, memoryview)
    assert records.readonly
    assert records.obj is data


@pytest.mark.parametrize("version", [8, 9])
def test_the_element_budget(version: int) -> None:
    many = [(0, b"")] * 19_000
    data = joined(encode_produce_request(version, [("t", many)], acks=1, timeout_ms=5))
    assert len(parse_produce_request(data, version).topics[0][1]) == 19_000
    data = joined(encode_produce_request(version, [("t", many), ("u", many)], acks=1, timeout_ms=5))
    with pytest.raises(ProtocolError, match="too many"):
        parse_produce_request(data, version)
    data = joined(encode_produce_request(version, [("", [])] * 21_000, acks=1, timeout_ms=5))
    with pytest.raises(ProtocolError, match="too many"):
        parse_produce_request(data, version)
