"""kafka-python."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition  # type: ignore[import-untyped]
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]
from kafka.protocol.api_header import ResponseClassRegistry  # type: ignore[import-untyped]

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


def make_response_classes() -> None:
    """Every version of every response, before there are threads that would.

    kafka-python (3.0.12) makes the class for a version when it is first used, and refers weakly to the last one made
    for an API. Where two threads make the same one, that may be the one which is not kept: then no response of this API
    is understood in the process any more (ReferenceError in its `get_response_class`).
    """
    for response_class in list(ResponseClassRegistry._response_class_registry.values()):
        primary = response_class[None]
        for version in range(primary.min_version, primary.max_version + 1):
            assert primary[version] is not None


class KafkaPython:
    """The adapter."""

    name = "kafka-python"
    null_pair = False
    null_header = False

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
        producer = KafkaProducer(
            **{
                "bootstrap_servers": bootstrap,
                "acks": how.acks,
                "compression_type": None if how.codec == "none" else how.codec,
                "enable_idempotence": how.idempotent,
                "linger_ms": how.linger_ms,
                "batch_size": how.batch_bytes,
                "max_request_size": MAX_REQUEST,
                "delivery_timeout_ms": DELIVERY_S * 1000,
                "max_block_ms": DELIVERY_S * 1000,
                **how.settings,
            }
        )
        results: dict[int, Result] = {}
        turn = threading.Semaphore(MAX_OUTSTANDING)

        def answer(index: int, result: Result) -> None:
            results[index] = result
            turn.release()
            answered(index, result)

        sent = 0
        try:
            for message in messages:
                assert turn.acquire(timeout=DELIVERY_S + 10), "kafka-python gives no answer"
                index, sent = sent, sent + 1
                try:
                    future = producer.send(
                        topic,
                        message.value,
                        key=message.key,
                        headers=list(message.headers),
                        partition=partition,
                        timestamp_ms=message.timestamp,
                    )
                except KafkaError as error:
                    answer(index, _failed(error))
                    continue
                future.add_callback(lambda done, index=index: answer(index, Result(done.offset)))
                future.add_errback(lambda error, index=index: answer(index, _failed(error)))
            producer.flush(timeout=DELIVERY_S + 10)
        finally:
            producer.close(timeout=5)
        return [results[index] for index in range(sent)]

    @contextmanager
    def reader(self, bootstrap: str, topic: str, partition: int = 0) -> Iterator[KafkaPythonReader]:
        consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
        try:
            yield KafkaPythonReader(consumer, TopicPartition(topic, partition))
        finally:
            consumer.close()

    @contextmanager
    def admin(self, bootstrap: str) -> Iterator[KafkaPythonAdmin]:
        client = KafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            yield KafkaPythonAdmin(client)
        finally:
            client.close()


def _failed(error: BaseException) -> Result:
    return Result(-1, getattr(error, "errno", -1000), repr(error))


class KafkaPythonReader(Reader):
    """A consumer with one partition assigned."""

    def __init__(self, consumer: KafkaConsumer, at: TopicPartition) -> None:
        self._consumer = consumer
        self._at = at
        consumer.assign([at])

    def seek(self, offset: int) -> None:
        self._consumer.seek(self._at, offset)

    def seek_to_end(self) -> None:
        self._consumer.seek_to_end(self._at)
        self._consumer.position(self._at)  # until this, it is only a wish

    def poll(self, most: int, within: float) -> list[Seen]:
        try:
            polled = self._consumer.poll(timeout_ms=int(within * 1000), max_records=most)
        except KafkaError as error:
            raise _refused(error) from error
        return [_seen(record) for records in polled.values() for record in records]

    def bounds(self) -> tuple[int, int]:
        low = self._consumer.beginning_offsets([self._at])[self._at]
        return low, self._consumer.end_offsets([self._at])[self._at]

    def offset_at(self, timestamp: int) -> int | None:
        found = self._consumer.offsets_for_times({self._at: timestamp})[self._at]
        return None if found is None else found.offset


def _seen(record: Any) -> Seen:
    return Seen(record.offset, record.timestamp, record.timestamp_type, record.key, record.value, tuple(record.headers))


class KafkaPythonAdmin:
    """The admin client."""

    def __init__(self, client: KafkaAdminClient) -> None:
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
        row: dict[str, Any] = {"configs": dict(configs or {})}
        if assignment is None:
            row |= {"num_partitions": partitions, "replication_factor": replicas}
        else:
            row["assignments"] = {index: list(each) for index, each in enumerate(assignment)}
        self._do(self._client.create_topics, {topic: row})

    def _do(self, work: Any, *words: Any) -> Any:
        try:
            return work(*words)
        except KafkaError as error:
            raise _refused(error) from error

    def delete(self, topic: str) -> None:
        self._do(self._client.delete_topics, [topic])

    def topics(self) -> set[str]:
        return set(self._client.list_topics())

    def describe(self, topic: str) -> dict[int, PartitionSeen]:
        (found,) = self._client.describe_topics([topic])
        if found["error_code"]:
            raise Refused(found["error_code"], topic)
        return {
            row["partition_index"]: PartitionSeen(
                row["leader_id"], tuple(row["replica_nodes"]), frozenset(row["isr_nodes"])
            )
            for row in found["partitions"]
        }

    def add_partitions(self, topic: str, total: int) -> None:
        self._do(self._client.create_partitions, {topic: total})

    def configs(self, topic: str) -> dict[str, str | None]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        found = self._client.describe_configs([resource], config_filter="all")["topic"][topic]
        return {name: entry["value"] for name, entry in found.items()}

    def set_config(self, topic: str, name: str, value: str) -> None:
        self._alter(topic, {name: (AlterConfigOp.SET, value)})

    def unset_config(self, topic: str, name: str) -> None:
        self._alter(topic, {name: (AlterConfigOp.DELETE, None)})

    def _alter(self, topic: str, configs: Mapping[str, Any]) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=dict(configs))
        answer = self._client.alter_configs([resource], raise_on_unknown=False)["topic"][topic]
        if answer != "OK":  # it keeps the code to itself
            raise Refused(int(answer.partition("[Error ")[2].partition("]")[0] or -1), answer)

    def cluster(self) -> ClusterSeen:
        found = self._client.describe_cluster()
        brokers = {node["broker_id"]: f"{node['host']}:{node['port']}" for node in found["brokers"]}
        return ClusterSeen(found["cluster_id"], found["controller_id"], brokers)


def _refused(error: KafkaError) -> Refused:
    return Refused(getattr(error, "errno", -1000), repr(error))
