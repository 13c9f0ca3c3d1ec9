"""confluent-kafka, that is librdkafka."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from tests.compatibility.model import (
    DELIVERY_S,
    MAX_OUTSTANDING,
    MAX_REQUEST,
    Answered,
    ClusterSeen,
    How,
    Message,
    PartitionSeen,
    Reader,
    Refused,
    Result,
    Seen,
    nobody,
)

ASK_S = 20.0


class Confluent:
    """The adapter."""

    name = "confluent-kafka"
    null_pair = True
    null_header = True

    def write(
        self,
        bootstrap: str,
        topic: str,
        messages: Iterable[Message],
        *,
        partition: int = 0,
        how: How = How(),  # noqa: B008
        answered: Answered = nobody,
    ) -> list[Result]:
        producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": how.acks,
                "compression.type": how.codec,
                "enable.idempotence": how.idempotent,
                "linger.ms": how.linger_ms,
                "batch.size": how.batch_bytes,
                "message.max.bytes": MAX_REQUEST,
                "delivery.timeout.ms": DELIVERY_S * 1000,
                **how.settings,
            }
        )
        results: dict[int, Result] = {}

        def delivered(index: int, error: Any, message: Any) -> None:
            if error is None:
                results[index] = Result(message.offset())
            else:
                results[index] = Result(-1, error.code(), str(error))
            answered(index, results[index])

        sent = 0
        for message in messages:
            deadline = time.monotonic() + DELIVERY_S + 10
            while sent - len(results) >= MAX_OUTSTANDING:
                assert time.monotonic() < deadline, "librdkafka gives no answer"
                producer.poll(0.1)
            stamp: dict[str, Any] = {} if message.timestamp is None else {"timestamp": message.timestamp}
            producer.produce(
                topic,
                value=message.value,
                key=message.key,
                headers=list(message.headers),
                partition=partition,
                on_delivery=partial(delivered, sent),
                **stamp,
            )
            sent += 1
            producer.poll(0)
        assert producer.flush(DELIVERY_S + 10) == 0, "librdkafka gives no answer"
        return [results[index] for index in range(sent)]

    @contextmanager
    def reader(self, bootstrap: str, topic: str, partition: int = 0) -> Iterator[ConfluentReader]:
        # The group's name is demanded, but nothing of it is used.
        consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "unused",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        try:
            yield ConfluentReader(consumer, topic, partition)
        finally:
            consumer.close()

    @contextmanager
    def admin(self, bootstrap: str) -> Iterator[ConfluentAdmin]:
        yield ConfluentAdmin(AdminClient({"bootstrap.servers": bootstrap}))


class ConfluentReader(Reader):
    """A consumer with one partition assigned."""

    def __init__(self, consumer: Consumer, topic: str, partition: int) -> None:
        self._consumer = consumer
        self._at = topic, partition
        consumer.assign([TopicPartition(*self._at, OFFSET_BEGINNING)])
        self._fetching = False

    def seek(self, offset: int) -> None:
        position = TopicPartition(*self._at, offset)
        # librdkafka's seek() is only for what is being fetched already.
        if self._fetching:
            self._consumer.seek(position)
        else:
            self._consumer.assign([position])

    def seek_to_end(self) -> None:
        self.seek(OFFSET_END)

    def poll(self, most: int, within: float) -> list[Seen]:
        # Only poll() comes back as soon as there is something; the rest is what it has brought along.
        first = self._consumer.poll(within)
        messages = [] if first is None else [first, *self._consumer.consume(most - 1, 0)]
        for message in messages:
            error = message.error()
            if error is not None:
                raise Refused(error.code(), str(error))
        self._fetching = self._fetching or bool(messages)
        return [_seen(message) for message in messages]

    def bounds(self) -> tuple[int, int]:
        low, high = self._consumer.get_watermark_offsets(TopicPartition(*self._at), timeout=ASK_S)
        return low, high

    def offset_at(self, timestamp: int) -> int | None:
        (found,) = self._consumer.offsets_for_times([TopicPartition(*self._at, timestamp)], timeout=ASK_S)
        return None if found.offset == OFFSET_END else found.offset


def _seen(message: Any) -> Seen:
    kind, timestamp = message.timestamp()
    return Seen(
        message.offset(),
        timestamp,
        int(kind == TIMESTAMP_LOG_APPEND_TIME),
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
    )


class ConfluentAdmin:
    """The AdminClient; every call's futures are waited for."""

    def __init__(self, client: AdminClient) -> None:
        self._client = client

    def create(
        self,
        topic: str,
        partitions: int = 1,
        replicas: int = 3,
        *,
        assignment: Sequence[Sequence[int]] | None = None,
        configs: Mapping[str, str] | None = None,
    ) -> None:
        more: dict[str, Any] = {"config": dict(configs or {})}
        if assignment is None:
            more["replication_factor"] = replicas
        else:
            partitions = len(assignment)
            more["replica_assignment"] = [list(each) for each in assignment]
        _wait(self._client.create_topics([NewTopic(topic, partitions, **more)]))

    def delete(self, topic: str) -> None:
        _wait(self._client.delete_topics([topic]))

    def topics(self) -> set[str]:
        return set(self._client.list_topics(timeout=ASK_S).topics)

    def describe(self, topic: str) -> dict[int, PartitionSeen]:
        description = _wait(self._client.describe_topics(TopicCollection([topic])))
        return {
            row.id: PartitionSeen(
                row.leader.id, tuple(node.id for node in row.replicas), frozenset(node.id for node in row.isr)
            )
            for row in description.partitions
        }

    def add_partitions(self, topic: str, total: int) -> None:
        _wait(self._client.create_partitions([NewPartitions(topic, total)]))

    def configs(self, topic: str) -> dict[str, str | None]:
        entries = _wait(self._client.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))
        return {name: entry.value for name, entry in entries.items()}

    def set_config(self, topic: str, name: str, value: str) -> None:
        self._alter(topic, ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET))

    def unset_config(self, topic: str, name: str) -> None:
        self._alter(topic, ConfigEntry(name, None, incremental_operation=AlterConfigOpType.DELETE))

    def replace_configs(self, topic: str, configs: Mapping[str, str]) -> None:
        """AlterConfigs, which the library warns of."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            _wait(self._client.alter_configs([ConfigResource(ResourceType.TOPIC, topic, set_config=dict(configs))]))

    def _alter(self, topic: str, entry: ConfigEntry) -> None:
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        _wait(self._client.incremental_alter_configs([resource]))

    def cluster(self) -> ClusterSeen:
        try:
            found = self._client.describe_cluster().result(ASK_S)
        except KafkaException as error:
            raise _refused(error) from error
        return ClusterSeen(
            found.cluster_id, found.controller.id, {node.id: f"{node.host}:{node.port}" for node in found.nodes}
        )


def _wait(futures: Mapping[Any, Any]) -> Any:
    (future,) = futures.values()
    try:
        return future.result(ASK_S)
    except KafkaException as error:
        raise _refused(error) from error


def _refused(error: KafkaException) -> Refused:
    return Refused(error.args[0].code(), str(error.args[0]))
