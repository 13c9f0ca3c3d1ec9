"""Produce: what is taken, what is refused with which code, and when it is acknowledged."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest
from crc32c import crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from ottla.broker.replication import FetchWant
from ottla.log import LogConfig
from ottla.records import Compression, Record, decode_batch, encode_batch, read_header
from ottla.wire import CLOSE, NO_RESPONSE, Connection
from tests.broker.world import NOW_MS, World, batch, topic_id

HOUR_MS = 3_600_000


def patched(data: bytes, at: int, layout: str, value: int) -> bytes:
    """The batch with one header field changed and a CRC that is right again."""
    copy = bytearray(data)
    struct.pack_into(layout, copy, at, value)
    struct.pack_into(">I", copy, 17, crc32c(bytes(copy[21:])))
    return bytes(copy)


COUNT, LAST_DELTA, BASE_OFFSET, ATTRIBUTES, MAGIC, LENGTH = 57, 23, 0, 21, 16, 8

BAD_BATCHES: dict[str, tuple[bytes | None, ErrorCode]] = {
    "null": (None, ErrorCode.invalid_record),
    "empty": (b"", ErrorCode.invalid_record),
    "short": (batch()[:40], ErrorCode.corrupt_message),
    "three bytes": (b"\0\0\0", ErrorCode.corrupt_message),
    "cut off": (batch()[:-1], ErrorCode.corrupt_message),
    "wrong crc": (batch()[:-1] + b"?", ErrorCode.corrupt_message),
    "length too small": (patched(batch(), LENGTH, ">i", 10), ErrorCode.corrupt_message),
    "negative length": (patched(batch(), LENGTH, ">i", -1), ErrorCode.corrupt_message),
    "two batches": (batch() + batch(), ErrorCode.invalid_record),
    "trailing bytes": (batch() + b"\0", ErrorCode.invalid_record),
    "magic 1": (patched(batch(), MAGIC, ">b", 1), ErrorCode.invalid_record),
    "magic 3": (patched(batch(), MAGIC, ">b", 3), ErrorCode.invalid_record),
    "base offset": (patched(batch(), BASE_OFFSET, ">q", 1), ErrorCode.invalid_record),
    "count": (patched(batch(), COUNT, ">i", 2), ErrorCode.invalid_record),
    "no records": (patched(patched(batch(), COUNT, ">i", 0), LAST_DELTA, ">i", -1), ErrorCode.invalid_record),
    "last delta": (patched(batch(), LAST_DELTA, ">i", 7), ErrorCode.invalid_record),
    "control": (batch(control=True), ErrorCode.invalid_record),
    "transactional": (
        batch(producer_id=1, producer_epoch=0, base_sequence=0, transactional=True),
        ErrorCode.transactional_id_authorization_failed,
    ),
    "delete horizon": (patched(batch(), ATTRIBUTES, ">h", 0x40), ErrorCode.invalid_record),
    "codec 5": (patched(batch(), ATTRIBUTES, ">h", 5), ErrorCode.unsupported_compression_type),
    "append time from a client": (batch(timestamp_type=1), ErrorCode.invalid_timestamp),
    "too far ahead": (batch(timestamp=NOW_MS + HOUR_MS + 1), ErrorCode.invalid_timestamp),
    "no sequence": (batch(producer_id=1, producer_epoch=0, base_sequence=-1), ErrorCode.invalid_record),
    "no epoch": (batch(producer_id=1, producer_epoch=-1, base_sequence=0), ErrorCode.invalid_record),
    "too large": (batch(value=b"x" * 3000), ErrorCode.message_too_large),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
async def test_a_bad_batch_is_refused_and_nothing_is_written(world: World, name: str) -> None:
    (partition,) = world.add_topic("t")
    world.set_config("topic", "t", max_message_bytes="2000")
    data, error = BAD_BATCHES[name]
    row = await world.produce("t", data)
    assert row.error_code is error
    assert row.base_offset == -1
    assert row.error_message
    assert partition.log_end_offset == 0


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_mutation_of_a_batch_is_answered_with_an_unknown_error(world: World, data: st.DataObject) -> None:
    if ("t", 0) not in world.replicas.partitions:
        world.add_topic("t")
    partition = world.replicas.partitions["t", 0]
    mutated = bytearray(batch(2))
    for _ in range(data.draw(st.integers(1, 3))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()) and len(mutated) > 21:
        struct.pack_into(">I", mutated, 17, crc32c(bytes(mutated[21:])))
    before = partition.log_end_offset
    row = await world.produce("t", bytes(mutated))
    assert row.error_code is not ErrorCode.unknown_server_error
    assert partition.log_end_offset == (before if row.error_code else before + 2)


async def test_a_batch_larger_than_a_segment_is_refused(world: World) -> None:
    world.add_topic("t")
    world.set_config("topic", "t", segment_bytes="1048576", max_message_bytes="9999999")
    row = await world.produce("t", batch(value=b"x" * 1_048_576))
    assert row.error_code is ErrorCode.record_list_too_large


@pytest.mark.parametrize("version", [3, 6, 7, 12])
async def test_zstd_needs_v7(world: World, version: int) -> None:
    world.add_topic("t")
    row = await world.produce("t", batch(compression=Compression.ZSTD), version=version)
    assert row.error_code is (ErrorCode.none if version >= 7 else ErrorCode.unsupported_compression_type)


@pytest.mark.parametrize("codec", list(Compression))
async def test_batches_go_through_untouched_but_for_offset_and_epoch(world: World, codec: Compression) -> None:
    (partition,) = world.add_topic("t", leader_epoch=5)
    await world.produce("t", batch(2))
    data = batch(3, compression=codec, value=b"x" * 100)
    row = await world.produce("t", data)
    assert row.base_offset == 2
    assert partition.log is not None
    stored = partition.log.read(2, 1 << 20, up_to=99)
    assert stored[16:] == data[16:]
    header = read_header(stored)
    assert (header.base_offset, header.leader_epoch) == (2, 5)


async def test_log_append_time_is_set_in_the_header(world: World) -> None:
    (partition,) = world.add_topic("t", log_config=LogConfig(message_timestamp_type="LogAppendTime"))
    world.set_config("topic", "t", message_timestamp_type="LogAppendTime")
    row = await world.produce("t", batch(2, timestamp=5))
    assert row.error_code is ErrorCode.none
    assert row.log_append_time is not None
    assert partition.log is not None
    records = decode_batch(partition.log.read(0, 1 << 20, up_to=99))
    assert [record.timestamp for record in records] == [NOW_MS, NOW_MS]


async def test_timestamps_may_be_unknown_or_bounded_by_the_topic(world: World) -> None:
    world.add_topic("t")
    assert (await world.produce("t", batch(timestamp=-1))).error_code is ErrorCode.none
    assert (await world.produce("t", batch(timestamp=1))).error_code is ErrorCode.none
    world.set_config("topic", "t", message_timestamp_before_max_ms="1000")
    assert (await world.produce("t", batch(timestamp=NOW_MS - 1001))).error_code is ErrorCode.invalid_timestamp
    assert (await world.produce("t", batch(timestamp=NOW_MS - 1000))).error_code is ErrorCode.none


@pytest.mark.parametrize("codec", Compression)
async def test_a_compacted_topic_takes_no_record_without_a_key(world: World, codec: Compression) -> None:
    world.add_topic("t")
    keyless = encode_batch([Record(0, NOW_MS, b"k", b"v"), Record(1, NOW_MS, None, b"v")], compression=codec)
    empty_key = encode_batch([Record(0, NOW_MS, b"", b"v")], compression=codec)
    assert (await world.produce("t", keyless)).error_code is ErrorCode.none
    for policy in ("compact", "compact,delete"):
        world.set_config("topic", "t", cleanup_policy=policy)
        assert (await world.produce("t", keyless)).error_code is ErrorCode.invalid_record
        assert (await world.produce("t", batch(3, compression=codec))).error_code is ErrorCode.none
        assert (await world.produce("t", empty_key)).error_code is ErrorCode.none


class TestAddressing:
    async def test_unknown_topic_and_partition(self, world: World) -> None:
        world.add_topic("t")
        assert (await world.produce("nope", batch())).error_code is ErrorCode.unknown_topic_or_partition
        assert (await world.produce("t", batch(), index=9)).error_code is ErrorCode.unknown_topic_or_partition
        assert (await world.produce("t", batch(), index=-1)).error_code is ErrorCode.unknown_topic_or_partition

    @pytest.mark.parametrize("replicas", [(1, 2), (2, 3)])
    async def test_the_new_leader_is_named_with_its_address(self, world: World, replicas: tuple[int, ...]) -> None:
        """KIP-951."""
        world.add_topic("t", replicas=replicas, leader=2, leader_epoch=8)
        response = await world.call(0, 10, world.produce_values("t", {0: batch()}))
        row = response.responses[0].partition_responses[0]
        assert row.error_code is ErrorCode.not_leader_or_follower
        assert (row.current_leader.leader_id, row.current_leader.leader_epoch) == (2, 8)
        assert [(one.node_id, one.host, one.port) for one in response.node_endpoints] == [(2, "plaintext-2", 9002)]

    async def test_each_partition_has_its_own_outcome(self, world: World) -> None:
        world.add_topic("t", 3)
        values = world.produce_values("t", {0: batch(), 1: b"junk", 2: batch(2), 9: batch()})
        response = await world.call(0, 12, values)
        rows = response.responses[0].partition_responses
        assert [(row.index, row.error_code) for row in rows] == [
            (0, ErrorCode.none),
            (1, ErrorCode.corrupt_message),
            (2, ErrorCode.none),
            (9, ErrorCode.unknown_topic_or_partition),
        ]

    @pytest.mark.parametrize("acks", [2, -2, 32767])
    async def test_invalid_acks(self, world: World, acks: int) -> None:
        world.add_topic("t")
        assert (await world.produce("t", batch(), acks=acks)).error_code is ErrorCode.invalid_required_acks


class TestAcknowledgement:
    async def test_acks_0_is_not_answered_and_closes_on_an_error(self, world: World) -> None:
        (partition,) = world.add_topic("t")
        assert await world.produce("t", batch(), acks=0) is NO_RESPONSE
        assert partition.log_end_offset == 1
        assert await world.produce("t", b"junk", acks=0) is CLOSE
        assert await world.produce("t", batch(), acks=0, transactional_id="") is CLOSE

    async def test_acks_1_does_not_wait_for_followers(self, world: World) -> None:
        world.add_topic("t", replicas=(1, 2, 3))
        assert (await world.produce("t", batch(), acks=1)).base_offset == 0

    async def test_acks_all_waits_for_the_high_watermark(self, world: World) -> None:
        (partition,) = world.add_topic("t", replicas=(1, 2))
        answer, route = world.start(0, 12, world.produce_values("t", {0: batch()}, acks=-1))
        await asyncio.sleep(0)
        assert not answer.done()
        follower_fetches(world, partition, 1)
        row = world.decoded(0, 12, await answer, route).responses[0].partition_responses[0]
        assert (row.error_code, row.base_offset) == (ErrorCode.none, 0)

    async def test_acks_all_times_out(self, world: World) -> None:
        world.add_topic("t", replicas=(1, 2))
        row = await world.produce("t", batch(), acks=-1, timeout=1)
        assert (row.error_code, row.base_offset) == (ErrorCode.request_timed_out, -1)

    async def test_a_negative_timeout_is_none(self, world: World) -> None:
        world.add_topic("t", replicas=(1, 2))
        row = await world.produce("t", batch(), acks=-1, timeout=-5)
        assert row.error_code is ErrorCode.request_timed_out

    async def test_losing_leadership_fails_the_wait_with_the_new_leader(self, world: World) -> None:
        (partition,) = world.add_topic("t", replicas=(1, 2))
        answer, route = world.start(0, 12, world.produce_values("t", {0: batch()}, acks=-1))
        world.replicas.partitions.pop(("t", 0))
        world.add_topic("t", replicas=(2, 3), leader=2, leader_epoch=6)
        image = world.view.image.partition("t", 0)
        assert image is not None
        partition.become_follower(image)
        response = world.decoded(0, 12, await answer, route)
        row = response.responses[0].partition_responses[0]
        assert row.error_code is ErrorCode.not_leader_or_follower
        assert row.current_leader.leader_id == 2
        assert [one.node_id for one in response.node_endpoints] == [2]

    async def test_too_few_in_sync_replicas_refuse_before_writing(self, world: World) -> None:
        (partition,) = world.add_topic("t", replicas=(1, 2, 3), isr=(1,), min_insync=2)
        row = await world.produce("t", batch(), acks=-1)
        assert row.error_code is ErrorCode.not_enough_replicas
        assert partition.log_end_offset == 0

    async def test_a_client_that_goes_away_leaves_no_waiter(self, world: World) -> None:
        (partition,) = world.add_topic("t", replicas=(1, 2))
        answer, _ = world.start(0, 12, world.produce_values("t", {0: batch()}, acks=-1))
        answer.cancel()
        await asyncio.sleep(0)
        follower_fetches(world, partition, 1)
        await asyncio.sleep(0)
        assert answer.cancelled()


def follower_fetches(world: World, partition: Any, offset: int) -> None:
    """Broker 2 asks for `offset`, so it has everything below."""
    world.replicas.read_for_follower(partition, FetchWant(offset, 1 << 20, replica_id=2, broker_epoch=12))


class TestTopicIds:
    """v13 (KIP-516)."""

    async def test_a_topic_is_named_by_its_id_in_request_and_answer(self, world: World) -> None:
        (partition,) = world.add_topic("t", replicas=(1, 2))
        response = await world.call(0, 13, world.produce_values("t", {0: batch(2)}))
        (topic,) = response.responses
        assert topic.topic_id == topic_id("t")
        (row,) = topic.partition_responses
        assert (row.error_code, row.base_offset) == (ErrorCode.none, 0)
        assert partition.log_end_offset == 2
        answer, route = world.start(0, 13, world.produce_values("t", {0: batch()}, acks=-1))
        follower_fetches(world, partition, 3)
        response = world.decoded(0, 13, await answer, route)
        assert response.responses[0].topic_id == topic_id("t")

    async def test_an_id_that_nobody_knows(self, world: World) -> None:
        """Each topic has its own outcome."""
        world.add_topic("t")
        known = {"topic_id": topic_id("t"), "partition_data": [{"index": 0, "records": batch()}]}
        other = {"topic_id": topic_id("gone"), "partition_data": [{"index": 0, "records": batch()}]}
        none = {"topic_id": None, "partition_data": [{"index": 0, "records": batch()}]}
        values = {"acks": 1, "timeout": 1000, "topic_data": [other, known, none]}
        response = await world.call(0, 13, values)
        assert [topic.partition_responses[0].error_code for topic in response.responses] == [
            ErrorCode.unknown_topic_id,
            ErrorCode.none,
            ErrorCode.unknown_topic_id,
        ]
        assert await world.call(0, 13, {**values, "acks": 0}) is CLOSE

    async def test_a_topic_that_is_led_elsewhere_is_told_with_its_leader(self, world: World) -> None:
        world.add_topic("t", leader=2, replicas=(2, 1))
        response = await world.call(0, 13, world.produce_values("t", {0: batch()}))
        (row,) = response.responses[0].partition_responses
        assert (row.error_code, row.current_leader.leader_id) == (ErrorCode.not_leader_or_follower, 2)

    async def test_a_request_that_is_refused_wholly(self, world: World) -> None:
        world.add_topic("t")
        response = await world.call(0, 13, world.produce_values("t", {0: batch()}, acks=7))
        assert response.responses[0].topic_id == topic_id("t")
        assert response.responses[0].partition_responses[0].error_code is ErrorCode.invalid_required_acks


class TestIdempotence:
    """KIP-98: five batches are remembered."""

    @staticmethod
    def numbered(sequence: int, epoch: int = 0, count: int = 1) -> bytes:
        return batch(count, producer_id=7, producer_epoch=epoch, base_sequence=sequence)

    async def test_a_retry_is_answered_with_its_first_offset(self, world: World) -> None:
        (partition,) = world.add_topic("t")
        for sequence in range(5):
            assert (await world.produce("t", self.numbered(sequence))).base_offset == sequence
        for sequence in range(5):
            row = await world.produce("t", self.numbered(sequence))
            assert (row.error_code, row.base_offset) == (ErrorCode.none, sequence)
        assert partition.log_end_offset == 5

    async def test_gaps_and_old_epochs_are_refused(self, world: World) -> None:
        world.add_topic("t")
        await world.produce("t", self.numbered(0, epoch=3))
        row = await world.produce("t", self.numbered(2, epoch=3))
        assert row.error_code is ErrorCode.out_of_order_sequence_number
        row = await world.produce("t", self.numbered(1, epoch=2))
        assert row.error_code is ErrorCode.invalid_producer_epoch

    async def test_a_retry_is_acknowledged_only_when_the_first_is_replicated(self, world: World) -> None:
        (partition,) = world.add_topic("t", replicas=(1, 2))
        values = world.produce_values("t", {0: self.numbered(0)}, acks=-1)
        first, _ = world.start(0, 12, values)
        again, route = world.start(0, 12, values)
        await asyncio.sleep(0)
        assert not first.done()
        assert not again.done()
        follower_fetches(world, partition, 1)
        row = world.decoded(0, 12, await again, route).responses[0].partition_responses[0]
        assert (row.error_code, row.base_offset) == (ErrorCode.none, 0)
        assert partition.log_end_offset == 1


async def test_a_bug_of_ours_is_not_answered_but_raised(world: World) -> None:
    world.add_topic("t")
    world.replicas.append = None  # type: ignore[assignment, method-assign]
    with pytest.raises(TypeError):
        world.start(0, 12, world.produce_values("t", {0: batch()}), connection=Connection("PLAINTEXT", "x"))
