"""Clients that work beside the usual ones on a topic of their own: writers of a few records at once, and readers."""

from __future__ import annotations

import abc
import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import structlog

from ottla.client import Consumer, KafkaError, Producer, TopicPartition
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.reading import consumer_options, is_behind
from ottla.simulation.user import producer_options
from ottla.tasks import stop_tasks

log = structlog.get_logger(__name__)

_WRITERS: Final = 2
_BURSTS: Final = (1, 1, 1, 3, 20)
_PAUSE_S: Final = (0.0, 0.6)
_NEXT_S: Final = (0.5, 6.0)
_RETRY_S: Final = 0.2
# A reader that is still not at the end begins anew.
_PATIENCE_S: Final = 20.0


class BurstWorkload(abc.ABC):
    """Runs from `async with` on, until `finish`. `counts` is what was done, `findings` what was wrong."""

    def __init__(self, cluster: SimulatedCluster, name: str, partitions: Sequence[TopicPartition]) -> None:
        self.counts: Counter[str] = Counter()
        self.findings: list[str] = []
        self.partitions = partitions
        self.cluster = cluster
        self.rng = cluster.world.rng(name)
        self.stopping = asyncio.Event()
        self._name = name
        self._tasks: list[asyncio.Task[None]] = []

    @abc.abstractmethod
    def configs(self) -> Mapping[str, str]:
        """Of the topic, drawn."""

    @abc.abstractmethod
    def next_record(self, rng: random.Random) -> tuple[TopicPartition, bytes | None, bytes | None]:
        """Where to, key and value."""

    @abc.abstractmethod
    def acknowledged(self, where: TopicPartition, key: bytes | None, value: bytes | None, offset: int) -> None:
        """A writer was told that its record stays."""

    @abc.abstractmethod
    async def read(self, consumer: Consumer) -> None:
        """Read from the beginning to `end`, and judge it. Raises KafkaError."""

    async def __aenter__(self) -> Self:
        await self.cluster.create_topic(self.partitions[0].topic, len(self.partitions), **self.configs())
        for number in range(_WRITERS):
            self.begin(self._write(random.Random(self.rng.getrandbits(64))), f"{self._name} writer {number}")
        self.begin(self._read_now_and_then(), f"{self._name} reader")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_tasks(self._tasks)

    def begin(self, work: Any, name: str) -> None:
        """What is to end by itself once there is `stopping`."""
        self._tasks.append(asyncio.create_task(work, name=name))

    async def finish(self, *, within: float) -> None:
        """No more operations; a last reader reads everything. Raises TimeoutError, or what broke a client."""
        self.stopping.set()
        async with asyncio.timeout(within):
            await asyncio.gather(*self._tasks)
            while not await self._reads(patient=True):
                pass

    def end(self, where: TopicPartition) -> int:
        """What is committed by now; a broker that is asked may have been replaced, and tell of the past."""
        return self.cluster.invariants.committed(where.topic, where.partition)

    async def left(self, consumer: Consumer) -> bool:
        """Whether there is more to read."""
        return await is_behind(self.cluster, consumer, self.partitions)

    # -- writers

    async def _write(self, rng: random.Random) -> None:
        """One producer after the other."""
        while not self.stopping.is_set():
            producer = self.cluster.producer(**producer_options(rng))
            try:
                await producer.start()
                while not self.stopping.is_set():
                    await self._burst(producer, rng)
                    await asyncio.sleep(rng.uniform(*_PAUSE_S))
            except KafkaError as error:
                # Whether it was written nobody knows; others have to live with either.
                self.counts["unknown"] += 1
                log.info("burst_writer_ended", error=str(error))
                await asyncio.sleep(_RETRY_S)
            finally:
                await producer.stop(flush=False)

    async def _burst(self, producer: Producer, rng: random.Random) -> None:
        """Some records, all before any answer. Raises the last error, after all answers have come."""
        sent = []
        for _ in range(rng.choice(_BURSTS)):
            where, key, value = self.next_record(rng)
            answer = await producer.send(where.topic, value, key=key, partition=where.partition)
            sent.append((where, key, value, answer))
        failure = None
        for where, key, value, answer in sent:
            try:
                offset = (await answer).offset
            except KafkaError as error:
                failure = error
                continue
            self.counts["written"] += 1
            if offset >= 0:
                self.cluster.invariants.acknowledged(where.topic, where.partition, offset)
                self.acknowledged(where, key, value, offset)
        if failure is not None:
            raise failure

    # -- readers

    async def _read_now_and_then(self) -> None:
        while not self.stopping.is_set():
            await asyncio.sleep(self.rng.uniform(*_NEXT_S))
            await self._reads()

    async def _reads(self, *, patient: bool = False) -> bool:
        """One consumer from the beginning to the end. False if it did not get there."""
        options = {} if patient else consumer_options(self.rng, self.cluster.racks)
        try:
            async with (
                asyncio.timeout(_PATIENCE_S),
                self.cluster.consumer(auto_offset_reset="none", **options) as consumer,
            ):
                consumer.assign(list(self.partitions))
                await self.read(consumer)
        except (KafkaError, TimeoutError) as error:
            self.counts["given up"] += 1
            log.info("burst_reader_ended", error=str(error))
            await asyncio.sleep(_RETRY_S)
            return False
        self.counts["read"] += 1
        return True
