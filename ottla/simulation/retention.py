"""Clients of a topic that loses its beginning all the time: to retention, and to operators who delete records.

A reader begins with what is there and reads on to the end. It must meet every offset in turn, and at each the record
that was acknowledged there; only where it was overtaken, and was told so, it may go on with what is left.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from ottla.client import Consumer, ConsumerRecord, KafkaError, OffsetOutOfRangeError, OffsetSpec, TopicPartition
from ottla.simulation.bursts import BurstWorkload
from ottla.simulation.cluster import SimulatedCluster

log = structlog.get_logger(__name__)

TOPIC: Final = "recent"
PARTITIONS: Final = tuple(TopicPartition(TOPIC, index) for index in range(2))
_DELETES_S: Final = (2.0, 15.0)


class RetentionWorkload(BurstWorkload):
    """See `BurstWorkload`."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        super().__init__(cluster, "retention", PARTITIONS)
        self._values: dict[tuple[TopicPartition, int], bytes | None] = {}
        self._written = 0
        self._expected: dict[TopicPartition, int] = {}
        self.begin(self._delete(random.Random(self.rng.getrandbits(64))), "deleter of records")

    def configs(self) -> Mapping[str, str]:
        return {
            "segment_bytes": self.rng.choice(("500", "5000")),
            "retention_bytes": self.rng.choice(("1000", "10000")),
            "retention_ms": self.rng.choice(("-1", "3000")),
        }

    def next_record(self, rng: random.Random) -> tuple[TopicPartition, bytes | None, bytes | None]:
        self._written += 1
        return rng.choice(PARTITIONS), None, b"%d" % self._written + b" " * rng.choice((0, 50, 200))

    def acknowledged(self, where: TopicPartition, key: bytes | None, value: bytes | None, offset: int) -> None:
        self._values[where, offset] = value

    async def read(self, consumer: Consumer) -> None:
        await self._begin(consumer)
        while await self.left(consumer):
            try:
                got = await consumer.getmany(timeout_ms=500)
            except OffsetOutOfRangeError:
                self.counts["overtaken"] += 1
                await self._begin(consumer)
                continue
            for where, records in got.items():
                self._judge(where, records)
                self.cluster.invariants.acknowledged(where.topic, where.partition, records[-1].offset, "read")

    async def _begin(self, consumer: Consumer) -> None:
        """With the first records that there are."""
        async with self.cluster.admin() as admin:
            found = await admin.list_offsets(dict.fromkeys(PARTITIONS, OffsetSpec.EARLIEST))
        for where, start in found.items():
            consumer.seek(where, start.offset)
            self._expected[where] = start.offset

    def _judge(self, where: TopicPartition, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            said = f"{where.topic}-{where.partition}: a reader"
            if record.offset != self._expected[where]:
                self.findings.append(f"{said} met offset {record.offset} in the place of {self._expected[where]}")
            known = self._values.get((where, record.offset), record.value)
            if record.value != known:
                self.findings.append(f"{said} met {record.value!r} at {record.offset}, acknowledged was {known!r}")
            self._expected[where] = record.offset + 1

    async def _delete(self, rng: random.Random) -> None:
        """An operator: some of what is committed, or all of it."""
        while not self.stopping.is_set():
            await asyncio.sleep(rng.uniform(*_DELETES_S))
            where = rng.choice(PARTITIONS)
            try:
                async with self.cluster.admin() as admin:
                    wanted = rng.choice((-1, rng.randint(0, self.end(where))))
                    await admin.delete_records({where: wanted}, timeout_ms=3000)
                self.counts["deleted"] += 1
            except KafkaError as error:
                log.info("records_not_deleted", error=str(error))
