"""Groups that read a topic which gets more partitions under them, while a producer that finds them by itself writes.

Nobody is told of a new partition: programs and the producer see it when they refresh their metadata, each at a time of
its own, and from a broker that may know less than the one before. All groups begin a partition at its beginning,
so however late it is seen, every record of it must be processed.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import structlog

from ottla.client import KafkaError, Producer
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.groups.workload import GroupWorkload
from ottla.simulation.user import producer_options
from ottla.tasks import stop_tasks

log = structlog.get_logger(__name__)

TOPIC: Final = "growing"
GROUPS: Final[Mapping[str, Sequence[str]]] = {
    "classics": ("our classic", "our classic"),
    "consumers": ("our consumer", "our consumer"),
    "cooperative": ("our cooperative", "our cooperative"),
}
MOST_PARTITIONS: Final = 8
_METADATA_AGE_MS: Final = (200, 1000, 3000)
_GROWS_EVERY_S: Final = (2.0, 30.0)
_PAUSE_S: Final = (0.0, 0.6)
_RETRY_S: Final = 0.2
_REQUEST_MS: Final = 3000


class GrowingWorkload(GroupWorkload):
    """Makes the topic, and has it grow and written to, until `rest`; the groups go on until `finish`."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        super().__init__(cluster, TOPIC, 1, GROUPS)
        self.static = self._rng.choice((0.3, 1.0))
        self._resting = asyncio.Event()
        self._done: Counter[str] = Counter()
        self._work: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self.cluster.create_topic(TOPIC, self.partitions)
        for work, name in ((self._grow, "grower"), (self._write, "writer")):
            rng = random.Random(self._rng.getrandbits(64))
            self._work.append(asyncio.create_task(work(rng), name=f"{name} of {TOPIC}"))
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_tasks(self._work)
        await super().__aexit__(kind, error, trace)

    @property
    def counts(self) -> dict[str, int]:
        """What was done, for a report."""
        return {**super().counts, **self._done}

    def metadata_age_ms(self, rng: random.Random) -> float:
        """How old the metadata of a program may be."""
        return rng.choice(_METADATA_AGE_MS)

    async def rest(self, *, within: float) -> None:
        """No more records, and one more partition, below members that stay. Raises TimeoutError, or what broke a
        client."""
        self.calm = True
        self._resting.set()
        async with asyncio.timeout(within):
            await asyncio.gather(*self._work)
            before = self._count()
            while self._count() == before:
                await self._grow_to(before + 1)
        self.partitions = self._count()

    def _count(self) -> int:
        """How many partitions are committed, also by a request whose answer was lost."""
        return len(self.cluster.invariants.metadata.latest.topics[TOPIC].partitions)

    async def _grow(self, rng: random.Random) -> None:
        every_s = rng.choice(_GROWS_EVERY_S)
        while self._count() < MOST_PARTITIONS:
            try:
                async with asyncio.timeout(rng.uniform(0, 2 * every_s)):
                    await self._resting.wait()
                return
            except TimeoutError:
                pass
            wanted = min(self._count() + rng.choice((1, 1, 3)), MOST_PARTITIONS)
            await self._grow_to(wanted)

    async def _grow_to(self, wanted: int) -> None:
        try:
            async with self.cluster.admin() as admin:
                await admin.create_partitions({TOPIC: wanted}, timeout_ms=_REQUEST_MS)
            self._done["grown"] += 1
        except KafkaError as error:
            log.info("topic_not_grown", topic=TOPIC, error=str(error))
            await asyncio.sleep(_RETRY_S)

    async def _write(self, rng: random.Random) -> None:
        """One producer after the other; each record to any partition that it knows."""
        while not self._resting.is_set():
            age_ms = rng.choice(_METADATA_AGE_MS)
            producer = self.cluster.producer(**producer_options(rng), metadata_max_age_ms=age_ms)
            try:
                await producer.start()
                while not self._resting.is_set():
                    await self._send(producer, rng)
                    await asyncio.sleep(rng.uniform(*_PAUSE_S))
            except KafkaError as error:
                log.info("writer_to_growing_ended", error=str(error))
                await asyncio.sleep(_RETRY_S)
            finally:
                await producer.stop(flush=False)

    async def _send(self, producer: Producer, rng: random.Random) -> None:
        """A few records. Raises the first error, after all answers have come."""
        answers = [await producer.send(TOPIC, b"", key=rng.randbytes(4)) for _ in range(rng.choice((1, 1, 5)))]
        told = await asyncio.gather(*answers, return_exceptions=True)
        for each in told:
            if isinstance(each, BaseException):
                raise each
            self._done["written"] += 1
            if each.offset >= 0:
                self.cluster.invariants.acknowledged(TOPIC, each.partition, each.offset)
