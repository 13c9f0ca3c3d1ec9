"""Programs that consume, transform and produce: what they read, what they make of it, and how far they are, is one
transaction, so that every input counts once, whatever happens to them and to the cluster."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from types import TracebackType
from typing import Final, Self

import structlog

from ottla.client import (
    AbortableTransactionError,
    ConsumerRecord,
    FatalTransactionError,
    KafkaError,
    KafkaTimeoutError,
    TopicPartition,
)
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.transactions.told import Place

GROUP: Final = "copiers"
TIMEOUTS_S: Final = (3.0, 6.0)
PATIENCE_S: Final = 3.0
_SESSION_S: Final = 3.0
_AT_ONCE: Final = 20
_POLL_MS: Final = 300.0
Got = dict[TopicPartition, list[ConsumerRecord]]

log = structlog.get_logger(__name__)


class Crash(Exception):
    """The program is killed at this point."""


class Copier:
    """One life of a program that copies a topic into another one, partition by partition."""

    def __init__(self, cluster: SimulatedCluster, source: str, target: str, name: str, rng: random.Random) -> None:
        """`name` is its transactional id."""
        self.outcomes: Counter[str] = Counter()
        self._source = source
        self._target = target
        self._rng = rng
        self._producer = cluster.producer(
            transactional_id=name,
            transaction_timeout_ms=rng.choice(TIMEOUTS_S) * 1000,
            transaction_version=rng.choice((1, 2, 2, 2)),
            delivery_timeout_ms=rng.choice((3000, 10000)),
            request_timeout_ms=1500,
            max_block_ms=PATIENCE_S * 1000,
            linger_ms=0,
        )
        self._consumer = cluster.consumer(
            source,
            group_id=GROUP,
            group_protocol=rng.choice(("classic", "consumer")),
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=_SESSION_S * 1000,
            heartbeat_interval_ms=500,
            max_poll_interval_ms=6000,
            request_timeout_ms=1500,
            fetch_max_wait_ms=300,
        )

    async def __aenter__(self) -> Self:
        try:
            await self._producer.start()
            await self._consumer.start()
        except KafkaError:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._producer.stop(flush=False)
        await self._consumer.stop()

    async def run(self, stopping: asyncio.Event, calm: asyncio.Event) -> None:
        """Until it is to stop, crashes (never when all is `calm`), is fenced, or does not know what became of a
        transaction. Raises KafkaError when its consumer fails."""
        while not stopping.is_set():
            got = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_AT_ONCE)
            if not got:
                continue
            try:
                await self._copy(got, calm=calm.is_set())
                self.outcomes["copied"] += 1
            except Crash:
                self.outcomes["crashed"] += 1
                return
            except AbortableTransactionError:
                self.outcomes["aborted"] += 1
                # What was read is not copied: it is to be read again, by whoever has the partitions now.
                await self._consumer.seek_to_committed()
            except (FatalTransactionError, KafkaTimeoutError) as error:
                self.outcomes["gave up"] += 1
                log.info("copier_gave_up", error=str(error))
                return

    async def _copy(self, got: Got, *, calm: bool) -> None:
        # As of now the partitions are its own. If they no longer are when the offsets come, those are refused.
        group = self._consumer.group_metadata()
        producer = self._producer
        try:
            await producer.begin_transaction()
            for where, records in got.items():
                for record in records:
                    await producer.send(self._target, _mark(record), partition=where.partition)
            self._whim(calm)
            places = {where: records[-1].offset + 1 for where, records in got.items()}
            await producer.send_offsets_to_transaction(places, group)
            self._whim(calm)
            if not calm and self._rng.random() < 0.02:
                await asyncio.sleep(self._rng.uniform(1.0, 8.0))
            await producer.commit_transaction()
        except AbortableTransactionError:
            await producer.abort_transaction()
            raise

    def _whim(self, calm: bool) -> None:
        if not calm and self._rng.random() < 0.02:
            raise Crash


def _mark(record: ConsumerRecord) -> bytes:
    """Which record it was made of."""
    return f"{record.topic}/{record.partition}/{record.offset}".encode()


def source_of(value: bytes) -> Place:
    """What `_mark` has put down."""
    topic, partition, offset = value.decode().rsplit("/", 2)
    return (topic, int(partition)), int(offset)
