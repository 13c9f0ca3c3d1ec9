"""aiokafka, in an event loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic  # type: ignore[import-untyped]
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError, for_code  # type: ignore[import-untyped]

from tests.compatibility.background import BackgroundLoop
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


async def stop(consumer: AIOKafkaConsumer) -> None:
    """Stop, and go on where aiokafka 0.14 gives up.

    Its fetcher awaits the tasks that it has cancelled. Of one that waits to ask again a node that is down, the
    CancelledError comes out of `stop`, after the group was left and before the connections are closed.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        await consumer._client.close()


class Aio:
    """The adapter."""

    name = "aiokafka"
    null_pair = False
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
        with BackgroundLoop("aiokafka") as loop:
            writing = _write(bootstrap, topic, partition, messages, how, answered)
            return loop.run(writing, within=2 * DELIVERY_S)

    @contextmanager
    def reader(self, bootstrap: str, topic: str, partition: int = 0) -> Iterator[AioReader]:
        async def start() -> AIOKafkaConsumer:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
            )
            await consumer.start()
            return consumer

        with BackgroundLoop("aiokafka") as loop:
            consumer = loop.run(start())
            try:
                yield AioReader(loop, consumer, TopicPartition(topic, partition))
            finally:
                loop.run(stop(consumer))

    @contextmanager
    def admin(self, bootstrap: str) -> Iterator[AioAdmin]:
        async def start() -> AIOKafkaAdminClient:
            client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
            await client.start()
            return client

        with BackgroundLoop("aiokafka") as loop:
            client = loop.run(start())
            try:
                yield AioAdmin(loop, client)
            finally:
                loop.run(client.close())


async def _write(
    bootstrap: str, topic: str, partition: int, messages: Iterable[Message], how: How, answered: Answered
) -> list[Result]:
    settings: dict[str, Any] = {
        "bootstrap_servers": bootstrap,
        "acks": how.acks,
        "compression_type": None if how.codec == "none" else how.codec,
        "enable_idempotence": how.idempotent,
        "linger_ms": how.linger_ms,
        "max_batch_size": how.batch_bytes,
        "max_request_size": MAX_REQUEST,
        "request_timeout_ms": DELIVERY_S * 1000,
        **how.settings,
    }
    producer = AIOKafkaProducer(**settings)
    await producer.start()
    results: dict[int, Result] = {}
    turn = asyncio.Semaphore(MAX_OUTSTANDING)
    tasks: list[asyncio.Task[None]] = []

    async def answer(index: int, message: Message, accepted: asyncio.Event) -> None:
        try:
            future = await producer.send(
                topic,
                message.value,
                key=message.key,
                headers=list(message.headers),
                partition=partition,
                timestamp_ms=message.timestamp,
            )
            accepted.set()
            done = await future
            results[index] = Result(-1 if done is None else done.offset)
        except KafkaError as error:
            results[index] = Result(-1, getattr(error, "errno", -1000), repr(error))
        finally:
            accepted.set()
            turn.release()
        answered(index, results[index])

    try:
        for index, message in enumerate(messages):
            await turn.acquire()
            accepted = asyncio.Event()
            tasks.append(asyncio.create_task(answer(index, message, accepted)))
            await accepted.wait()  # or records would overtake each other on the way into the producer
        await asyncio.gather(*tasks)
    finally:
        await producer.stop()
    return [results[index] for index in range(len(tasks))]


class AioReader(Reader):
    """A consumer with one partition assigned."""

    def __init__(self, loop: BackgroundLoop, consumer: AIOKafkaConsumer, at: TopicPartition) -> None:
        self._loop = loop
        self._consumer = consumer
        self._at = at
        self._do(self._assign())

    async def _assign(self) -> None:
        self._consumer.assign([self._at])

    def _do(self, work: Any, within: float = 30.0) -> Any:
        try:
            return self._loop.run(work, within)
        except KafkaError as error:
            raise _refused(error) from error

    def seek(self, offset: int) -> None:
        async def seek() -> None:
            self._consumer.seek(self._at, offset)

        self._do(seek())

    def seek_to_end(self) -> None:
        self._do(self._consumer.seek_to_end(self._at))

    def poll(self, most: int, within: float) -> list[Seen]:
        polled = self._do(self._consumer.getmany(timeout_ms=int(within * 1000), max_records=most))
        return [_seen(record) for records in polled.values() for record in records]

    def bounds(self) -> tuple[int, int]:
        low = self._do(self._consumer.beginning_offsets([self._at]))
        return low[self._at], self._do(self._consumer.end_offsets([self._at]))[self._at]

    def offset_at(self, timestamp: int) -> int | None:
        found = self._do(self._consumer.offsets_for_times({self._at: timestamp}))[self._at]
        return None if found is None else found.offset


def _seen(record: Any) -> Seen:
    return Seen(record.offset, record.timestamp, record.timestamp_type, record.key, record.value, tuple(record.headers))


class AioAdmin:
    """The admin client, which hands out whole responses and leaves their errors to whoever reads them."""

    def __init__(self, loop: BackgroundLoop, client: AIOKafkaAdminClient) -> None:
        self._loop = loop
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
        if assignment is None:
            new = NewTopic(topic, partitions, replicas, topic_configs=dict(configs or {}))
        else:
            spread = {index: list(each) for index, each in enumerate(assignment)}
            new = NewTopic(topic, -1, -1, spread, dict(configs or {}))
        for _, code, text in self._loop.run(self._client.create_topics([new])).topic_errors:
            _check(code, text)

    def delete(self, topic: str) -> None:
        for _, code in self._loop.run(self._client.delete_topics([topic])).topic_error_codes:
            _check(code)

    def topics(self) -> set[str]:
        return set(self._loop.run(self._client.list_topics()))

    def describe(self, topic: str) -> dict[int, PartitionSeen]:
        (found,) = self._loop.run(self._client.describe_topics([topic]))
        _check(found["error_code"])
        return {
            row["partition"]: PartitionSeen(row["leader"], tuple(row["replicas"]), frozenset(row["isr"]))
            for row in found["partitions"]
        }

    def add_partitions(self, topic: str, total: int) -> None:
        try:
            self._loop.run(self._client.create_partitions({topic: NewPartitions(total)}))
        except KafkaError as error:  # this one of its methods looks into the answer
            raise _refused(error) from error

    def configs(self, topic: str) -> dict[str, str | None]:
        (response,) = self._loop.run(self._client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        ((code, text, _, _, entries),) = response.resources
        _check(code, text)
        return {entry[0]: entry[1] for entry in entries}

    def replace_configs(self, topic: str, configs: Mapping[str, str]) -> None:
        """AlterConfigs, the only one that it has."""
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, dict(configs))
        (response,) = self._loop.run(self._client.alter_configs([resource]))
        ((code, text, _, _),) = response.resources
        _check(code, text)

    def cluster(self) -> ClusterSeen:
        found = self._loop.run(self._client.describe_cluster())
        brokers = {node["node_id"]: f"{node['host']}:{node['port']}" for node in found["brokers"]}
        return ClusterSeen(found["cluster_id"], found["controller_id"], brokers)


def _check(code: int, text: str | None = None) -> None:
    if code:
        raise Refused(code, text or for_code(code).__name__)


def _refused(error: KafkaError) -> Refused:
    return Refused(getattr(error, "errno", -1000), repr(error))
