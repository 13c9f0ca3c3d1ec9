"""Clients of a compacted topic: writers of the same few keys again and again, and readers that come late.

A writer sends a few records at once. A reader begins with nothing and reads everything. Whatever was cleaned before it
came or while it reads, it must meet, for every key, the record that was the last to be acknowledged when it began, or a
later one.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from types import TracebackType
from typing import Final, Self

import structlog

from ottla.client import Consumer, KafkaError, Producer, TopicPartition
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.reading import consumer_options
from ottla.simulation.user import producer_options

log = structlog.get_logger(__name__)

TOPIC, PARTITIONS = "prices", 2
LEADING: Final = tuple((TOPIC, index) for index in range(PARTITIONS))
"""Partitions whose leaders are worth a fault."""
_KEYS: Final = 24
_WRITERS, _READERS = 2, 1
_BURSTS: Final = (1, 1, 1, 3, 20)
_PAUSE_S = (0.0, 0.6)
_NEXT_S = (0.5, 6.0)
_RETRY_S = 0.2
# A reader that is still not at the end begins anew.
_PATIENCE_S = 20.0
_TOMBSTONES = 0.2

Key = tuple[TopicPartition, bytes]


class TableWorkload:
    """Runs from `async with` on, until `finish`."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.counts: Counter[str] = Counter()
        self.findings: list[str] = []
        self._cluster = cluster
        self._rng = cluster.world.rng("tables")
        self._last: dict[Key, int] = {}
        self._written = 0
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        rng = self._rng
        await self._cluster.create_topic(
            TOPIC, PARTITIONS, cleanup_policy="compact", segment_bytes=rng.choice(("500", "5000"))
        )
        for number in range(_WRITERS):
            self._tasks.append(asyncio.create_task(self._write(), name=f"table writer {number}"))
        for number in range(_READERS):
            self._tasks.append(asyncio.create_task(self._read(), name=f"table reader {number}"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def finish(self, *, within: float) -> None:
        """No more operations; a last reader reads everything. Raises TimeoutError, or what broke a client."""
        self._stopping.set()
        async with asyncio.timeout(within):
            await asyncio.gather(*self._tasks)
            while not await self._read_all(patient=True):
                pass

    # -- writers

    async def _write(self) -> None:
        """One producer after the other."""
        rng = random.Random(self._rng.getrandbits(64))
        while not self._stopping.is_set():
            producer = self._cluster.producer(**producer_options(rng))
            try:
                await producer.start()
                while not self._stopping.is_set():
                    await self._burst(producer, rng)
                    await asyncio.sleep(rng.uniform(*_PAUSE_S))
            except KafkaError as error:
                # Whether it was written nobody knows; others have to live with either.
                self.counts["unknown"] += 1
                log.info("table_writer_ended", error=str(error))
                await asyncio.sleep(_RETRY_S)
            finally:
                await producer.stop(flush=False)

    async def _burst(self, producer: Producer, rng: random.Random) -> None:
        """Some records, all before any answer. Raises the last error, after all answers have come."""
        sent = []
        for _ in range(rng.choice(_BURSTS)):
            where, key, value = self._next(rng)
            sent.append((where, key, await producer.send(where.topic, value, key=key, partition=where.partition)))
        failure = None
        for where, key, answer in sent:
            try:
                self._note(where, key, (await answer).offset)
            except KafkaError as error:
                failure = error
        if failure is not None:
            raise failure

    def _next(self, rng: random.Random) -> tuple[TopicPartition, bytes, bytes | None]:
        self._written += 1
        number = int(_KEYS * rng.random() ** 2)  # some are written all the time, some hardly ever
        value = None if rng.random() < _TOMBSTONES else b"%d" % self._written + b" " * rng.choice((0, 50, 200))
        return TopicPartition(TOPIC, number % PARTITIONS), b"k%d" % number, value

    def _note(self, where: TopicPartition, key: bytes, offset: int) -> None:
        self.counts["written"] += 1
        if offset >= 0:
            self._cluster.invariants.acknowledged(where.topic, where.partition, offset)
            self._last[where, key] = max(self._last.get((where, key), -1), offset)

    # -- readers

    async def _read(self) -> None:
        while not self._stopping.is_set():
            await asyncio.sleep(self._rng.uniform(*_NEXT_S))
            await self._read_all()

    async def _read_all(self, *, patient: bool = False) -> bool:
        """One consumer from the beginning to the end. False if it did not get there."""
        known = dict(self._last)
        options = {} if patient else consumer_options(self._rng, self._cluster.racks)
        try:
            async with (
                asyncio.timeout(_PATIENCE_S),
                self._cluster.consumer(auto_offset_reset="none", **options) as consumer,
            ):
                met = await self._everything(consumer)
        except (KafkaError, TimeoutError) as error:
            self.counts["given up"] += 1
            log.info("table_reader_ended", error=str(error))
            await asyncio.sleep(_RETRY_S)
            return False
        self.counts["read"] += 1
        self.findings += [
            f"{where.topic}-{where.partition}: offset {offset} of key {key!r} was acknowledged, "
            f"a reader of everything met {met.get((where, key))}"
            for (where, key), offset in known.items()
            if met.get((where, key), -1) < offset
        ]
        return True

    async def _everything(self, consumer: Consumer) -> dict[Key, int]:
        """The last offset of every key, read until nothing is left to read. What makes a record superfluous is
        committed before that is cleaned: whoever missed the one meets the other before the end, or its successor."""
        partitions = [TopicPartition(TOPIC, index) for index in range(PARTITIONS)]
        consumer.assign(partitions)
        for where in partitions:
            consumer.seek(where, 0)
        met: dict[Key, int] = {}
        while [where for where in partitions if await consumer.position(where) < self._end(where)]:
            for where, records in (await consumer.getmany(timeout_ms=500)).items():
                met.update(((where, record.key or b""), record.offset) for record in records)
                self._cluster.invariants.acknowledged(where.topic, where.partition, records[-1].offset, "read")
        return met

    def _end(self, where: TopicPartition) -> int:
        """What is committed by now; a broker that is asked may have been replaced, and tell of the past."""
        return self._cluster.invariants.committed(where.topic, where.partition)
