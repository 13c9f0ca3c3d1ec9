"""Consume, transform, produce with real libraries: offsets are committed with the records made of the input, or not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka import TopicPartition as AioPartition
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.compatibility.aio import stop
from tests.compatibility.background import BackgroundLoop
from tests.compatibility.cluster import Cluster, eventually
from tests.compatibility.groups import PARTITIONS, committed, coordinator_of, make, whole, write

TOTAL, BATCHES = 240, 4


def with_confluent(cluster: Cluster, group: str, source: str, target: str, between: Callable[[int], None]) -> None:
    """The second transaction is aborted, and its input read once more."""
    producer = Producer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "transactional.id": f"tid-{group}",
            "transaction.timeout.ms": 30000,
            # Or its call may never end, nor time out, once the group's coordinator is gone from the metadata
            # (librdkafka #5511): it then asks for another one only when some connection comes or goes.
            "connections.max.idle.ms": 2000,
        }
    )
    consumer = Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    try:
        producer.init_transactions(30)
        consumer.subscribe([source])
        done, number = 0, 0
        while done < TOTAL:
            taken = [each for each in consumer.consume(TOTAL // BATCHES, 1.0) if each.error() is None]
            if not taken:
                continue
            between(number)
            producer.begin_transaction()
            ends: dict[int, int] = {}
            for each in taken:
                partition, offset = each.partition(), each.offset()
                assert partition is not None and offset is not None
                producer.produce(target, each.value(), partition=partition)
                ends[partition] = max(ends.get(partition, 0), offset + 1)
            places = [TopicPartition(source, partition, end) for partition, end in ends.items()]
            producer.send_offsets_to_transaction(places, consumer.consumer_group_metadata(), 30)
            number += 1
            if number == 2:
                producer.abort_transaction(30)
                for place in consumer.committed([TopicPartition(source, each) for each in ends], 30):
                    place.offset = max(place.offset, 0)
                    consumer.seek(place)
                continue
            producer.commit_transaction(30)
            done += len(taken)
    finally:
        consumer.close()


def with_aiokafka(cluster: Cluster, group: str, source: str, target: str, between: Callable[[int], None]) -> None:
    with BackgroundLoop("aiokafka") as loop:
        loop.run(_with_aiokafka(cluster, group, source, target, between), within=240)


async def _with_aiokafka(
    cluster: Cluster, group: str, source: str, target: str, between: Callable[[int], None]
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, transactional_id=f"tid-{group}")
    consumer = AIOKafkaConsumer(
        source,
        bootstrap_servers=cluster.bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        metadata_max_age_ms=2000,
    )
    await producer.start()
    await consumer.start()
    try:
        done, number = 0, 0
        while done < TOTAL:
            polled = await consumer.getmany(timeout_ms=1000, max_records=TOTAL // BATCHES)
            if not polled:
                continue
            await asyncio.to_thread(between, number)
            number += 1
            ends = {where: records[-1].offset + 1 for where, records in polled.items()}
            await producer.begin_transaction()
            for where, records in polled.items():
                for record in records:
                    await producer.send(target, record.value, partition=where.partition)
            await producer.send_offsets_to_transaction(ends, group)
            if number == 2:
                await producer.abort_transaction()
                for where in ends:
                    consumer.seek(AioPartition(*where), await consumer.committed(AioPartition(*where)) or 0)
                continue
            await producer.commit_transaction()
            done += sum(map(len, polled.values()))
    finally:
        await stop(consumer)
        await producer.stop()


COPIERS = {"confluent-kafka": with_confluent, "aiokafka": with_aiokafka}


def copies(cluster: Cluster, topic: str) -> Counter[bytes]:
    reader = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "none", "isolation.level": "read_committed"})
    found: Counter[bytes] = Counter()
    try:
        reader.assign([TopicPartition(topic, index, 0) for index in range(PARTITIONS)])

        def read() -> bool:
            for message in reader.consume(500, 0.2):
                value = message.value()
                assert message.error() is None and isinstance(value, bytes)
                found[value] += 1
            return sum(found.values()) >= TOTAL

        eventually(read, "every copy was read", within=60)
        read()
    finally:
        reader.close()
    return found


@pytest.mark.parametrize("library", COPIERS)
def test_every_record_is_copied_once(cluster: Cluster, topic: str, library: str) -> None:
    """The coordinator of the group dies between two transactions."""
    group, source, target = f"g-{topic}", f"{topic}-in", f"{topic}-out"
    for name in (source, target):
        make(cluster, name)
    write(cluster, source, 0, TOTAL)
    victims: list[int] = []

    def between(number: int) -> None:
        if number == 2:
            victims.append(coordinator_of(cluster, group))
            cluster.kill(victims[0])

    COPIERS[library](cluster, group, source, target, between)
    cluster.start(victims[0])
    eventually(lambda: whole(cluster), "every replica is in sync again", within=40)
    assert copies(cluster, target) == Counter({b"%d" % number: 1 for number in range(TOTAL)})
    assert committed(cluster.bootstrap, group, source, PARTITIONS) == [TOTAL // PARTITIONS] * PARTITIONS
