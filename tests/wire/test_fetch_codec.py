"""The hand-written Fetch codec against kio's, for every version."""

import contextlib
import random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.wire import (
    FetchPartition,
    FetchPartitionResponse,
    FetchRequest,
    NodeEndpoint,
    ProtocolError,
    decode,
    decode_fetch_response,
    encode,
    encode_fetch_request,
    encode_fetch_response,
    parse_fetch_request,
    request_type,
    response_type,
)
from ottla.wire.fetch import MAX_VERSION, MIN_VERSION
from tests.wire.fuzz import random_entity

ZERO = UUID(int=0)
versions = st.integers(MIN_VERSION, MAX_VERSION)
seeds = st.integers(0, 2**32)
i32 = st.integers(-(2**31), 2**31 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)


def joined(raw: Any) -> bytes:
    return b"".join(raw.chunks)


def topic_of(struct: Any) -> str | UUID:
    return struct.topic if hasattr(struct, "topic") else struct.topic_id or ZERO


def as_light_request(entity: Any) -> FetchRequest:
    """kio's entity in our form; what the version does not have is at its default."""
    replica = getattr(entity, "replica_state", None)
    return FetchRequest(
        max_wait_ms=round(entity.max_wait.total_seconds() * 1000),
        min_bytes=entity.min_bytes,
        max_bytes=entity.max_bytes,
        isolation_level=entity.isolation_level,
        session_id=getattr(entity, "session_id", 0),
        session_epoch=getattr(entity, "session_epoch", -1),
        topics=[
            (
                topic_of(topic),
                [
                    FetchPartition(
                        p.partition,
                        p.fetch_offset,
                        p.partition_max_bytes,
                        getattr(p, "current_leader_epoch", -1),
                        getattr(p, "last_fetched_epoch", -1),
                        getattr(p, "log_start_offset", -1),
                    )
                    for p in topic.partitions
                ],
            )
            for topic in entity.topics
        ],
        forgotten=[(topic_of(t), list(t.partitions)) for t in getattr(entity, "forgotten_topics_data", ())],
        rack_id=getattr(entity, "rack_id", ""),
        replica_id=entity.replica_id if replica is None else replica.replica_id,
        replica_epoch=-1 if replica is None else replica.replica_epoch,
        cluster_id=getattr(entity, "cluster_id", None),
    )


@settings(max_examples=500, deadline=None)
@given(versions, seeds, st.booleans())
def test_requests_are_read_and_written_as_kio_does(version: int, seed: int, large: bool) -> None:
    cls = request_type(1, version)
    entity = random_entity(cls, random.Random(seed))
    data = encode(cls, entity)
    padded = b"junk" + data + b"trailing"
    request = parse_fetch_request(memoryview(padded) if large else padded, version, 4)
    assert request == as_light_request(decode(cls, data))
    # The directory id of v17 is not kept, so that writing is compared through reading.
    again = joined(encode_fetch_request(version, request))
    assert as_light_request(decode(cls, again)) == request
    if version < 17:
        assert again == data


@settings(max_examples=150, deadline=None)
@given(versions, seeds)
def test_every_truncation_is_an_error(version: int, seed: int) -> None:
    rng = random.Random(seed)
    for cls, parse in (
        (request_type(1, version), parse_fetch_request),
        (response_type(1, version), decode_fetch_response),
    ):
        data = encode(cls, random_entity(cls, rng, max_items=2))
        for end in range(len(data)):
            with pytest.raises(ProtocolError):
                parse(data[:end], version)


@given(versions, st.binary(max_size=80))
def test_garbage_is_an_error_or_a_message(version: int, data: bytes) -> None:
    for parse in (parse_fetch_request, decode_fetch_response):
        with contextlib.suppress(ProtocolError):
            parse(data, version)


records = st.none() | st.binary(max_size=40) | st.lists(st.binary(max_size=40), max_size=3)
partitions = st.builds(
    FetchPartitionResponse,
    i32,
    st.sampled_from((0, 1, 6, 74)),
    i64,
    i64,
    i64,
    records,
    st.none() | st.lists(st.tuples(i64, i64), max_size=3),
    i32,
    st.none() | st.tuples(i32, i64),
    st.none() | st.tuples(i32, i32),
)
endpoints = st.lists(
    st.builds(NodeEndpoint, i32, st.text(max_size=9), i32, st.none() | st.text(max_size=9)), max_size=2
)


def whole(chunks: Any) -> bytes | None:
    return b"".join(chunks) if isinstance(chunks, list) else chunks


def response_values(version: int, topics: list[Any], **top: Any) -> dict[str, Any]:
    return top | {
        "responses": [
            {
                "topic": topic,
                "topic_id": topic,
                "partitions": [
                    {
                        "partition_index": p.partition,
                        "error_code": p.error_code,
                        "high_watermark": p.high_watermark,
                        "last_stable_offset": p.last_stable_offset,
                        "log_start_offset": p.log_start_offset,
                        "records": whole(p.records),
                        "aborted_transactions": p.aborted_transactions
                        and [{"producer_id": a, "first_offset": b} for a, b in p.aborted_transactions],
                        "preferred_read_replica": p.preferred_read_replica,
                        "diverging_epoch": dict(
                            zip(("epoch", "end_offset"), p.diverging_epoch or (-1, -1), strict=True)
                        ),
                        "current_leader": dict(
                            zip(("leader_id", "leader_epoch"), p.current_leader or (-1, -1), strict=True)
                        ),
                    }
                    for p in parts
                ],
            }
            for topic, parts in topics
        ],
    }


def as_decoded(version: int, p: FetchPartitionResponse) -> FetchPartitionResponse:
    """What is left of a partition after a journey in this version."""
    if version < 5:
        p = p._replace(log_start_offset=-1)
    if version < 11:
        p = p._replace(preferred_read_replica=-1)
    if version < 12 or p.diverging_epoch == (-1, -1):
        p = p._replace(diverging_epoch=None)
    if version < 12 or p.current_leader == (-1, -1):
        p = p._replace(current_leader=None)
    return p._replace(records=whole(p.records))


@settings(max_examples=400, deadline=None)
@given(
    versions,
    st.lists(st.tuples(st.text(max_size=20), st.uuids(), st.lists(partitions, max_size=3)), max_size=3),
    st.sampled_from((0, 70, 71)),
    i32,
    i32,
    endpoints,
)
def test_responses_are_written_as_kio_writes_them_and_read_back(
    version: int,
    drawn: list[Any],
    error_code: int,
    session_id: int,
    throttle_ms: int,
    node_endpoints: list[NodeEndpoint],
) -> None:
    topics = [(topic_id if version >= 13 else name, parts) for name, topic_id, parts in drawn]
    raw = encode_fetch_response(
        version,
        topics,
        error_code=error_code,
        session_id=session_id,
        throttle_ms=throttle_ms,
        node_endpoints=node_endpoints,
    )
    values = response_values(
        version,
        topics,
        throttle_time=throttle_ms,
        error_code=error_code,
        session_id=session_id,
        node_endpoints=[endpoint._asdict() for endpoint in node_endpoints],
    )
    data = joined(raw)
    assert data == encode(response_type(1, version), values)
    response = decode_fetch_response(memoryview(b"xx" + data), version, 2)
    assert response.throttle_ms == throttle_ms
    assert (response.error_code, response.session_id) == ((error_code, session_id) if version >= 7 else (0, 0))
    assert response.node_endpoints == (node_endpoints if version >= 16 else [])
    assert response.topics == [(topic, [as_decoded(version, p) for p in parts]) for topic, parts in topics]


@settings(max_examples=300, deadline=None)
@given(versions, seeds)
def test_responses_of_kio_are_read(version: int, seed: int) -> None:
    """With snapshot ids and whatever else kio can write."""
    cls = response_type(1, version)
    entity = random_entity(cls, random.Random(seed))
    response = decode_fetch_response(encode(cls, entity), version)
    assert [topic for topic, _ in response.topics] == [topic_of(topic) for topic in entity.responses]
    ours = [p for _, parts in response.topics for p in parts]
    theirs = [p for topic in entity.responses for p in topic.partitions]
    assert [(p.partition, p.error_code, p.high_watermark, p.records) for p in ours] == [
        (p.partition_index, p.error_code, p.high_watermark, p.records) for p in theirs
    ]


def test_record_chunks_are_passed_on_and_handed_back_without_a_copy() -> None:
    one, two = b"r" * 1000, memoryview(b"s" * 1000)
    part = FetchPartitionResponse(0, records=[one, two])
    raw = encode_fetch_response(12, [("t", [part])])
    assert any(chunk is one for chunk in raw.chunks)
    assert any(chunk is two for chunk in raw.chunks)
    frame = joined(raw)
    records = decode_fetch_response(frame, 12).topics[0][1][0].records
    assert isinstance(records, memoryview)
    assert records.obj is frame
    assert records == one + bytes(two)


def test_a_name_where_an_id_belongs_is_the_callers_mistake() -> None:
    with pytest.raises(TypeError):
        encode_fetch_response(13, [("t", [])])
    with pytest.raises(TypeError):
        encode_fetch_response(12, [(ZERO, [])])


@pytest.mark.parametrize("version", [4, 11, 12, 17])
def test_the_element_budget(version: int) -> None:
    topic: str | UUID = "t" if version < 13 else ZERO
    part = FetchPartition(0, 0, 0)
    fits = FetchRequest(0, 0, topics=[(topic, [part] * 30_000)])
    assert parse_fetch_request(joined(encode_fetch_request(version, fits)), version) == fits
    fits.topics *= 2
    with pytest.raises(ProtocolError, match="too many"):
        parse_fetch_request(joined(encode_fetch_request(version, fits)), version)
    topics = FetchRequest(0, 0, topics=[(topic, [])] * 50_001)
    with pytest.raises(ProtocolError, match="too many"):
        parse_fetch_request(joined(encode_fetch_request(version, topics)), version)
