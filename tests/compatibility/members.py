"""Members of a consumer group, one thread each: every record that is handed out is noted, and committed after that."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]
from aiokafka.coordinator.assignors.range import RangePartitionAssignor  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError as AioError  # type: ignore[import-untyped]
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from kafka import KafkaConsumer  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]

from tests.compatibility.aio import stop
from tests.compatibility.background import BackgroundLoop

SESSION_MS, BEAT_MS = 10_000, 1000
PATIENCE_S = 60.0


class Member(ABC):
    """Runs from the start until `stop`, which leaves the group in good order and raises what went wrong."""

    library = ""

    def __init__(self, bootstrap: str, group: str, topic: str, settings: Mapping[str, Any] | None = None) -> None:
        self.seen: list[tuple[int, int, bytes]] = []
        self.assigned: frozenset[int] = frozenset()
        self.refused: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        words = (bootstrap, group, topic, dict(settings or {}))
        self._thread = threading.Thread(target=self._go, args=words, name=f"{self.library} in {group}")
        self._thread.start()

    def _go(self, *words: Any) -> None:
        try:
            self.run(*words)
        except BaseException as error:  # noqa: BLE001  it is raised where it can fail the test
            self._error = error

    @abstractmethod
    def run(self, bootstrap: str, group: str, topic: str, settings: dict[str, Any]) -> None:
        """Consume until `_stopping` is set."""

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), f"{self.library} does not stop"
        if self._error is not None:
            raise self._error


class ConfluentMember(Member):
    library = "confluent-kafka"

    def run(self, bootstrap: str, group: str, topic: str, settings: dict[str, Any]) -> None:
        given = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": BEAT_MS,
            "partition.assignment.strategy": "range",
            **settings,
        }
        consumer = Consumer({name: value for name, value in given.items() if value is not None})
        try:
            consumer.subscribe([topic])
            while not self._stopping.is_set():
                messages = consumer.consume(500, 0.1)
                self.assigned = frozenset(each.partition for each in consumer.assignment())
                taken = [each for each in messages if each.error() is None]
                for each in taken:
                    partition, offset, value = each.partition(), each.offset(), each.value()
                    assert partition is not None and offset is not None and isinstance(value, bytes)
                    self.seen.append((partition, offset, value))
                if taken:
                    try:
                        consumer.commit(asynchronous=False)
                    except KafkaException as error:
                        self.refused[str(error)] += 1
        finally:
            consumer.close()


class NewConfluentMember(ConfluentMember):
    """Of a KIP-848 group: librdkafka then leaves these settings to the broker, and refuses them."""

    library = "confluent-kafka, group.protocol=consumer"

    def run(self, bootstrap: str, group: str, topic: str, settings: dict[str, Any]) -> None:
        own = {"group.protocol": "consumer", "session.timeout.ms": None, "heartbeat.interval.ms": None}
        super().run(bootstrap, group, topic, {**own, "partition.assignment.strategy": None, **settings})


class AioMember(Member):
    library = "aiokafka"

    def run(self, bootstrap: str, group: str, topic: str, settings: dict[str, Any]) -> None:
        with BackgroundLoop("aiokafka") as loop:
            loop.run(self._consume(bootstrap, group, topic, settings), within=10 * PATIENCE_S)

    async def _consume(self, bootstrap: str, group: str, topic: str, settings: dict[str, Any]) -> None:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=BEAT_MS,
            partition_assignment_strategy=[RangePartitionAssignor],
            retry_backoff_ms=50,
            metadata_max_age_ms=5000,
            **settings,
        )
        await consumer.start()
        try:
            while not self._stopping.is_set():
                try:
                    polled = await consumer.getmany(timeout_ms=100)
                except AioError as error:
                    self.refused[repr(error)] += 1
                    continue
                self.assigned = frozenset(each.partition for each in consumer.assignment())
                records = [record for rows in polled.values() for record in rows]
                self.seen += [(each.partition, each.offset, each.value) for each in records]
                if records:
                    try:
                        await consumer.commit()
                    except AioError as error:
                        self.refused[repr(error)] += 1
        finally:
            async with asyncio.timeout(PATIENCE_S):
                await stop(consumer)


class KafkaPythonMember(Member):
    library = "kafka-python"

    def run(self, bootstrap: str, group: str, topic: str, settings: dict[str, Any]) -> None:
        consumer = KafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=BEAT_MS,
            **settings,
        )
        try:
            while not self._stopping.is_set():
                polled = consumer.poll(timeout_ms=100)
                self.assigned = frozenset(each.partition for each in consumer.assignment())
                records = [record for rows in polled.values() for record in rows]
                self.seen += [(each.partition, each.offset, each.value) for each in records]
                if records:
                    try:
                        consumer.commit()
                    except KafkaError as error:
                        self.refused[repr(error)] += 1
        finally:
            consumer.close()


_KINDS: tuple[type[Member], ...] = (ConfluentMember, NewConfluentMember, AioMember, KafkaPythonMember)
MEMBERS: Mapping[str, type[Member]] = {kind.library: kind for kind in _KINDS}
LIBRARIES = tuple(kind.library for kind in _KINDS if kind is not NewConfluentMember)


def committed(bootstrap: str, group: str, topic: str, partitions: int) -> list[int]:
    """The group's offsets, as an admin client that is no member is told (-1001: none). AssertionError in the end."""
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, index) for index in range(partitions)])
    deadline = time.monotonic() + PATIENCE_S
    while True:
        # A new one each time: librdkafka keeps to the coordinator that it was told first, also when that is gone.
        admin = AdminClient({"bootstrap.servers": bootstrap})
        try:
            found = admin.list_consumer_group_offsets([wanted], request_timeout=2.0)[group].result(10.0)
            return [each.offset for each in sorted(found.topic_partitions or [], key=lambda each: each.partition)]
        except KafkaException as error:
            assert time.monotonic() < deadline, error
