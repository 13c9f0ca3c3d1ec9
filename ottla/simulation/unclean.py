"""Clients of a topic whose leader may be somebody who lacks records (unclean.leader.election.enable).

What was acknowledged may be lost there, and nothing else: at the end all replicas are the same, everything that is left
can be read, and a reader that went on all the time has met it, though what it had read was taken back below it
(KIP-320).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from types import TracebackType
from typing import Final

import structlog

from ottla.client import Consumer, KafkaError, TopicPartition
from ottla.simulation.bursts import BurstWorkload
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.reading import consumer_options
from ottla.tasks import stop_tasks

log = structlog.get_logger(__name__)

TOPIC: Final = "lossy"
PARTITIONS: Final = tuple(TopicPartition(TOPIC, index) for index in range(2))
SETTINGS: Final[Mapping[str, str]] = {"replica.lag.time.max.ms": "1000"}
"""Of nodes: an ISR is soon small, so that who dies is the last of it."""

_RETRY_S: Final = 0.2


class UncleanWorkload(BurstWorkload):
    """See `BurstWorkload`."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        super().__init__(cluster, "unclean", PARTITIONS)
        self._written = 0
        self._acknowledged: set[bytes] = set()
        self._met: set[bytes] = set()
        self._left: set[bytes] = set()
        self._follower = asyncio.create_task(self._follow(random.Random(self.rng.getrandbits(64))), name="follower")

    def configs(self) -> Mapping[str, str]:
        return {
            "unclean_leader_election_enable": "true",
            "min_insync_replicas": "1",
            "segment_bytes": self.rng.choice(("1000", "100000")),
        }

    def next_record(self, rng: random.Random) -> tuple[TopicPartition, bytes | None, bytes | None]:
        self._written += 1
        return rng.choice(PARTITIONS), None, b"%d" % self._written + b" " * rng.choice((0, 50))

    def acknowledged(self, where: TopicPartition, key: bytes | None, value: bytes | None, offset: int) -> None:
        self._acknowledged.add(value or b"")

    async def read(self, consumer: Consumer) -> None:
        """Whatever is there. Below it may go what it has read, and then it is told."""
        self._left.clear()
        for where in PARTITIONS:
            consumer.seek(where, 0)
        ends = await consumer.end_offsets(PARTITIONS)
        while any([await consumer.position(where) < end for where, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                self._left.update(record.value or b"" for record in records)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_tasks([self._follower])
        await super().__aexit__(kind, error, trace)

    async def finish(self, *, within: float) -> None:
        """As `BurstWorkload` says; and the follower gets to the end, too."""
        self.stopping.set()
        await self.cluster.until(lambda: self.cluster.full(TOPIC), f"{TOPIC} is in sync", within=within)
        await super().finish(within=within)
        self.counts["lost"] = len(self._acknowledged - self._left)
        try:
            await self.cluster.until(lambda: self._left <= self._met, "followed", within=within)
        except TimeoutError:
            missed = sorted(self._left - self._met)
            self.findings.append(f"{TOPIC}: a reader that went on never met {len(missed)} records: {missed[:5]}")

    async def _follow(self, rng: random.Random) -> None:
        """One consumer for all the time, unless it fails."""
        while True:
            options = consumer_options(rng, self.cluster.racks)
            try:
                async with self.cluster.consumer(auto_offset_reset="earliest", **options) as consumer:
                    consumer.assign(list(PARTITIONS))
                    while True:
                        for records in (await consumer.getmany(timeout_ms=500)).values():
                            self._met.update(record.value or b"" for record in records)
            except KafkaError as error:
                self.counts["followers"] += 1
                log.info("follower_begins_anew", topic=TOPIC, error=str(error))
                await asyncio.sleep(_RETRY_S)
