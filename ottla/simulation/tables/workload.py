"""Clients of a compacted topic: writers of the same few keys again and again, and readers that come late.

A reader begins with nothing and reads everything. Whatever was cleaned before it came or while it reads, it must meet,
for every key, the record that was the last to be acknowledged when it began, or a later one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from ottla.client import Consumer, TopicPartition
from ottla.simulation.bursts import BurstWorkload
from ottla.simulation.cluster import SimulatedCluster

TOPIC: Final = "prices"
PARTITIONS: Final = tuple(TopicPartition(TOPIC, index) for index in range(2))
_KEYS: Final = 24
_TOMBSTONES: Final = 0.2


class TableWorkload(BurstWorkload):
    """See `BurstWorkload`."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        super().__init__(cluster, "tables", PARTITIONS)
        self._last: dict[tuple[TopicPartition, bytes | None], int] = {}
        self._written = 0

    def configs(self) -> Mapping[str, str]:
        return {"cleanup_policy": "compact", "segment_bytes": self.rng.choice(("500", "5000"))}

    def next_record(self, rng: random.Random) -> tuple[TopicPartition, bytes | None, bytes | None]:
        self._written += 1
        number = int(_KEYS * rng.random() ** 2)  # some are written all the time, some hardly ever
        value = None if rng.random() < _TOMBSTONES else b"%d" % self._written + b" " * rng.choice((0, 50, 200))
        return PARTITIONS[number % len(PARTITIONS)], b"k%d" % number, value

    def acknowledged(self, where: TopicPartition, key: bytes | None, value: bytes | None, offset: int) -> None:
        self._last[where, key] = max(self._last.get((where, key), -1), offset)

    async def read(self, consumer: Consumer) -> None:
        """What makes a record superfluous is committed before that is cleaned: whoever missed the one meets the other
        before the end, or its successor."""
        known = dict(self._last)
        for where in PARTITIONS:
            consumer.seek(where, 0)
        met: dict[tuple[TopicPartition, bytes | None], int] = {}
        while await self.left(consumer):
            for where, records in (await consumer.getmany(timeout_ms=500)).items():
                met.update(((where, record.key), record.offset) for record in records)
                self.cluster.invariants.acknowledged(where.topic, where.partition, records[-1].offset, "read")
        self.findings += [
            f"{where.topic}-{where.partition}: offset {offset} of key {key!r} was acknowledged, "
            f"a reader of everything met {met.get((where, key))}"
            for (where, key), offset in known.items()
            if met.get((where, key), -1) < offset
        ]
