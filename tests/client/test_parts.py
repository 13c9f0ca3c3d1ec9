"""The small machines: partitioner, metadata, chunks, positions, options."""

from __future__ import annotations

import random
import uuid

import pytest
from aiokafka.partitioner import murmur2 as their_murmur2  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from ottla.client import TopicPartition
from ottla.client.backoff import Backoff
from ottla.client.consumer.chunk import Chunk
from ottla.client.consumer.fetcher import Fetcher
from ottla.client.consumer.position import PartitionState, Phase
from ottla.client.errors import KafkaError, NotLeaderOrFollowerError, error_for
from ottla.client.metadata import ABSENT_ANSWERS, ClusterMetadata
from ottla.client.options import parse_bootstrap
from ottla.client.producer.partitioner import StickyChooser, murmur2
from ottla.client.stepping import Stepper
from ottla.records import CorruptBatch, Record, encode_batch
from ottla.wire import build, response_type

TP = TopicPartition("t", 0)
ID = uuid.uuid4()


def answer(leader: int, epoch: int, *, partitions: int = 1, topic_id: uuid.UUID = ID, error: int = 0) -> object:
    count = 0 if error else partitions
    led = [{"partition_index": i, "leader_id": leader, "leader_epoch": epoch} for i in range(count)]
    topic = {"name": "t", "topic_id": topic_id, "error_code": error, "partitions": led}
    brokers = [{"node_id": n, "host": "h", "port": n} for n in (1, 2, 3)]
    return build(response_type(3, 12), {"brokers": brokers, "controller_id": 1, "topics": [topic]})


@given(st.binary(max_size=40))
def test_murmur2_is_the_java_clients(data: bytes) -> None:
    assert murmur2(data) == their_murmur2(data) & 0xFFFFFFFF


def test_keyless_records_stick_for_a_batch_and_then_move() -> None:
    """KIP-480."""
    sticky = StickyChooser(random.Random(1), 100)
    first = [sticky.choose("t", 50, range(4), range(4)) for _ in range(2)]
    assert first[0] == first[1]
    assert sticky.choose("t", 50, range(4), range(4)) != first[0]
    assert sticky.choose("t", 50, range(4), [2]) == 2


def test_an_older_leader_epoch_is_no_news() -> None:
    """KIP-320."""
    view = ClusterMetadata()
    assert view.update(answer(1, 5))
    assert not view.update(answer(2, 4))
    assert (view.leader(TP), view.leader_epoch(TP)) == (1, 5)
    assert view.update(answer(2, 6))
    assert view.leader(TP) == 2
    assert view.update(answer(3, 0, topic_id=uuid.uuid4()))
    assert (view.leader(TP), view.leader_epoch(TP)) == (3, 0)


def test_a_hint_counts_only_with_a_newer_epoch() -> None:
    """KIP-951."""
    view = ClusterMetadata()
    assert not view.apply_hint(TP, 2, 9)
    view.update(answer(1, 5))
    assert not view.apply_hint(TP, 2, 5)
    assert not view.apply_hint(TP, 77, 6)
    assert view.apply_hint(TP, 2, 6)
    assert view.leader(TP) == 2
    assert not view.update(answer(1, 5))


def test_one_broker_that_does_not_know_a_topic_proves_nothing() -> None:
    view = ClusterMetadata()
    view.update(answer(1, 5, partitions=2))
    unknown = answer(-1, -1, error=ErrorCode.unknown_topic_or_partition)
    for _ in range(ABSENT_ANSWERS - 1):
        assert not view.update(unknown)
    assert view.partitions_for("t") == {0, 1}
    assert view.update(unknown)
    assert not view.partitions_for("t")
    assert view.topics["t"].error is ErrorCode.unknown_topic_or_partition


def batch(base: int, values: list[bytes], *, epoch: int = 0, **kind: object) -> bytes:
    records = [Record(0, 1, None, value) for value in values]
    return encode_batch(records, base_offset=base, leader_epoch=epoch, **kind)  # type: ignore[arg-type]


def test_a_chunk_begins_in_the_middle_of_a_batch_and_passes_over_holes() -> None:
    data = batch(10, [b"a", b"b", b"c"], epoch=3) + batch(20, [b"d"], epoch=4)
    chunk = Chunk(TP, data)
    records, position, epoch = chunk.take(11, 1)
    assert [(r.offset, r.value) for r in records] == [(11, b"b")]
    assert (position, epoch) == (12, 3)
    records, position, epoch = chunk.take(position, 10)
    assert [(r.offset, r.value) for r in records] == [(12, b"c"), (20, b"d")]
    assert (position, epoch, chunk.empty) == (21, 4, True)


def test_an_incomplete_batch_at_the_end_is_left_out() -> None:
    data = batch(0, [b"a"]) + batch(1, [b"b"])[:-1]
    records, position, _ = Chunk(TP, data).take(0, 10)
    assert [r.value for r in records] == [b"a"] and position == 1


def test_aborted_records_and_markers_are_left_out() -> None:
    abort = encode_batch(
        [Record(0, 1, b"\0\0\0\0", b"\0\0\0\0\0\0")],
        base_offset=3,
        producer_id=7,
        producer_epoch=0,
        transactional=True,
        control=True,
    )
    data = (
        batch(0, [b"aborted"], producer_id=7, producer_epoch=0, transactional=True)
        + batch(1, [b"other"], producer_id=8, producer_epoch=0, transactional=True)
        + batch(2, [b"aborted too"], producer_id=7, producer_epoch=0, transactional=True)
        + abort
        + batch(4, [b"next"], producer_id=7, producer_epoch=0, transactional=True)
    )
    records, position, _ = Chunk(TP, data, aborted=[(7, 0)]).take(0, 10)
    assert [r.value for r in records] == [b"other", b"next"] and position == 5
    records, _, _ = Chunk(TP, data).take(0, 10)
    assert [r.offset for r in records] == [0, 1, 2, 4]


def test_a_batch_with_a_wrong_checksum_gives_nothing() -> None:
    data = bytearray(batch(0, [b"a"]))
    data[-1] ^= 1
    with pytest.raises(CorruptBatch):
        Chunk(TP, bytes(data)).take(0, 1)


def fetched(values: list[bytes]) -> PartitionState:
    state = PartitionState(TP, None)
    state.leader_changed(0)
    state.seek(0)
    state.add(Chunk(TP, b"".join(batch(i, [value]) for i, value in enumerate(values))), len(values), 0)
    return state


def test_a_new_leader_has_to_confirm_what_was_fetched() -> None:
    """KIP-320: buffered records beyond the end of the epoch are dropped, nothing is handed out twice."""
    state = fetched([b"a", b"b", b"c"])
    assert [r.value for r in state.take(1)] == [b"a"]
    generation = state.generation
    state.leader_changed(1)
    assert (state.phase, state.generation > generation) == (Phase.VALIDATE, True)
    assert state.validated(0, 2) is None
    assert (state.phase, state.position, state.fetch_offset) == (Phase.FETCH, 1, 1)
    assert state.take(9) == []


def test_truncation_of_what_was_handed_out_is_an_error_until_a_seek() -> None:
    state = fetched([b"a", b"b", b"c"])
    state.take(2)
    state.leader_changed(1)
    error = state.validated(0, 1)
    assert error is not None and (error.position, error.divergent_offset) == (2, 1)
    assert state.phase is Phase.VALIDATE
    state.seek(1)
    assert (state.phase, state.fetch_epoch) == (Phase.FETCH, -1)


def test_bootstrap_servers() -> None:
    assert [*map(str, parse_bootstrap("a:1, b,[::1]:3"))] == ["a:1", "b:9092", "[::1]:3"]
    assert [*map(str, parse_bootstrap(["a:1", "b:2"]))] == ["a:1", "b:2"]
    for wrong in ("", "a:x", ":1", "a:0", "a:65536", "[::1", "[::1]2", "a:-1"):
        with pytest.raises(ValueError):
            parse_bootstrap(wrong)


def test_backoff_grows_to_its_limit() -> None:
    backoff = Backoff(0.05, 1.0)
    delays = [backoff.delay(n, random.Random(1)) for n in (1, 4, 5, 100, 10**9)]
    assert all(0.04 <= d <= 0.06 for d in delays[:2])
    assert 0.08 <= delays[2] <= 0.12
    assert all(0.8 <= d <= 1.2 for d in delays[3:])


def test_an_error_says_where() -> None:
    error = error_for(ErrorCode.not_leader_or_follower, broker=2, partition=TP, leader_epoch=4, attempts=3)
    assert isinstance(error, NotLeaderOrFollowerError) and error.retriable
    assert str(error) == ("NOT_LEADER_OR_FOLLOWER (6) [partition t-0, broker 2, leader epoch 4, attempts 3]")


def refusing(value: bytes | None) -> bytes | None:
    if value == b"bad":
        raise ValueError("refused")
    return value


@pytest.mark.parametrize("fetches", [1, 2])
@pytest.mark.parametrize("damaged", [True, False])
def test_what_comes_before_a_record_that_cannot_be_read_is_handed_out(fetches: int, damaged: bool) -> None:
    first = encode_batch([Record(0, 0, None, b"a", ())], base_offset=0)
    second = bytearray(encode_batch([Record(1, 0, None, b"bad", ())], base_offset=1))
    if damaged:
        second[-1] ^= 1
    state = PartitionState(TopicPartition("t", 0), None)
    state.seek(0)
    for data in (first + second,) if fetches == 1 else (first, bytes(second)):
        state.add(Chunk(state.tp, data, value=refusing), 2, 0)
    assert [record.value for record in state.take(10)] == [b"a"]
    assert state.position == 1
    with pytest.raises(CorruptBatch if damaged else ValueError):
        state.take(10)
    assert state.position == 1


def test_whoever_seeks_beyond_a_record_that_cannot_be_read_loses_that_one_only() -> None:
    values = (b"a", b"b", b"bad", b"c", b"bad", b"d")
    data = encode_batch([Record(at, 0, None, value, ()) for at, value in enumerate(values)], base_offset=0)
    state = PartitionState(TopicPartition("t", 0), None)
    state.seek(0)
    seen = []
    for _ in range(2):
        state.add(Chunk(state.tp, data, value=refusing), len(values), 0)
        seen += [record.value for record in state.take(10)]
        with pytest.raises(ValueError, match="refused"):
            state.take(10)
        state.seek(state.position + 1)
    state.add(Chunk(state.tp, data, value=refusing), len(values), 0)
    assert [*seen, *(record.value for record in state.take(10))] == [b"a", b"b", b"c", b"d"]


def test_a_partition_in_error_does_not_starve_the_others() -> None:
    """Its error comes again with every fetch; what the others have is taken in between."""
    bad, good = (PartitionState(TopicPartition(name, 0), None) for name in ("bad", "good"))
    good.seek(0)
    good.add(Chunk(good.tp, encode_batch([Record(0, 0, None, b"a", ())], base_offset=0)), 1, 0)
    fetcher = Fetcher.__new__(Fetcher)
    fetcher.states = {state.tp: state for state in (bad, good)}
    fetcher._handed, fetcher._stepper = {}, Stepper(lambda: None, pytest.fail)
    bad.error = KafkaError("out of range")
    with pytest.raises(KafkaError, match="out of range"):
        fetcher.take(list(fetcher.states), 10)
    bad.error = KafkaError("out of range")
    assert list(fetcher.take(list(fetcher.states), 10)) == [good.tp]
