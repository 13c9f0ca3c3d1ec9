"""What is asked and read when all is well again and nobody writes any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog

from ottla.client import Consumer, KafkaError, TopicPartition
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.reading import Reader, Shared
from ottla.simulation.transactions import copiers, writers
from ottla.simulation.transactions.copiers import GROUP, source_of
from ottla.simulation.transactions.told import At, Copy, Stable, Told

SOURCE, TARGET, PARTITIONS = "transfers", "copies", 2
SLACK_S = 10.0
"""Virtual seconds after the longest timeout of a transaction within which it has to be over once all is well."""
PATIENCE_S: Final = max(*writers.TIMEOUTS_S, *copiers.TIMEOUTS_S) + SLACK_S
RETRY_S: Final = 0.2

log = structlog.get_logger(__name__)


class Ending:
    """`told` is filled in; what is read is tried for so many seconds `within` which it has to succeed."""

    def __init__(
        self,
        cluster: SimulatedCluster,
        shared: Shared,
        told: Told,
        next_process: Callable[[], int],
        within: float,
    ) -> None:
        self.told = told
        self._cluster = cluster
        self._shared = shared
        self._next_process = next_process
        self._within = within

    async def stable(self, topic: str) -> None:
        """Until nothing of the topic belongs to a transaction that is open. Raises TimeoutError after the patience."""
        loop = asyncio.get_running_loop()
        partitions = _partitions(topic)
        left, self.told.healed = set(partitions), loop.time()
        async with self._reader() as committed, self._reader(isolation_level="read_uncommitted") as everything:
            while left:
                try:
                    stable = await committed.end_offsets(partitions)
                    ends = await everything.end_offsets(partitions)
                except KafkaError as error:
                    log.info("ends_not_known", error=str(error))
                else:
                    rows = [Stable(loop.time(), _at(where), stable[where], end) for where, end in ends.items()]
                    self.told.stable += rows
                    left -= {where for where, end in ends.items() if stable[where] >= end}
                if left and loop.time() > self.told.healed + PATIENCE_S:
                    raise TimeoutError(f"transactions are still open in {', '.join(map(str, sorted(left)))}")
                await asyncio.sleep(RETRY_S)

    async def read_inputs(self) -> None:
        """As a part of the history: everything, by one reader. Raises TimeoutError."""
        await self._try(self._read_inputs)

    async def _read_inputs(self, consumer: Consumer) -> None:
        reader = Reader(self._shared, self._cluster, self._next_process(), consumer, attentive=True)
        reader.assign(dict.fromkeys(self._shared.partitions, 0))
        while await _behind(consumer, self._shared.partitions):
            await reader.poll(1000)
        reader.tell_epochs()
        places = {key: _at(where) for where, key in self._shared.keys.items()}
        self.told.inputs = {
            (places[key], offset)
            for entry in self._shared.history
            if entry.process == reader.process and entry.f == "poll" and entry.type == "ok"
            for key, rows in entry.value[0][1].items()
            for offset, _ in rows
        }

    async def all_copied(self) -> None:
        """Until the group of copiers has committed every input. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        ends: dict[TopicPartition, int] = {}
        for at, offset in sorted(self.told.inputs):
            ends[TopicPartition(*at)] = max(offset + 1, ends.get(TopicPartition(*at), 0))
        behind: object = "nobody knows"
        while loop.time() < began + self._within:
            try:
                async with self._cluster.admin() as admin:
                    places = await admin.list_consumer_group_offsets(GROUP, list(ends), require_stable=True)
            except KafkaError as error:
                log.info("offsets_not_known", error=str(error))
            else:
                found = {where: place.offset for where, place in places.items()}
                behind = {
                    str(where): (found.get(where), end) for where, end in ends.items() if found.get(where, 0) < end
                }
                if not behind:
                    return
            await asyncio.sleep(RETRY_S)
        raise TimeoutError(f"not within {self._within:g} s: copied of ends {behind}")

    async def read_copies(self) -> None:
        """All that is committed. Raises TimeoutError."""
        await self._try(self._read_copies)

    async def _read_copies(self, consumer: Consumer) -> None:
        partitions = _partitions(TARGET)
        consumer.assign(partitions)
        copies = []
        for where in partitions:
            consumer.seek(where, 0)
        while await _behind(consumer, partitions):
            for where, records in (await consumer.getmany(timeout_ms=1000)).items():
                copies += [Copy((_at(where), each.offset), source_of(each.value or b"")) for each in records]
        self.told.copies = copies

    async def _try(self, work: Callable[[Consumer], Awaitable[None]]) -> None:
        """Let one new consumer after the other try it. Raises TimeoutError."""
        async with asyncio.timeout(self._within):
            while True:
                try:
                    async with self._reader() as consumer:
                        await work(consumer)
                        return
                except KafkaError as error:
                    log.info("client_not_started", error=str(error))
                await asyncio.sleep(RETRY_S)

    def _reader(self, **options: Any) -> Consumer:
        """One without whims that reads what is committed."""
        return self._cluster.consumer(**{"auto_offset_reset": "none", "isolation_level": "read_committed"} | options)


async def _behind(consumer: Consumer, partitions: Sequence[TopicPartition]) -> bool:
    ends = await consumer.end_offsets(partitions)
    return any([await consumer.position(where) < end for where, end in ends.items()])


def _at(where: TopicPartition) -> At:
    return where.topic, where.partition


def _partitions(topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, index) for index in range(PARTITIONS)]
