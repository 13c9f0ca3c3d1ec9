"""The producer over sockets: failover, retries, bounds."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.client import (
    BrokerResponseError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NoBrokersAvailable,
    Producer,
    ProducerClosed,
    TopicPartition,
    UnknownTopicOrPartitionError,
)
from ottla.records import decode_batch
from tests.client.fake import FakeCluster, FakePartition

TP = TopicPartition("t", 0)


def values(partition: FakePartition) -> list[bytes | None]:
    return [record.value for batch in partition.batches for record in decode_batch(batch)]


async def test_records_go_on_when_the_leader_is_killed(cluster: FakeCluster) -> None:
    partition = cluster.create("t")[0]
    async with Producer(bootstrap_servers=cluster.bootstrap, linger_ms=0) as producer:
        futures = [await producer.send("t", b"%d" % i) for i in range(50)]
        await futures[0]
        await cluster.kill(1)
        futures += [await producer.send("t", b"%d" % i) for i in range(50, 100)]
        cluster.elect(TP, 2)
        async with asyncio.timeout(5):
            places = [await future for future in futures]
    assert [place.offset for place in places] == list(range(100))
    assert values(partition) == [b"%d" % i for i in range(100)]


async def test_an_error_that_names_the_leader_is_followed_without_metadata(cluster: FakeCluster) -> None:
    """KIP-951."""
    cluster.create("t")
    async with Producer(bootstrap_servers=cluster.bootstrap, linger_ms=0) as producer:
        await producer.send_and_wait("t", b"a")
        asked = sum(count for (_, name), count in cluster.requests.items() if name == "metadata")
        cluster.elect(TP, 2)
        place = await producer.send_and_wait("t", b"b")
        assert place.offset == 1
        assert sum(count for (_, name), count in cluster.requests.items() if name == "metadata") == asked


async def test_a_batch_whose_answer_was_lost_is_stored_once(cluster: FakeCluster) -> None:
    partition = cluster.create("t")[0]
    faults: Iterator[str] = iter(["close after", "close"])
    cluster.produce_fault = lambda node: next(faults, None)
    async with Producer(bootstrap_servers=cluster.bootstrap) as producer:
        place = await producer.send_and_wait("t", b"a")
    assert place.offset == 0
    assert values(partition) == [b"a"]


async def test_a_paused_leader_is_left_behind(cluster: FakeCluster) -> None:
    cluster.create("t")
    async with Producer(bootstrap_servers=cluster.bootstrap, linger_ms=0) as producer:
        await producer.send_and_wait("t", b"a")
        cluster.pause(1)
        future = await producer.send("t", b"b")
        cluster.elect(TP, 2)
        async with asyncio.timeout(5):
            assert (await future).offset == 1


async def test_a_refused_batch_fails_with_where_and_why(cluster: FakeCluster) -> None:
    cluster.create("t")
    cluster.produce_fault = lambda node: ErrorCode.invalid_record
    async with Producer(bootstrap_servers=cluster.bootstrap) as producer:
        with pytest.raises(
            BrokerResponseError, match=r"INVALID_RECORD.*not in the log.*t-0, broker 1.*attempts 1"
        ) as told:
            await producer.send_and_wait("t", b"a")
        assert told.value.definite
        cluster.produce_fault = lambda node: None
        assert (await producer.send_and_wait("t", b"b")).offset == 0


async def test_a_record_is_given_up_after_its_delivery_timeout(cluster: FakeCluster) -> None:
    cluster.create("t")
    cluster.produce_fault = lambda node: ErrorCode.not_enough_replicas
    async with Producer(bootstrap_servers=cluster.bootstrap, delivery_timeout_ms=150) as producer:
        with pytest.raises(KafkaTimeoutError, match=r"NOT_ENOUGH_REPLICAS; the records are not in.*t-0, broker 1"):
            await producer.send_and_wait("t", b"a")


async def test_send_waits_while_the_buffer_is_full(cluster: FakeCluster) -> None:
    cluster.create("t")
    cluster.produce_fault = lambda node: ErrorCode.not_enough_replicas
    async with Producer(
        bootstrap_servers=cluster.bootstrap, buffer_memory=3000, max_block_ms=100, retry_backoff_max_ms=50
    ) as producer:
        first = await producer.send("t", bytes(2000))
        with pytest.raises(KafkaTimeoutError, match="buffer stayed full"):
            await producer.send("t", bytes(2000))
        waiting = [asyncio.create_task(producer.send("t", bytes(2000))) for _ in range(3)]
        cluster.produce_fault = lambda node: None
        async with asyncio.timeout(5):
            offsets = [(await first).offset, *[(await (await task)).offset for task in waiting]]
    assert offsets == [0, 1, 2, 3]


async def test_acks_0_and_1(cluster: FakeCluster) -> None:
    partition = cluster.create("t")[0]
    async with Producer(bootstrap_servers=cluster.bootstrap, acks=1) as producer:
        assert (await producer.send_and_wait("t", b"a")).offset == 0
    async with Producer(bootstrap_servers=cluster.bootstrap, acks=0) as producer:
        assert (await producer.send_and_wait("t", b"b")).offset == -1
        # The connection is served in order: this answer says that the record before it has been handled.
        await producer.partitions_for("t")
        await producer._network.refreshed()
    assert values(partition) == [b"a", b"b"]


async def test_wrong_use_is_told_at_once(cluster: FakeCluster) -> None:
    cluster.create("t")
    with pytest.raises(ValueError, match="acks"):
        Producer(acks=2)
    with pytest.raises(ValueError, match="enable_idempotence"):
        Producer(acks=1, enable_idempotence=True)
    with pytest.raises(ValueError, match="compression_type"):
        Producer(compression_type="rar")
    producer = Producer(bootstrap_servers=cluster.bootstrap, max_block_ms=200)
    with pytest.raises(ProducerClosed):
        await producer.send("t", b"a")
    async with producer:
        with pytest.raises(UnknownTopicOrPartitionError):
            await producer.send("nowhere", b"a")
        with pytest.raises(UnknownTopicOrPartitionError):
            await producer.send("t", b"a", partition=7)
        with pytest.raises(MessageSizeTooLargeError):
            await producer.send("t", bytes(2_000_000))
        with pytest.raises(TypeError):
            await producer.send("t", "text")
    with pytest.raises(ProducerClosed):
        await producer.send("t", b"a")


async def test_no_broker_is_one_error() -> None:
    with pytest.raises(NoBrokersAvailable, match=r"127\.0\.0\.1:1"):
        await Producer(bootstrap_servers="127.0.0.1:1", request_timeout_ms=200).start()


async def test_stopping_without_a_flush_leaves_nothing_behind(cluster: FakeCluster) -> None:
    """Requests that were written a moment ago are given up too, and who sent them is told what may have happened."""
    cluster.create("t")
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    producer = Producer(bootstrap_servers=cluster.bootstrap, linger_ms=0)
    await producer.start()
    await producer.send_and_wait("t", b"a")
    cluster.pause(1)
    future = await producer.send("t", b"b")
    for _ in range(20):
        if any(batch.attempt is not None for batch in producer._core.unsettled()):
            break
        await asyncio.sleep(0)
    await producer.stop(flush=False)
    with pytest.raises(KafkaTimeoutError, match="may be in the log") as told:
        await future
    assert told.value.definite is False
    await asyncio.sleep(0)
    gc.collect()
    assert complaints == []
