"""One client process of a workload: each operation of it is a pair of entries in the history."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from ottla.client import KafkaError, RecordMetadata, TopicPartition
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.history import CRASHED, classify
from ottla.simulation.reading import Reader, Shared, consumer_options, node_of, text_of

_LATEST: Final = -1


class Client(Reader):
    """One process. Every operation is a pair of entries; each answers whether the client may go on.

    With `within` it has no whims: it is patient for so many seconds, and reads as much as it can, with care for epochs.
    """

    def __init__(self, shared: Shared, cluster: SimulatedCluster, process: int, within: float | None) -> None:
        rng = shared.rng
        self._producer = cluster.producer(**producer_options(rng) if within is None else patient(within))
        options = consumer_options(rng, cluster.racks) if within is None else {}
        consumer = cluster.consumer(auto_offset_reset="none", **options)
        super().__init__(shared, cluster, process, consumer, attentive=within is not None)

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
        rng, partitions = self._rng, self._shared.partitions
        if operation == "send":
            return await self.send(rng.choices(partitions, k=rng.choice((1, 1, 1, 2, 5))))
        if operation == "poll":
            return await self.poll(rng.choice((0, 0, 300)))
        if operation == "ends":
            await self.ends()
            return True
        if operation == "assign":
            return self.assign(self.another_assignment())
        if rng.random() < 0.5:
            return await self.send(rng.choices(partitions, k=5), crash_after=rng.choice((0.0, 0.002, 0.02)))
        self._history.complete(self._history.invoke(self.process, "crash", None), "info", None)
        return False

    async def send(self, targets: Sequence[TopicPartition], *, crash_after: float | None = None) -> bool:
        """One record to each target, all of them before any answer. With `crash_after` seconds the client does not
        live to see the answers."""
        records = [(where, self._shared.value(where)) for where in targets]
        offsets: list[int | None] = [None] * len(records)
        invoked = self._history.invoke(self.process, "send", self._sent(records, offsets))
        futures, errors = await self._buffer(records)
        if crash_after is not None:
            await asyncio.sleep(crash_after)
            for future in futures:
                future.add_done_callback(_look_away)
            self._history.complete(invoked, "info", None, error=CRASHED)
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
            where = records[index][0]
            self._cluster.invariants.acknowledged(where.topic, where.partition, offset)
            self._shared.show(where, offset + 1)
        self._shared.acknowledged += acknowledged
        self.note_leaders()
        if not errors:
            self._history.complete(invoked, "ok", self._sent(records, offsets))
            return True
        worst = next((each for each in errors if classify(each) == "info"), errors[0])
        kind = "info" if acknowledged else classify(worst)
        self._history.complete(invoked, kind, self._sent(records, offsets), error=text_of(worst), node=node_of(worst))
        return kind == "fail"

    async def _buffer(
        self, records: Sequence[tuple[TopicPartition, int]]
    ) -> tuple[list[asyncio.Future[RecordMetadata]], list[KafkaError]]:
        """Give them to the producer. After an error the remaining ones are not tried."""
        size = self._shared.value_size
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
        keys = self._shared.keys
        return [["send", keys[where], [offset, value]] for (where, value), offset in zip(records, offsets, strict=True)]

    async def ends(self) -> dict[TopicPartition, int]:
        """Ask where every partition ends; nothing if there is no answer."""
        partitions = self._shared.partitions
        invoked = self._history.invoke(self.process, "ends", [self._shared.keys[where] for where in partitions])
        try:
            async with self._cluster.admin() as admin:
                found = await admin.list_offsets(dict.fromkeys(partitions, _LATEST))
        except KafkaError as error:
            self._history.complete(invoked, "fail", None, error=text_of(error), node=node_of(error))
            return {}
        for where, end in found.items():
            self._shared.show(where, end.offset)
        answers = self.by_key((where, [end.offset, end.leader_epoch]) for where, end in found.items())
        self._history.complete(invoked, "ok", answers)
        return {where: end.offset for where, end in found.items()}


def producer_options(rng: random.Random) -> dict[str, Any]:
    return {
        "linger_ms": rng.choice((0, 0, 5)),
        "max_batch_size": rng.choice((1, 16384)),
        "delivery_timeout_ms": rng.choice((3000, 10000, 60000)),
        "request_timeout_ms": rng.choice((1500, 5000, 30000)),
        "compression_type": rng.choice((None, None, "lz4")),
    }


def patient(within: float) -> dict[str, Any]:
    return {"linger_ms": 0, "delivery_timeout_ms": within * 1000}


def _look_away(future: asyncio.Future[RecordMetadata]) -> None:
    if not future.cancelled():
        future.exception()
