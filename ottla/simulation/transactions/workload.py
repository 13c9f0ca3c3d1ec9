"""Clients that write, read and copy in transactions under faults, with everything that they were told.

Writers come one after the other under a few transactional ids, commit and abort, are killed in the middle, and
sometimes two of them live at a time. Copiers consume, transform and produce. Readers see only what is committed.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

import structlog

from ottla.client import Consumer, KafkaError, TopicPartition
from ottla.simulation.checker import Finding, check
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.history import History
from ottla.simulation.reading import Reader, Shared, consumer_options
from ottla.simulation.transactions.check import check_transactions
from ottla.simulation.transactions.copiers import Copier
from ottla.simulation.transactions.ending import PARTITIONS, PATIENCE_S, RETRY_S, SOURCE, TARGET, Ending
from ottla.simulation.transactions.told import Told
from ottla.simulation.transactions.writers import Writer

SETTINGS: Final[Mapping[str, str]] = {
    "offsets.topic.num.partitions": "2",
    "transaction.state.log.num.partitions": "2",
    "group.initial.rebalance.delay.ms": "100",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "3000",
    "group.consumer.session.timeout.ms": "3000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "500",
}
"""Of nodes: few partitions for coordinators, so that their leaders are hit, and little patience."""

TOPICS = (SOURCE, TARGET)
KINDS: Final = ("hold transaction",)
"""Faults that make sense only beside these clients."""
COORDINATING: Final = tuple(
    (topic, index) for topic in (SOURCE, "__transaction_state", "__consumer_offsets") for index in range(2)
)
"""Partitions whose leaders are worth a fault."""

_PAUSE_S = (0.0, 0.3)
_NEXT_S = (1.0, 6.0)
_POLLS = 0.4
_ASSIGNS = 0.03
_MOST_TWINS = 3
_COPIERS = 2
_LEAVER = "leaver"
_NAMES: Final = {"committed": "ok", "aborted": "fail", "unknown": "info"}

log = structlog.get_logger(__name__)


class TransactionWorkload:
    """Runs clients from `async with` on, until `finish`. The topics have to be there: `create_topics`."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        rng = cluster.world.rng("transactions")
        keys = {TopicPartition(SOURCE, index): f"{SOURCE}-{index}" for index in range(PARTITIONS)}
        self.told = Told()
        self._cluster = cluster
        self._rng = rng
        self._shared = Shared(rng, History(cluster.world.loop.time), keys, rng.choice((10, 100, 500)))
        self._processes = 0
        self._calm = asyncio.Event()
        self._written = asyncio.Event()
        self._stopping = asyncio.Event()
        self._writers: list[asyncio.Task[None]] = []
        self._copiers: list[asyncio.Task[None]] = []
        self._written_outcomes: Counter[str] = Counter()
        self._copied_outcomes: Counter[str] = Counter()

    @property
    def history(self) -> History:
        return self._shared.history

    @property
    def counts(self) -> dict[str, int]:
        """What was done, for a report."""
        written = {name: self._written_outcomes[kind] for name, kind in _NAMES.items()}
        copied = {f"copies {name}": count for name, count in sorted(self._copied_outcomes.items())}
        return written | copied

    @staticmethod
    async def create_topics(cluster: SimulatedCluster) -> None:
        for topic in TOPICS:
            await cluster.create_topic(topic, PARTITIONS)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in range(self._rng.choice((2, 3))):
            self._writers.append(loop.create_task(self._write(f"writer-{number}"), name=f"writer {number}"))
        self._writers.append(loop.create_task(self._read(), name="reader"))
        for number in range(_COPIERS):
            rng = random.Random(self._rng.getrandbits(64))
            self._copiers.append(loop.create_task(self._copy(f"copier-{number}", rng), name=f"copier {number}"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._writers, *self._copiers]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- what goes on

    async def _write(self, name: str) -> None:
        """One writer after the other under this transactional id; mostly the next one comes while the last one lives,
        and that one does not know."""
        loop = asyncio.get_running_loop()
        lives: set[asyncio.Task[None]] = set()
        try:
            while not self._written.is_set():
                lives.add(loop.create_task(self._live(name), name=name))
                alone = self._calm.is_set() or len(lives) >= _MOST_TWINS
                lives -= await _ended(lives, None if alone else self._rng.uniform(*_NEXT_S))
            await _ended(lives, None)
        finally:
            for life in lives:
                life.cancel()
            await asyncio.gather(*lives, return_exceptions=True)

    async def _live(self, name: str) -> None:
        writer = Writer(self._shared, self._cluster, self._next_process(), name)
        try:
            async with writer:
                writer.assign(dict(self._shared.known))
                alive = True
                while alive and not self._written.is_set():
                    await asyncio.sleep(self._rng.uniform(*_PAUSE_S))
                    whim = self._rng.random()
                    if whim < _ASSIGNS:
                        writer.assign(writer.another_assignment())
                    elif whim < _POLLS:
                        await writer.poll(self._rng.choice((0, 300)))
                    else:
                        alive = await writer.transact(calm=self._calm.is_set())
        except KafkaError as error:
            log.info("client_not_started", error=str(error))
            await asyncio.sleep(RETRY_S)
        finally:
            self._written_outcomes.update(writer.outcomes)

    async def _read(self) -> None:
        """Somebody who only reads, from the beginning or from the end."""
        while not self._written.is_set():
            consumer = self._consumer()
            reader = Reader(self._shared, self._cluster, self._next_process(), consumer, attentive=False)
            try:
                async with consumer:
                    begin = dict.fromkeys(self._shared.partitions, 0)
                    reader.assign(begin if self._rng.random() < 0.5 else dict(self._shared.known))
                    while not self._written.is_set() and self._rng.random() > 0.02:
                        await reader.poll(self._rng.choice((0, 300)))
                        await asyncio.sleep(self._rng.uniform(*_PAUSE_S))
            except KafkaError as error:
                log.info("client_not_started", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _copy(self, name: str, rng: random.Random) -> None:
        """One copier after the other in this place."""
        while not self._stopping.is_set():
            copier = Copier(self._cluster, SOURCE, TARGET, name, rng)
            try:
                async with copier:
                    await copier.run(self._stopping, self._calm)
            except KafkaError as error:
                log.info("copier_failed", error=str(error))
            finally:
                self._copied_outcomes.update(copier.outcomes)
            await asyncio.sleep(rng.uniform(0.0, 1.0))

    # -- the end

    async def finish(self, *, within: float) -> None:
        """After healing: no more writes, everything that is open ends, all is copied, and everything is read.

        Raises TimeoutError with what is missing: then `findings` says what is wrong.
        """
        self._calm.set()
        self._written.set()
        async with asyncio.timeout(within):
            await asyncio.gather(*self._writers)
        await self._try_to_leave(within)
        ending = Ending(self._cluster, self._shared, self.told, self._next_process, within)
        await ending.stable(SOURCE)
        await ending.read_inputs()
        await ending.all_copied()
        self._stopping.set()
        async with asyncio.timeout(within):
            await asyncio.gather(*self._copiers)
        await ending.stable(TARGET)
        await ending.read_copies()

    async def _try_to_leave(self, within: float) -> None:
        """Somebody begins a transaction and is never heard of again, so that there is one to be aborted by its timeout.
        Raises TimeoutError."""
        async with asyncio.timeout(within):
            while True:
                writer = Writer(self._shared, self._cluster, self._next_process(), _LEAVER)
                try:
                    async with writer:
                        if await writer.leave():
                            return
                except KafkaError as error:
                    log.info("client_not_started", error=str(error))
                await asyncio.sleep(RETRY_S)

    def findings(self, *, finished: bool) -> list[Finding]:
        """What is wrong. `finished`: `finish` has come to its end."""
        told = self.told if finished else Told(stable=self.told.stable, healed=self.told.healed)
        history = check(self.history, unfinished=not finished)
        return [*history, *check_transactions(told, patience=PATIENCE_S)]

    def _consumer(self) -> Consumer:
        options = consumer_options(self._rng, self._cluster.racks)
        return self._cluster.consumer(auto_offset_reset="none", isolation_level="read_committed", **options)

    def _next_process(self) -> int:
        self._processes += 1
        return self._processes


async def _ended(lives: set[asyncio.Task[None]], timeout: float | None) -> set[asyncio.Task[None]]:
    """Wait for all of them, but not for longer: those that have come to their end. Raises what ended one."""
    if lives:
        await asyncio.wait(lives, timeout=timeout)
    ended = {life for life in lives if life.done()}
    for life in ended:
        life.result()
    return ended
