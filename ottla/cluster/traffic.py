"""Steady traffic against a cluster, with every acknowledgement and every read written down in a Ledger."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from types import TracebackType
from typing import Self

from ottla.client import Consumer, KafkaError, Producer, RecordMetadata
from ottla.cluster.ledger import Ledger

MAX_OUTSTANDING = 200


class Traffic:
    """A producer (acks=all, idempotent) and a consumer on all partitions of one topic.

    Values are ``b"<sequence>"`` padded to ``value_size`` bytes, growing by one per partition. ``interval`` is the pause
    in seconds between two records of one partition. Use as an async context manager: leaving it stops both.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        partitions: int,
        *,
        interval: float = 0.01,
        value_size: int = 100,
        rng: random.Random | None = None,
    ) -> None:
        self.ledger = Ledger(partitions)
        self.failed: list[KafkaError] = []
        self._topic = topic
        self._interval = interval
        self._value_size = value_size
        self._bootstrap = bootstrap
        self._rng = rng
        self._producer = Producer(bootstrap_servers=bootstrap, linger_ms=0, retry_backoff_ms=50, rng=rng)
        self._consumer: Consumer | None = None
        self._outstanding = asyncio.Semaphore(MAX_OUTSTANDING)
        self._pending: set[asyncio.Future[RecordMetadata]] = set()
        self._writers: list[asyncio.Task[None]] = []
        self._reader: asyncio.Task[None] | None = None
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self._producer.start()
        self._writers = [
            asyncio.create_task(self._write(index), name=f"writer of {self._topic}-{index}")
            for index in range(len(self.ledger.partitions))
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._writers, *([self._reader] if self._reader else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._producer.stop()
        if self._consumer is not None:
            await self._consumer.stop()

    async def start_reading(self) -> None:
        """Read along from the beginning of every partition."""
        self._consumer = Consumer(
            self._topic,
            bootstrap_servers=self._bootstrap,
            auto_offset_reset="earliest",
            retry_backoff_ms=50,
            rng=self._rng,
        )
        await self._consumer.start()
        self._reader = asyncio.create_task(self._read(self._consumer), name=f"reader of {self._topic}")

    async def stop_writing(self, *, within: float = 30.0) -> None:
        """No more records; wait until every one that was sent has its answer. Raises TimeoutError."""
        for task in self._writers:
            task.cancel()
        await asyncio.gather(*self._writers, return_exceptions=True)
        if self._pending:
            async with asyncio.timeout(within):
                await asyncio.gather(*self._pending, return_exceptions=True)

    async def acknowledged_again(self, partition: int, since: float, *, within: float = 30.0) -> float:
        """Wait for an acknowledgement on the partition later than ``since`` (loop time); returns its time."""
        times = self.ledger.partitions[partition].acknowledged_at
        await self._until(lambda: bool(times) and times[-1] > since, within)
        return next(at for at in times if at > since)

    async def acknowledged_count(self, count: int, *, within: float = 30.0) -> None:
        """Wait until every partition has at least ``count`` acknowledged records."""
        await self._until(lambda: all(len(part.acknowledged) >= count for part in self.ledger.partitions), within)

    async def read_everything(self, *, within: float = 30.0) -> None:
        """Wait until the reader has seen the highest acknowledged offset of every partition. Raises TimeoutError."""
        await self._until(self._all_read, within)

    def _all_read(self) -> bool:
        for ledger in self.ledger.partitions:
            last = max(ledger.acknowledged.values(), default=-1)
            if last >= 0 and (not ledger.read or ledger.read[-1][0] < last):
                return False
        return True

    async def _write(self, partition: int) -> None:
        sequence = 0
        while True:
            await self._outstanding.acquire()
            sent_as = sequence
            sequence += 1
            value = str(sent_as).encode().ljust(self._value_size)
            future = await self._producer.send(self._topic, value, partition=partition)
            self._pending.add(future)
            future.add_done_callback(lambda done, number=sent_as: self._answered(partition, number, done))  # type: ignore[misc]
            await asyncio.sleep(self._interval)

    def _answered(self, partition: int, sequence: int, done: asyncio.Future[RecordMetadata]) -> None:
        self._pending.discard(done)
        self._outstanding.release()
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self.ledger.acknowledge(partition, sequence, done.result().offset, self._loop.time())
        elif isinstance(error, KafkaError):
            self.failed.append(error)
        else:
            raise error
        self._notify()

    async def _read(self, consumer: Consumer) -> None:
        while True:
            for partition, records in (await consumer.getmany(timeout_ms=1000)).items():
                for record in records:
                    self.ledger.saw(partition.partition, record.offset, int(record.value or b""))
            self._notify()

    async def _until(self, holds: Callable[[], bool], within: float) -> None:
        """Wait for something that only an acknowledgement or a read can bring about."""
        if holds():
            return
        reached: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((holds, reached))
        async with asyncio.timeout(within):
            await reached

    def _notify(self) -> None:
        still: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        for holds, reached in self._waiting:
            if reached.done():
                continue
            if holds():
                reached.set_result(None)
            else:
                still.append((holds, reached))
        self._waiting = still
