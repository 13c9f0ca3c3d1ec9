"""Members of a consumer group, one thread each: every record that is handed out is noted, and committed after that.

So is what the library says the member owns, and in which generation (of a KIP-848 group: under which member epoch).
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]
from aiokafka import ConsumerRebalanceListener as AioListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError as AioError  # type: ignore[import-untyped]
from confluent_kafka import Consumer, KafkaException
from kafka import ConsumerRebalanceListener as PythonListener  # type: ignore[import-untyped]
from kafka import KafkaConsumer
from kafka.errors import KafkaError, RetriableError  # type: ignore[import-untyped]

from ottla import client as ottla
from tests.compatibility.aio import stop
from tests.compatibility.background import BackgroundLoop

SESSION_MS, BEAT_MS = 6000, 500
PATIENCE_S = 60.0
POLL_MS = 100

Place = tuple[str, int]
"""A topic and one of its partitions."""

_numbers = itertools.count(1)


class Member(ABC):
    """Runs from the start until `stop`, which leaves the group in good order and raises what went wrong.

    A static member (KIP-345) has its `identity` in common with those that had its place before.
    """

    library = ""

    def __init__(self, bootstrap: str, group: str, topic: str, settings: Mapping[str, Any] | None = None) -> None:
        self.seen: list[tuple[int, int, bytes]] = []
        self.reached: dict[int, int] = {}
        self.assigned: frozenset[int] = frozenset()
        self.told: list[tuple[int, frozenset[Place]]] = []
        self.refused: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self.identity = str((settings or {}).get("group.instance.id", f"{self.library}, number {next(_numbers)}"))
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

    def took(self, records: list[tuple[int, int, bytes]]) -> None:
        """Partition, offset and value of what was handed out and is not committed yet."""
        self.seen += records
        self.reached |= {partition: offset for partition, offset, _ in records}

    def owns(self, generation: int, places: Iterable[Place]) -> None:
        """What the library says. A member that has lost its generation is told a negative one, or 0."""
        told = (generation, frozenset(places))
        if generation > 0 and told != self.last_told:
            self.told.append(told)

    @property
    def last_told(self) -> tuple[int, frozenset[Place]]:
        return self.told[-1] if self.told else (-1, frozenset())

    def leave(self) -> None:
        """Begin to."""
        self._stopping.set()

    def stop(self) -> None:
        self.leave()
        self.ended(within=PATIENCE_S)

    def ended(self, within: float | None = None) -> None:
        """Wait for it, by itself or after `leave`, and raise what went wrong."""
        self._thread.join(within)
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
        mine: set[Place] = set()

        def assigned(_: Consumer, more: Iterable[Any]) -> None:
            mine.update((each.topic, each.partition) for each in more)
            self.owns(generation_of(consumer), mine)

        def revoked(_: Consumer, gone: Iterable[Any]) -> None:
            mine.difference_update((each.topic, each.partition) for each in gone)

        try:
            consumer.subscribe([topic], on_assign=assigned, on_revoke=revoked)
            while not self._stopping.is_set():
                messages = consumer.consume(500, POLL_MS / 1000)
                self.assigned = frozenset(each.partition for each in consumer.assignment())
                # Who keeps its partitions is not called back. Partitions change in `consume` only, and no member is
                # in a new generation (KIP-848: epoch) before it has given up in a call what that one takes away.
                self.owns(generation_of(consumer), mine)
                taken = []
                for each in messages:
                    partition, offset, value = each.partition(), each.offset(), each.value()
                    if each.error() is None:
                        assert partition is not None and offset is not None and isinstance(value, bytes)
                        taken.append((partition, offset, value))
                if taken:
                    self.took(taken)
                    try:
                        consumer.commit(asynchronous=False)
                    except KafkaException as error:
                        self.refused[str(error)] += 1
        finally:
            consumer.close()


def generation_of(consumer: Consumer) -> int:
    """It is in what librdkafka makes for a transactional producer: an int32, in the machine's order, after a magic."""
    metadata = consumer.consumer_group_metadata()
    assert isinstance(metadata, bytes) and metadata.startswith(_MAGIC), metadata
    return int.from_bytes(metadata[len(_MAGIC) : len(_MAGIC) + 4], sys.byteorder, signed=True)


_MAGIC = b"CGMDv2:"


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
        member = self

        class Listener(AioListener):  # type: ignore[misc]
            def on_partitions_revoked(self, revoked: Iterable[Any]) -> None: ...

            def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
                # There is no other way to it: aiokafka has no public name for the generation.
                member.owns(consumer._coordinator.generation, ((each.topic, each.partition) for each in assigned))

        consumer.subscribe([topic], listener=Listener())
        await consumer.start()
        try:
            while not self._stopping.is_set():
                try:
                    polled = await consumer.getmany(timeout_ms=POLL_MS)
                except AioError as error:
                    self.refused[repr(error)] += 1
                    continue
                self.assigned = frozenset(each.partition for each in consumer.assignment())
                records = [record for rows in polled.values() for record in rows]
                if records:
                    self.took([(each.partition, each.offset, each.value) for each in records])
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
            bootstrap_servers=bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=BEAT_MS,
            **settings,
        )
        member = self

        class Listener(PythonListener):  # type: ignore[misc]
            def on_partitions_revoked(self, revoked: Iterable[Any]) -> None: ...

            def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
                generation = consumer.group_metadata().generation_id
                member.owns(generation, ((each.topic, each.partition) for each in assigned))

        consumer.subscribe([topic], listener=Listener())
        try:
            while not self._stopping.is_set():
                try:
                    polled = consumer.poll(timeout_ms=POLL_MS)
                except RetriableError as error:
                    # Refused by a node that has just died: `poll` raises it while the coordinator is not known, as it
                    # asks the node with the fewest requests under way for new metadata, which the dead one may be.
                    self.refused[repr(error)] += 1
                    continue
                self.assigned = frozenset(each.partition for each in consumer.assignment())
                records = [record for rows in polled.values() for record in rows]
                if records:
                    self.took([(each.partition, each.offset, each.value) for each in records])
                    try:
                        consumer.commit()
                    except KafkaError as error:
                        self.refused[repr(error)] += 1
        finally:
            consumer.close()


class OttlaMember(Member):
    """Of this library."""

    library = "ottla"
    protocol: Literal["classic", "consumer"] = "classic"

    def run(self, bootstrap: str, group: str, topic: str, settings: dict[str, Any]) -> None:
        with BackgroundLoop("ottla") as loop:
            loop.run(self._consume(bootstrap, group, topic, settings), within=10 * PATIENCE_S)

    async def _consume(self, bootstrap: str, group: str, topic: str, settings: dict[str, Any]) -> None:
        consumer = ottla.Consumer(
            bootstrap_servers=bootstrap,
            group_id=group,
            group_protocol=self.protocol,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=BEAT_MS,
            **settings,
        )
        member = self

        def tell() -> None:
            member.owns(consumer.group_metadata().generation_id, consumer.assignment())

        class Listener(ottla.ConsumerRebalanceListener):
            def on_partitions_assigned(self, assigned: set[ottla.TopicPartition]) -> None:
                tell()

        consumer.subscribe([topic], listener=Listener())
        async with consumer:
            while not self._stopping.is_set():
                polled = await consumer.getmany(timeout_ms=POLL_MS)
                self.assigned = frozenset(each.partition for each in consumer.assignment())
                if self.protocol == "consumer":
                    tell()  # as above: its epoch may rise without a call
                records = [record for rows in polled.values() for record in rows]
                if records:
                    self.took([(each.partition, each.offset, each.value or b"") for each in records])
                    try:
                        await consumer.commit()
                    except ottla.CommitFailedError as error:
                        self.refused[repr(error)] += 1


class NewOttlaMember(OttlaMember):
    library = "ottla, group_protocol=consumer"
    protocol = "consumer"


_KINDS: tuple[type[Member], ...] = (
    ConfluentMember,
    NewConfluentMember,
    AioMember,
    KafkaPythonMember,
    OttlaMember,
    NewOttlaMember,
)
MEMBERS: Mapping[str, type[Member]] = {kind.library: kind for kind in _KINDS}
CLASSIC = tuple(kind.library for kind in (ConfluentMember, AioMember, KafkaPythonMember, OttlaMember))
