"""Clients that write and read under faults, with everything they were told written into a history.

Every client is a process of its own with a real idempotent producer (acks=all) and a real consumer by assignment, drawn
with different patience, batching and fetch sizes. It does one operation after the other and repeats none of them. When
nobody knows how an operation ended, the client is thrown away and a new one with a new process number takes its place.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import structlog

from ottla.client import BrokerResponseError, KafkaError, RecordMetadata, TopicPartition
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.history import History, classify

log = structlog.get_logger(__name__)

# Relative frequencies of what a client does.
_OPERATIONS = {"send": 55, "poll": 40, "assign": 3, "ends": 1.5, "crash": 0.5}
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
        return cls(rng.choice((1, 2, 3, 4)), rate, rng.choice((10, 100, 100, 2000)))


class Workload:
    """Runs clients against one topic from `async with` on, until `stop`.

    `acknowledged` counts records; `known` is, by partition, the end that follows from what any client was shown.
    """

    def __init__(
        self,
        cluster: SimulatedCluster,
        topic: str,
        partitions: int,
        *,
        rate: float = 30.0,
        habits: Habits | None = None,
    ) -> None:
        self.rng = cluster.world.rng("workload")
        self.history = History(cluster.world.loop.time)
        self.acknowledged = 0
        self.habits = habits or Habits.drawn(self.rng, rate)
        self.partitions = [TopicPartition(topic, index) for index in range(partitions)]
        self.keys = {where: f"{topic}-{where.partition}" for where in self.partitions}
        self.known = dict.fromkeys(self.partitions, 0)
        self._cluster = cluster
        self._processes = 0
        self._next = dict.fromkeys(self.partitions, 0)
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for number in range(self.habits.clients):
            self._tasks.append(asyncio.create_task(self._live(), name=f"client {number}"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def value(self, where: TopicPartition) -> int:
        """The next value that nobody has sent to the partition."""
        self._next[where] += 1
        return self._next[where]

    async def write_everywhere(self, *, within: float) -> None:
        """New clients write to every partition until they are told that a record stays. Raises TimeoutError."""
        for where in self.partitions:
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
        client.assign(dict.fromkeys(self.partitions, 0))
        ends = await client.ends()
        # Not to what writers were told: if the log is shorter than that, the checker says what is missing.
        while any(client.positions[where] < end for where, end in ends.items()):
            await client.poll(1000)
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
        rng = self.rng
        client.assign(dict.fromkeys(self.partitions, 0) if rng.random() < 0.5 else dict(self.known))
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
        return Client(self, self._cluster, self._processes, within)


class Client:
    """One process. Every operation is a pair of entries; each answers whether the client may go on.

    With `within` it has no whims: it is patient for so many seconds, and reads as much as it can.
    """

    def __init__(self, workload: Workload, cluster: SimulatedCluster, process: int, within: float | None) -> None:
        rng = workload.rng
        self.process = process
        self.positions: dict[TopicPartition, int] = {}
        self._workload = workload
        self._history = workload.history
        self._rng = rng
        self._producer = cluster.producer(**_producer_options(rng) if within is None else _patient(within))
        self._consumer = cluster.consumer(auto_offset_reset="none", **_consumer_options(rng) if within is None else {})

    async def __aenter__(self) -> Self:
        try:
            await self._producer.start()
            await self._consumer.start()
        except KafkaError:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        await self._producer.stop(flush=False)
        await self._consumer.stop()

    async def do(self, operation: str) -> bool:
        """One operation of the kind, with the rest of it drawn."""
        rng, partitions = self._rng, self._workload.partitions
        if operation == "send":
            return await self.send(rng.choices(partitions, k=rng.choice((1, 1, 1, 2, 5))))
        if operation == "poll":
            return await self.poll(rng.choice((0, 0, 300)))
        if operation == "ends":
            await self.ends()
            return True
        if operation == "assign":
            return self.assign(self._another_assignment())
        if rng.random() < 0.5:
            return await self.send(rng.choices(partitions, k=5), crash_after=rng.choice((0.0, 0.002, 0.02)))
        self._history.complete(self._history.invoke(self.process, "crash", None), "info", None)
        return False

    async def send(self, targets: Sequence[TopicPartition], *, crash_after: float | None = None) -> bool:
        """One record to each target, all of them before any answer. With `crash_after` seconds the client does not
        live to see the answers."""
        records = [(where, self._workload.value(where)) for where in targets]
        offsets: list[int | None] = [None] * len(records)
        invoked = self._history.invoke(self.process, "send", self._sent(records, offsets))
        futures, errors = await self._buffer(records)
        if crash_after is not None:
            await asyncio.sleep(crash_after)
            for future in futures:
                future.add_done_callback(_look_away)
            self._history.complete(invoked, "info", None, error="the client crashed")
            return False
        acknowledged = 0
        for index, future in enumerate(futures):
            try:
                offset = (await future).offset
            except KafkaError as error:
                errors.append(error)
                continue
            acknowledged += 1
            offsets[index] = offset if offset >= 0 else None
            self._show(records[index][0], offset + 1)
        self._workload.acknowledged += acknowledged
        if not errors:
            self._history.complete(invoked, "ok", self._sent(records, offsets))
            return True
        worst = next((each for each in errors if classify(each) == "info"), errors[0])
        kind = "info" if acknowledged else classify(worst)
        self._history.complete(invoked, kind, self._sent(records, offsets), error=_text(worst), node=_node(worst))
        return kind == "fail"

    async def _buffer(
        self, records: Sequence[tuple[TopicPartition, int]]
    ) -> tuple[list[asyncio.Future[RecordMetadata]], list[KafkaError]]:
        """Give them to the producer. After an error the remaining ones are not tried."""
        size = self._workload.habits.value_size
        futures: list[asyncio.Future[RecordMetadata]] = []
        try:
            for where, value in records:
                data = (b"%d" % value).ljust(size)
                futures.append(await self._producer.send(where.topic, data, partition=where.partition))
        except KafkaError as error:
            error.definite = True
            return futures, [error]
        return futures, []

    def _sent(self, records: Sequence[tuple[TopicPartition, int]], offsets: Sequence[int | None]) -> list[object]:
        keys = self._workload.keys
        return [["send", keys[where], [offset, value]] for (where, value), offset in zip(records, offsets, strict=True)]

    async def poll(self, timeout_ms: float) -> bool:
        """What there is to read. A poll that fails moves no position."""
        invoked = self._history.invoke(self.process, "poll", [["poll", {}]])
        try:
            got = await self._consumer.getmany(timeout_ms=timeout_ms)
        except KafkaError as error:
            for where, position in self.positions.items():
                self._consumer.seek(where, position)
            self._history.complete(invoked, "fail", None, error=_text(error), node=_node(error))
            return True
        shown: dict[str, list[list[int]]] = {}
        for where, records in got.items():
            shown[self._workload.keys[where]] = [[record.offset, int(record.value or b"")] for record in records]
            self.positions[where] = records[-1].offset + 1
            self._show(where, records[-1].offset + 1)
        self._history.complete(invoked, "ok", [["poll", shown]])
        return True

    def assign(self, wanted: dict[TopicPartition, int] | dict[TopicPartition, int | None]) -> bool:
        """Read these partitions, from the offset, or from where it was if there is none."""
        invoked = self._history.invoke(self.process, "assign", self._by_key(wanted.items()))
        self._consumer.assign(list(wanted))
        self.positions = {where: self.positions[where] if at is None else at for where, at in wanted.items()}
        for where, at in wanted.items():
            if at is not None:
                self._consumer.seek(where, at)
        self._history.complete(invoked, "ok", invoked.value)
        return True

    async def ends(self) -> dict[TopicPartition, int]:
        """Ask where every partition ends; nothing if there is no answer."""
        partitions = self._workload.partitions
        invoked = self._history.invoke(self.process, "ends", [self._workload.keys[where] for where in partitions])
        try:
            ends = await self._consumer.end_offsets(partitions)
        except KafkaError as error:
            self._history.complete(invoked, "fail", None, error=_text(error), node=_node(error))
            return {}
        for where, end in ends.items():
            self._show(where, end)
        self._history.complete(invoked, "ok", self._by_key(ends.items()))
        return ends

    def _another_assignment(self) -> dict[TopicPartition, int | None]:
        rng, known = self._rng, self._workload.known
        chosen: dict[TopicPartition, int | None] = {}
        for where in rng.sample(self._workload.partitions, rng.randint(1, len(self._workload.partitions))):
            if where in self.positions and rng.random() < 0.5:
                chosen[where] = None
            else:
                chosen[where] = rng.choice((0, known[where], rng.randint(0, known[where])))
        return chosen

    def _by_key(self, items: Iterable[tuple[TopicPartition, int | None]]) -> dict[str, int | None]:
        return {self._workload.keys[where]: at for where, at in items}

    def _show(self, where: TopicPartition, end: int) -> None:
        if end > self._workload.known[where]:
            self._workload.known[where] = end


def _producer_options(rng: random.Random) -> dict[str, Any]:
    return {
        "linger_ms": rng.choice((0, 0, 5)),
        "max_batch_size": rng.choice((1, 16384)),
        "delivery_timeout_ms": rng.choice((3000, 10000, 60000)),
        "request_timeout_ms": rng.choice((1500, 5000, 30000)),
        "compression_type": rng.choice((None, None, "lz4")),
    }


def _patient(within: float) -> dict[str, Any]:
    return {"linger_ms": 0, "delivery_timeout_ms": within * 1000}


def _consumer_options(rng: random.Random) -> dict[str, Any]:
    least, most = rng.choice(((1, 1048576), (1, 200), (500, 1048576)))
    return {
        "request_timeout_ms": rng.choice((1500, 5000, 30000)),
        "fetch_max_wait_ms": rng.choice((300, 1000, 5000)),
        "fetch_min_bytes": least,
        "max_partition_fetch_bytes": most,
        "max_poll_records": rng.choice((5, 50, 500)),
    }


def _look_away(future: asyncio.Future[RecordMetadata]) -> None:
    if not future.cancelled():
        future.exception()


def _text(error: KafkaError) -> str:
    return f"{type(error).__name__}: {error}"


def _node(error: KafkaError) -> int | None:
    return error.broker if isinstance(error, BrokerResponseError) else None
