"""Clients that write and read under faults, with everything they were told written into a history.

Every client is a process of its own with a real idempotent producer (acks=all) and a real consumer by assignment, drawn
with different patience, batching and fetch sizes. It does one operation after the other and repeats none of them. When
nobody knows how an operation ended, the client is thrown away and a new one with a new process number takes its place.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from ottla.client import KafkaError, TopicPartition
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.history import History
from ottla.simulation.reading import Shared
from ottla.simulation.user import Client
from ottla.tasks import stop_tasks

log = structlog.get_logger(__name__)

# Relative frequencies of what a client does.
_OPERATIONS = {"send": 55, "poll": 40, "assign": 3, "ends": 1.5, "crash": 0.5}
# Five of the largest are one batch that fits into the smallest segment that storms are drawn with.
_VALUE_SIZES = (10, 100, 100, 500)
_RETRY_S = 0.2
_MAX_BEHIND_S = 1.0


@dataclass(frozen=True, slots=True)
class Habits:
    """How much is done: `rate` is that of all clients together, in operations per second."""

    clients: int
    rate: float
    value_size: int

    @classmethod
    def drawn(cls, rng: random.Random, rate: float) -> Habits:
        """Everything but the rate."""
        return cls(rng.choice((1, 2, 3, 4)), rate, rng.choice(_VALUE_SIZES))


class Workload:
    """Runs clients against one topic from `async with` on, until `stop`."""

    def __init__(
        self,
        cluster: SimulatedCluster,
        topic: str,
        partitions: int,
        *,
        rate: float = 30.0,
        habits: Habits | None = None,
    ) -> None:
        rng = cluster.world.rng("workload")
        self.habits = habits or Habits.drawn(rng, rate)
        keys = {TopicPartition(topic, index): f"{topic}-{index}" for index in range(partitions)}
        self._shared = Shared(rng, History(cluster.world.loop.time), keys, self.habits.value_size)
        self._cluster = cluster
        self._processes = 0
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def history(self) -> History:
        return self._shared.history

    @property
    def acknowledged(self) -> int:
        """Records of which a client was told that they stay."""
        return self._shared.acknowledged

    async def __aenter__(self) -> Self:
        for number in range(self.habits.clients):
            self._tasks.append(asyncio.create_task(self._live(), name=f"client {number}"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_tasks(self._tasks)

    async def write_everywhere(self, *, within: float) -> None:
        """New clients write to every partition until they are told that a record stays. Raises TimeoutError."""
        for where in self._shared.partitions:
            await self._until(lambda client, where=where: client.send([where]), within)  # type: ignore[misc]

    async def stop(self, *, within: float) -> None:
        """No more operations; those under way end as they do. Raises TimeoutError, or what broke a client."""
        self._stopping.set()
        async with asyncio.timeout(within):
            await asyncio.gather(*self._tasks)

    async def read_everything(self, *, within: float) -> None:
        """A new client reads every partition from its beginning to its end. Raises TimeoutError."""
        await self._until(self._all_read, within)

    async def _all_read(self, client: Client) -> bool:
        client.assign(dict.fromkeys(self._shared.partitions, 0))
        ends = await client.ends()
        # Not to what writers were told: if the log is shorter than that, the checker says what is missing.
        while any(client.positions[where] < end for where, end in ends.items()):
            await client.poll(1000)
        if ends:
            client.tell_epochs()
        return bool(ends)

    async def _until(self, succeeds: Callable[[Client], Awaitable[bool]], within: float) -> None:
        """Let one new client after the other try it."""
        async with asyncio.timeout(within):
            while True:
                try:
                    async with self._client(within) as client:
                        if await succeeds(client):
                            return
                except KafkaError as error:
                    log.info("client_not_started", error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _live(self) -> None:
        """One client after the other."""
        while not self._stopping.is_set():
            try:
                async with self._client() as client:
                    await self._work(client)
            except KafkaError as error:
                log.info("client_not_started", error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _work(self, client: Client) -> None:
        loop = asyncio.get_running_loop()
        rng = self._shared.rng
        client.assign(dict.fromkeys(self._shared.partitions, 0) if rng.random() < 0.5 else dict(self._shared.known))
        pause = 2 * self.habits.clients / self.habits.rate
        due = loop.time()
        names, weights = list(_OPERATIONS), list(_OPERATIONS.values())
        alive = True
        while alive and not self._stopping.is_set():
            due = max(due + pause * rng.random(), loop.time() - _MAX_BEHIND_S)
            await asyncio.sleep(max(0.0, due - loop.time()))
            alive = await client.do(rng.choices(names, weights)[0])

    def _client(self, within: float | None = None) -> Client:
        self._processes += 1
        return Client(self._shared, self._cluster, self._processes, within)
