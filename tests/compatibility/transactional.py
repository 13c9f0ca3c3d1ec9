"""Transactional producers and read-committed consumers of the client libraries, in the same words."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import confluent_kafka
import kafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka import errors as aio_errors
from kafka import errors as python_errors
from kafka.consumer.group import OffsetAndMetadata  # type: ignore[import-untyped]

from tests.compatibility.aio import stop
from tests.compatibility.background import BackgroundLoop

WAIT_S = 30.0
Offsets = Mapping[tuple[str, int], int]


class Fenced(Exception):
    """Another producer has the transactional id, or the coordinator has given this one up."""


class Transactional(ABC):
    """One producer, which has initialised its transactions. Every method may raise Fenced."""

    @abstractmethod
    def begin(self) -> None: ...
    @abstractmethod
    def send(self, topic: str, partition: int, value: bytes) -> None:
        """Without waiting for the answer."""

    @abstractmethod
    def flush(self) -> None:
        """Until all that was sent has its answer."""

    @abstractmethod
    def offsets(self, offsets: Offsets, group: str) -> None: ...
    @abstractmethod
    def commit(self) -> None: ...
    @abstractmethod
    def abort(self) -> None: ...


class _Confluent(Transactional):
    def __init__(self, bootstrap: str, name: str, timeout_ms: int) -> None:
        self._producer = confluent_kafka.Producer(
            {"bootstrap.servers": bootstrap, "transactional.id": name, "transaction.timeout.ms": timeout_ms}
        )
        self._bootstrap = bootstrap
        self._call(lambda: self._producer.init_transactions(WAIT_S))

    def _call(self, call: Callable[[], Any]) -> Any:
        while True:
            try:
                return call()
            except confluent_kafka.KafkaException as error:
                found = error.args[0]
                if found.fatal() or found.code() == confluent_kafka.KafkaError._FENCED:
                    raise Fenced(str(found)) from error
                if not found.retriable():
                    raise

    def begin(self) -> None:
        self._call(self._producer.begin_transaction)

    def send(self, topic: str, partition: int, value: bytes) -> None:
        self._call(lambda: self._producer.produce(topic, value, partition=partition))
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._call(lambda: self._producer.flush(WAIT_S)) == 0

    def offsets(self, offsets: Offsets, group: str) -> None:
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self._bootstrap, "group.id": group})
        try:
            rows = [confluent_kafka.TopicPartition(*at, offset) for at, offset in offsets.items()]
            metadata = consumer.consumer_group_metadata()
            self._call(lambda: self._producer.send_offsets_to_transaction(rows, metadata, WAIT_S))
        finally:
            consumer.close()

    def commit(self) -> None:
        self._call(lambda: self._producer.commit_transaction(WAIT_S))

    def abort(self) -> None:
        self._call(lambda: self._producer.abort_transaction(WAIT_S))


class _Aio(Transactional):
    def __init__(self, loop: BackgroundLoop, producer: AIOKafkaProducer) -> None:
        self._loop = loop
        self._producer = producer
        self._sent: list[Any] = []

    def _run(self, work: Any) -> Any:
        try:
            return self._loop.run(work)
        except (aio_errors.ProducerFenced, aio_errors.InvalidProducerEpoch) as error:
            raise Fenced(str(error)) from error

    def begin(self) -> None:
        self._run(self._producer.begin_transaction())

    def send(self, topic: str, partition: int, value: bytes) -> None:
        self._sent.append(self._run(self._producer.send(topic, value, partition=partition)))

    def flush(self) -> None:
        async def wait() -> None:
            sent, self._sent = self._sent, []
            for future in sent:
                await future

        self._run(wait())

    def offsets(self, offsets: Offsets, group: str) -> None:
        rows = {TopicPartition(*at): offset for at, offset in offsets.items()}
        self._run(self._producer.send_offsets_to_transaction(rows, group))

    def commit(self) -> None:
        self._run(self._producer.commit_transaction())

    def abort(self) -> None:
        self._run(self._producer.abort_transaction())


_FENCED = (python_errors.ProducerFencedError, python_errors.InvalidProducerEpochError)


class _KafkaPython(Transactional):
    def __init__(self, bootstrap: str, name: str, timeout_ms: int) -> None:
        self.producer = kafka.KafkaProducer(
            bootstrap_servers=bootstrap,
            transactional_id=name,
            transaction_timeout_ms=timeout_ms,
            max_block_ms=int(WAIT_S * 1000),
        )
        self._sent: list[Any] = []
        self._call(self.producer.init_transactions)

    def _call(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except python_errors.KafkaError as error:
            # Once it knows, it says that nothing can be sent any more, and why in the second argument. From the first
            # record that is refused until then it only says that it is in no transaction.
            refused = [future.exception for future in self._sent if future.failed()]
            if any(isinstance(each, _FENCED) for each in (error, *error.args, *refused)):
                raise Fenced(str(error)) from error
            raise

    def begin(self) -> None:
        self._call(self.producer.begin_transaction)

    def send(self, topic: str, partition: int, value: bytes) -> None:
        self._sent.append(self._call(lambda: self.producer.send(topic, value, partition=partition)))

    def flush(self) -> None:
        sent, self._sent = self._sent, []
        for future in sent:
            self._call(lambda future=future: future.get(timeout=WAIT_S))

    def offsets(self, offsets: Offsets, group: str) -> None:
        rows = {kafka.TopicPartition(*at): OffsetAndMetadata(offset, "", -1) for at, offset in offsets.items()}
        self._call(lambda: self.producer.send_offsets_to_transaction(rows, group))

    def commit(self) -> None:
        self._call(self.producer.commit_transaction)

    def abort(self) -> None:
        self._call(self.producer.abort_transaction)


@contextmanager
def _confluent(bootstrap: str, name: str, timeout_ms: int) -> Iterator[Transactional]:
    yield _Confluent(bootstrap, name, timeout_ms)


@contextmanager
def _aio(bootstrap: str, name: str, timeout_ms: int) -> Iterator[Transactional]:
    async def start() -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, transactional_id=name, transaction_timeout_ms=timeout_ms
        )
        await producer.start()
        return producer

    with BackgroundLoop("aiokafka") as loop:
        producer = loop.run(start())
        try:
            yield _Aio(loop, producer)
        finally:
            loop.run(producer.stop())


@contextmanager
def _kafka_python(bootstrap: str, name: str, timeout_ms: int) -> Iterator[Transactional]:
    made = _KafkaPython(bootstrap, name, timeout_ms)
    try:
        yield made
    finally:
        made.producer.close(timeout=1)


_PRODUCERS = {"confluent-kafka": _confluent, "aiokafka": _aio, "kafka-python": _kafka_python}


def transactional(library: str, bootstrap: str, name: str, *, timeout_ms: int = 60_000) -> Any:
    """A context manager for a producer of that library."""
    return _PRODUCERS[library](bootstrap, name, timeout_ms)


# Readers


def _confluent_values(bootstrap: str, topic: str, partition: int, isolation: str) -> Iterator[bytes]:
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "isolation.level": isolation,
        }
    )
    try:
        consumer.assign([confluent_kafka.TopicPartition(topic, partition, 0)])
        while True:
            message = consumer.poll(0.5)
            yield b"" if message is None or message.error() else message.value()
    finally:
        consumer.close()


def _aio_values(bootstrap: str, topic: str, partition: int, isolation: str) -> Iterator[bytes]:
    async def start() -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level=isolation
        )
        await consumer.start()
        consumer.assign([TopicPartition(topic, partition)])
        return consumer

    with BackgroundLoop("aiokafka") as loop:
        consumer = loop.run(start())
        try:
            while True:
                polled = loop.run(consumer.getmany(timeout_ms=500))
                for records in polled.values() or [[]]:
                    yield from (record.value for record in records)
                if not polled:
                    yield b""
        finally:
            loop.run(stop(consumer))


def _kafka_python_values(bootstrap: str, topic: str, partition: int, isolation: str) -> Iterator[bytes]:
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level=isolation,
    )
    try:
        consumer.assign([kafka.TopicPartition(topic, partition)])
        while True:
            polled = consumer.poll(timeout_ms=500)
            for records in polled.values():
                yield from (record.value for record in records)
            if not polled:
                yield b""
    finally:
        consumer.close()


_READERS = {
    "confluent-kafka": _confluent_values,
    "aiokafka": _aio_values,
    "kafka-python": _kafka_python_values,
}


def read_until(
    library: str,
    bootstrap: str,
    topic: str,
    partition: int,
    last: bytes,
    *,
    isolation: str = "read_committed",
    within: float = 60.0,
) -> list[bytes]:
    """What a consumer of that library sees before `last` comes; AssertionError when it does not."""
    deadline = time.monotonic() + within
    seen: list[bytes] = []
    values = _READERS[library](bootstrap, topic, partition, isolation)
    try:
        for value in values:
            if value == last:
                return seen
            if value:
                seen.append(value)
            assert time.monotonic() < deadline, f"{last!r} does not come after {seen}"
    finally:
        values.close()  # type: ignore[attr-defined]
    raise AssertionError("a reader has ended")
