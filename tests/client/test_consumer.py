"""The consumer over sockets: positions, failover, truncation, bad data."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from ottla.client import (
    Consumer,
    ConsumerStoppedError,
    CorruptRecordError,
    IllegalStateError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicPartition,
    UnknownTopicOrPartitionError,
)
from tests.client.fake import FakeCluster

TP = TopicPartition("t", 0)


async def read(consumer: Consumer, count: int) -> list[bytes | None]:
    async with asyncio.timeout(5):
        return [(await consumer.getone()).value for _ in range(count)]


async def test_it_reads_on_from_the_next_leader(cluster: FakeCluster) -> None:
    partition = cluster.create("t")[0]
    partition.write(b"a", b"b")
    async with Consumer("t", bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        assert await read(consumer, 2) == [b"a", b"b"]
        await cluster.kill(1)
        cluster.elect(TP, 2)
        partition.write(b"c")
        assert await read(consumer, 1) == [b"c"]
        assert await consumer.position(TP) == consumer.highwater(TP) == 3


async def test_a_paused_leader_is_left_behind(cluster: FakeCluster) -> None:
    partition = cluster.create("t")[0]
    partition.write(b"a")
    async with Consumer(
        "t", bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=50
    ) as consumer:
        assert await read(consumer, 1) == [b"a"]
        cluster.pause(1)
        cluster.elect(TP, 2)
        partition.write(b"b")
        assert await read(consumer, 1) == [b"b"]


async def test_it_reads_from_the_replica_of_its_rack_while_that_is_there(cluster: FakeCluster) -> None:
    """KIP-392."""
    partition = cluster.create("t")[0]
    partition.write(b"a", b"b")
    cluster.preferred["here"] = 2
    options = {"bootstrap_servers": cluster.bootstrap, "auto_offset_reset": "earliest", "client_rack": "here"}
    async with Consumer("t", **options) as consumer:
        assert await read(consumer, 2) == [b"a", b"b"]
        partition.write(b"c")
        assert await read(consumer, 1) == [b"c"]
        assert cluster.requests[1, "fetch"] == 1
        assert cluster.requests[2, "fetch"] >= 2
        await cluster.kill(2)
        partition.write(b"d")
        assert await read(consumer, 1) == [b"d"]


async def test_truncation_below_what_was_read_is_an_error_without_reset_policy(cluster: FakeCluster) -> None:
    """KIP-320."""
    partition = cluster.create("t")[0]
    partition.write(b"a", b"b", b"c")
    async with Consumer(bootstrap_servers=cluster.bootstrap, auto_offset_reset="none") as consumer:
        consumer.assign([TP])
        consumer.seek(TP, 0)
        assert await read(consumer, 3) == [b"a", b"b", b"c"]
        del partition.batches[1:]
        cluster.elect(TP, 2)
        partition.write(b"x", b"y", b"z")
        with pytest.raises(LogTruncationError) as caught:
            await read(consumer, 1)
        assert (caught.value.position, caught.value.leader_epoch, caught.value.divergent_offset) == (3, 0, 1)
        consumer.seek(TP, caught.value.divergent_offset)
        assert await read(consumer, 3) == [b"x", b"y", b"z"]


async def test_truncation_with_a_reset_policy_goes_on_where_the_logs_part(cluster: FakeCluster) -> None:
    partition = cluster.create("t")[0]
    partition.write(b"a", b"b", b"c")
    async with Consumer("t", bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        assert await read(consumer, 3) == [b"a", b"b", b"c"]
        del partition.batches[1:]
        cluster.elect(TP, 2)
        partition.write(b"x", b"y", b"z")
        assert await read(consumer, 3) == [b"x", b"y", b"z"]


async def test_a_damaged_batch_is_not_handed_out(cluster: FakeCluster) -> None:
    partition = cluster.create("t")[0]
    partition.write(b"a", b"b")
    sound = partition.batches[1]
    partition.batches[1] = sound[:-1] + bytes([sound[-1] ^ 1])
    async with Consumer("t", bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        assert await read(consumer, 1) == [b"a"]
        with pytest.raises(CorruptRecordError, match=r"at offset 1: .*partition t-0, broker 1, "):
            await read(consumer, 1)
        partition.batches[1] = sound
        async with asyncio.timeout(5):
            while True:
                try:
                    assert (await consumer.getone()).value == b"b"
                    break
                except CorruptRecordError:
                    continue


@pytest.mark.parametrize("place, bit", [(15, 1), (14, 1), (7, 0)])
async def test_a_batch_whose_offset_or_epoch_rotted_is_no_truncation(
    cluster: FakeCluster, place: int, bit: int
) -> None:
    """No checksum covers them. An epoch that was never read makes the next leader's log look shorter than it is."""
    partition = cluster.create("t")[0]
    for _ in range(6):
        cluster.elect(TP, 1)
    partition.write(b"a", b"b")
    sound = partition.batches[1]
    partition.batches[1] = sound[:place] + bytes([sound[place] ^ (1 << bit)]) + sound[place + 1 :]
    async with Consumer("t", bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        with pytest.raises(CorruptRecordError, match="t-0"):
            await read(consumer, 2)
        partition.batches[1] = sound
        async with asyncio.timeout(5):
            while True:
                with contextlib.suppress(CorruptRecordError):
                    assert (await consumer.getone()).value in (b"a", b"b")
                    break


async def test_positions(cluster: FakeCluster) -> None:
    partition = cluster.create("t")[0]
    partition.write(b"a", b"b", b"c")
    async with Consumer(bootstrap_servers=cluster.bootstrap) as consumer:
        consumer.assign([TP])
        assert await consumer.position(TP) == 3
        await consumer.seek_to_beginning()
        assert await read(consumer, 1) == [b"a"]
        consumer.seek(TP, 2)
        assert await read(consumer, 1) == [b"c"]
        await consumer.seek_to_end(TP)
        assert await consumer.position(TP) == 3
        assert await consumer.end_offsets([TP]) == {TP: 3}
        assert await consumer.beginning_offsets([TP]) == {TP: 0}
        found = await consumer.offsets_for_times({TP: 1001})
        place = found[TP]
        assert place is not None and place.offset == 1
        assert await consumer.offsets_for_times({TP: 5000}) == {TP: None}
        with pytest.raises(IllegalStateError):
            consumer.seek(TopicPartition("t", 9), 0)


async def test_a_position_of_what_is_taken_away_meanwhile_is_not_waited_for(cluster: FakeCluster) -> None:
    cluster.create("t", 2)
    one, other = TopicPartition("t", 0), TopicPartition("t", 1)
    async with Consumer(bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([one, other])
        assert await consumer.position(one) == await consumer.position(other) == 0
        cluster.pause(1)
        waiting = [asyncio.ensure_future(consumer.seek_to_end()), asyncio.ensure_future(consumer.seek_to_end(one))]
        await asyncio.sleep(0)
        consumer.assign([])
        async with asyncio.timeout(5):
            await waiting[0]
            with pytest.raises(IllegalStateError):
                await waiting[1]


async def test_without_reset_policy_a_missing_position_is_an_error(cluster: FakeCluster) -> None:
    cluster.create("t")
    async with Consumer("t", bootstrap_servers=cluster.bootstrap, auto_offset_reset="none") as consumer:
        with pytest.raises(NoOffsetForPartitionError):
            await read(consumer, 1)
        consumer.seek(TP, 17)
        with pytest.raises(OffsetOutOfRangeError, match="position 17"):
            await read(consumer, 1)


async def test_paused_partitions_give_nothing(cluster: FakeCluster) -> None:
    partitions = cluster.create("t", 2)
    partitions[0].write(b"a")
    partitions[1].write(b"b")
    async with Consumer("t", bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.pause(TP)
        assert consumer.paused() == {TP}
        assert await read(consumer, 1) == [b"b"]
        assert await consumer.getmany() == {}
        consumer.resume(TP)
        assert await read(consumer, 1) == [b"a"]


async def test_partitions_added_later_are_read(cluster: FakeCluster) -> None:
    cluster.create("t")
    async with Consumer(
        "t", bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest", metadata_max_age_ms=20
    ) as consumer:
        topic_id, partitions = cluster.topics["t"]
        later = cluster.create("t", 2)[1]
        cluster.topics["t"] = (topic_id, {0: partitions[0], 1: later})
        later.write(b"late")
        assert await read(consumer, 1) == [b"late"]
        assert consumer.assignment() == {TP, TopicPartition("t", 1)}


async def test_stopping_ends_whoever_waits(cluster: FakeCluster) -> None:
    cluster.create("t")
    consumer = Consumer("t", bootstrap_servers=cluster.bootstrap)
    await consumer.start()

    async def everything() -> list[bytes | None]:
        return [record.value async for record in consumer]

    reading = asyncio.create_task(everything())
    waiting = asyncio.create_task(consumer.getone())
    await consumer.position(TP)
    await consumer.stop()
    assert await reading == []
    with pytest.raises(ConsumerStoppedError):
        await waiting


async def test_an_unknown_topic_is_told_at_the_start(cluster: FakeCluster) -> None:
    with pytest.raises(UnknownTopicOrPartitionError):
        await Consumer("nowhere", bootstrap_servers=cluster.bootstrap, request_timeout_ms=200).start()
