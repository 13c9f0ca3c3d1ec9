"""The producer that programs use."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from kio.schema.errors import ErrorCode

from ottla.client.errors import (
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    ProducerClosed,
    error_for,
)
from ottla.client.network import Network
from ottla.client.options import Clock, make_options, wall_clock_ms
from ottla.client.producer.batch import BATCH_OVERHEAD, Acked, Outcome, record_size
from ottla.client.producer.core import CoreOptions, ProducerCore
from ottla.client.producer.outcomes import error_of, reject, resolve
from ottla.client.producer.partitioner import Partitioner, StickyChooser, partition_by_key
from ottla.client.producer.sender import Sender
from ottla.client.producer.transactional import Transactions
from ottla.client.producer.transactions import Transactor
from ottla.client.structs import Header, RecordMetadata, TopicPartition
from ottla.records import Compression

Serializer = Callable[[Any], bytes | None]

CODECS = {codec.name.lower(): codec for codec in Compression}


class Producer(Transactions):
    """Sends records, in batches by partition, each exactly once and in order unless told otherwise.

    Use it as an async context manager, or call `start` and `stop`. The arguments are Kafka's keys in snake_case:

    Args:
        acks: "all" (or -1), 1 or 0. Other than "all" turns idempotence off, unless that is asked for too.
        enable_idempotence: no duplicates and no reordering through retries; needs acks="all".
        compression_type: None, "gzip", "snappy", "lz4" or "zstd".
        linger_ms: how long a batch waits for more records.
        max_batch_size: bytes of a batch; a larger record travels alone, up to `max_request_size`.
        buffer_memory: bytes of records not yet acknowledged; `send` waits while they are used up.
        max_block_ms: how long `send` waits for that, and for the topic's metadata; and transactions for coordinators.
        delivery_timeout_ms: how long a record is tried for after `send`.
        partitioner: from key and partitions to a partition, for records that have a key.
        transactional_id: records belong to transactions, which readers with isolation level read_committed see as a
            whole or not at all (KIP-98). Whoever starts under the same id later fences this producer.
        transaction_timeout_ms: a transaction that takes longer is aborted by its coordinator.
        transaction_version: the highest version of the protocol to use. The second one (KIP-890) is used as soon as the
            cluster has it, and keeps what is late of one transaction out of the next.
        rng, clock: sources of randomness and of default timestamps (ms since the epoch).
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str | Iterable[str] = "127.0.0.1:9092",
        client_id: str | None = None,
        acks: Literal["all"] | int = "all",
        enable_idempotence: bool | None = None,
        key_serializer: Serializer | None = None,
        value_serializer: Serializer | None = None,
        compression_type: str | None = None,
        max_batch_size: int = 16384,
        max_request_size: int = 1048576,
        buffer_memory: int = 33554432,
        linger_ms: float = 5,
        partitioner: Partitioner = partition_by_key,
        transactional_id: str | None = None,
        transaction_timeout_ms: float = 60000,
        transaction_version: Literal[1, 2] = 2,
        delivery_timeout_ms: float = 120000,
        request_timeout_ms: float = 30000,
        max_block_ms: float = 60000,
        retry_backoff_ms: float = 50,
        retry_backoff_max_ms: float = 1000,
        connect_timeout_ms: float = 1000,
        metadata_max_age_ms: float = 300000,
        ssl_context: ssl.SSLContext | None = None,
        rng: random.Random | None = None,
        clock: Clock = wall_clock_ms,
    ) -> None:
        self._acks = -1 if acks == "all" else int(acks)
        if self._acks not in (-1, 0, 1):
            raise ValueError(f'acks must be "all", -1, 0 or 1, not {acks!r}')
        idempotent = self._acks == -1 if enable_idempotence is None else enable_idempotence
        if idempotent and self._acks != -1:
            raise ValueError('enable_idempotence needs acks="all"')
        if transactional_id is not None and (not transactional_id or not idempotent):
            raise ValueError("a transactional_id must not be empty, and needs idempotence")
        codec = (compression_type or "none").lower()
        if codec not in CODECS:
            raise ValueError(f"compression_type {compression_type!r} is none of {', '.join(CODECS)}")
        self._options = make_options(
            bootstrap_servers,
            client_id=client_id or "ottla-producer",
            request_timeout_ms=request_timeout_ms,
            metadata_max_age_ms=metadata_max_age_ms,
            retry_backoff_ms=retry_backoff_ms,
            retry_backoff_max_ms=retry_backoff_max_ms,
            connect_timeout_ms=connect_timeout_ms,
            ssl_context=ssl_context,
            rng=rng,
        )
        self._core_options = CoreOptions(
            idempotent=idempotent,
            transactional=transactional_id is not None,
            linger=linger_ms / 1000,
            max_batch_size=max_batch_size,
            max_request_size=max_request_size,
            buffer_memory=buffer_memory,
            delivery_timeout=delivery_timeout_ms / 1000,
            backoff=self._options.backoff,
        )
        self._codec = CODECS[codec]
        self._key_serializer = key_serializer
        self._value_serializer = value_serializer
        self._partitioner = partitioner
        self._sticky = StickyChooser(self._options.rng, max_batch_size)
        self._max_block = max_block_ms / 1000
        self._clock = clock
        self._network = Network(self._options, allow_auto_create=True)
        self._core = ProducerCore(self._core_options, self._options.rng)
        self._sender: Sender | None = None
        self._transactor: Transactor | None = None
        if transactional_id is not None:
            self._transactor = Transactor(
                self._network,
                self._core,
                transactional_id,
                timeout_ms=int(transaction_timeout_ms),
                version=transaction_version,
                patience=self._max_block,
                wake=self._wake,
                on_outcomes=self._on_outcomes,
            )
        self._closing = False
        self._blocked: deque[asyncio.Future[None]] = deque()
        self._known: dict[str, tuple[int, Sequence[int], Sequence[int]]] = {}
        self._flushes: list[tuple[set[int], asyncio.Future[None]]] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A program that is being cancelled does not wait for records that nobody will hear of.
        await self.stop(flush=not isinstance(error, asyncio.CancelledError))

    async def start(self) -> None:
        """Connect and learn about the cluster; with a transactional id also settle what an earlier producer of that id
        has left behind, and fence it.

        Raises NoBrokersAvailable; with a transactional id KafkaTimeoutError, FatalTransactionError.
        """
        transactor = self._transactor
        try:
            await self._network.start()
            self._sender = Sender(
                self._network,
                self._core,
                acks=self._acks,
                compression=int(self._codec),
                on_outcomes=self._on_outcomes,
                transactions=None if transactor is None else transactor.core,
            )
            self._sender.start()
            if transactor is not None:
                await transactor.start()
        except BaseException:
            await self.stop(flush=False)
            raise

    async def stop(self, *, flush: bool = True) -> None:
        """Send what is buffered (each record until its delivery timeout) and close. An open transaction is aborted.

        Without `flush` what is buffered fails with KafkaTimeoutError, and a transaction is left to its timeout.
        """
        if self._closing:
            return
        try:
            if self._sender is not None and flush:
                await (self.flush() if self._transactor is None else self._leave_none_open())
        finally:
            self._closing = True
            if self._transactor is not None:
                await self._transactor.stop()
            if self._sender is not None:
                await self._sender.stop()
            self._on_outcomes(self._core.fail_all(None, "the producer was stopped"))
            await self._network.close()

    async def flush(self) -> None:
        """Wait until every record sent so far has its outcome, without lingering."""
        sender = self._running()
        waiting = {id(batch) for batch in self._core.unsettled()}
        if not waiting:
            return
        done = asyncio.get_running_loop().create_future()
        self._flushes.append((waiting, done))
        self._core.flushing = True
        sender.wake()
        await done

    async def partitions_for(self, topic: str) -> set[int]:
        """The numbers of the topic's partitions. Raises UnknownTopicOrPartitionError, KafkaTimeoutError."""
        self._running()
        await self._know(topic)
        return set(self._network.metadata.partitions_for(topic))

    async def send(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Sequence[Header] | None = None,
    ) -> asyncio.Future[RecordMetadata]:
        """Buffer one record. The future gives its place, or the reason why it was given up.

        Waits only for the topic's metadata and for room in the buffer. Raises ProducerClosed, KafkaTimeoutError,
        UnknownTopicOrPartitionError, MessageSizeTooLargeError, ValueError. With a transactional id also
        IllegalStateError outside of a transaction, AbortableTransactionError, FatalTransactionError.
        """
        sender = self._running()
        if key is not None or self._key_serializer is not None:
            key = self._serialize(self._key_serializer, key, "key")
        if type(value) is not bytes or self._value_serializer is not None:
            value = self._serialize(self._value_serializer, value, "value")
        record_headers = tuple(headers or ())
        size = record_size(key, value, record_headers)
        if size + BATCH_OVERHEAD > self._core_options.max_request_size:
            message = f"a record of {size} bytes, and max_request_size is {self._core_options.max_request_size}"
            raise MessageSizeTooLargeError(ErrorCode.message_too_large, message)
        choices = self._choices(topic)
        if not choices[0] or self._blocked or not self._core.fits(size):
            if not choices[0]:
                await self._know(topic)
            if self._blocked or not self._core.fits(size):
                await self._wait_for_room(size)
            # Meanwhile the producer may have been stopped, and the topic may have grown.
            sender, choices = self._running(), self._choices(topic)
        tp = TopicPartition(topic, self._partition(topic, key, partition, size, choices))
        if self._transactor is not None:
            self._transactor.join(tp)
        timestamp = self._clock() if timestamp_ms is None else timestamp_ms
        loop = asyncio.get_running_loop()
        future: asyncio.Future[RecordMetadata] = loop.create_future()
        if self._core.append(tp, timestamp, key, value, record_headers, future, loop.time(), size):
            sender.wake()
        return future

    async def send_and_wait(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Sequence[Header] | None = None,
    ) -> RecordMetadata:
        """`send`, and wait for the outcome."""
        return await (await self.send(topic, value, key, partition, timestamp_ms, headers))

    def _wake(self) -> None:
        if self._sender is not None:
            self._sender.wake()

    def _check_running(self) -> None:
        self._running()

    def _running(self) -> Sender:
        if self._sender is None or self._closing:
            raise ProducerClosed("the producer is not running")
        if self._sender.failure is not None:
            raise ProducerClosed(f"the producer failed: {self._sender.failure!r}") from self._sender.failure
        return self._sender

    async def _know(self, topic: str) -> None:
        await self._network.ensure_topic(topic, self._max_block)

    def _partition(
        self,
        topic: str,
        key: bytes | None,
        partition: int | None,
        size: int,
        choices: tuple[Sequence[int], Sequence[int]],
    ) -> int:
        known, available = choices
        if partition is not None:
            if partition not in known:
                raise error_for(
                    ErrorCode.unknown_topic_or_partition,
                    f"the topic has {len(known)} partitions",
                    partition=TopicPartition(topic, partition),
                )
            return partition
        if key is not None:
            return self._partitioner(key, known)
        return self._sticky.choose(topic, size, known, available)

    def _choices(self, topic: str) -> tuple[Sequence[int], Sequence[int]]:
        """The topic's partitions, and those of them that have a leader; worked out once per change of metadata."""
        metadata = self._network.metadata
        version, known, available = self._known.get(topic, (-1, (), ()))
        if version != metadata.version:
            known = sorted(metadata.partitions_for(topic))
            available = [p for p in known if metadata.leader(TopicPartition(topic, p)) is not None]
            self._known[topic] = (metadata.version, known, available)
        return known, available

    @staticmethod
    def _serialize(serializer: Serializer | None, value: Any, what: str) -> bytes | None:
        result = value if serializer is None else serializer(value)
        if result is None or isinstance(result, bytes):
            return result
        if isinstance(result, bytearray | memoryview):
            return bytes(result)
        raise TypeError(f"{what} is {type(result).__name__}, not bytes; pass a {what}_serializer")

    async def _wait_for_room(self, size: int) -> None:
        """First come, first served: a large record is not starved by small ones."""
        loop = asyncio.get_running_loop()
        ticket = loop.create_future()
        self._blocked.append(ticket)
        try:
            async with asyncio.timeout(self._max_block):
                while self._blocked[0] is not ticket or not self._core.fits(size):
                    await ticket
                    self._blocked[0] = ticket = loop.create_future()
        except TimeoutError:
            raise KafkaTimeoutError(f"the buffer stayed full for {self._max_block:g} s") from None
        finally:
            self._blocked.remove(ticket)
            self._admit()

    def _admit(self) -> None:
        if self._blocked and not self._blocked[0].done():
            self._blocked[0].set_result(None)

    def _on_outcomes(self, outcomes: list[Outcome]) -> None:
        transactor = self._transactor
        for outcome in outcomes:
            if isinstance(outcome, Acked):
                resolve(outcome)
            else:
                epoch = self._network.metadata.leader_epoch(outcome.batch.tp)
                reject(outcome, epoch, transactional=transactor is not None)
                if transactor is not None and outcome.cause is None:
                    transactor.failed(error_of(outcome, epoch))
            if self._flushes:
                self._flushed(id(outcome.batch))
        if outcomes:
            self._admit()
            if transactor is not None:
                transactor.look()

    def _flushed(self, batch: int) -> None:
        for waiting, done in self._flushes:
            waiting.discard(batch)
            if not waiting and not done.done():
                done.set_result(None)
        self._flushes = [flush for flush in self._flushes if flush[0]]
        self._core.flushing = bool(self._flushes)
