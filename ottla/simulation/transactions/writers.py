"""Processes that write in transactions, and read what others have committed."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType
from typing import Final, Self

from ottla.client import (
    AbortableTransactionError,
    FatalTransactionError,
    KafkaError,
    KafkaTimeoutError,
    RecordMetadata,
    TopicPartition,
)
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.history import CRASHED, Kind
from ottla.simulation.reading import Reader, Shared, consumer_options, node_of, text_of
from ottla.simulation.user import producer_options

TIMEOUTS_S: Final = (2.0, 5.0)
"""How long coordinators let transactions last."""

ENDS: Final = {"commit": 78, "abort": 12, "crash": 6, "dawdle": 4}
"""Relative frequencies of how a transaction comes to its end."""
_SIZES: Final = (1, 2, 2, 3, 5)


class Writer(Reader):
    """One process with a transactional id, and a read-committed consumer."""

    def __init__(self, shared: Shared, cluster: SimulatedCluster, process: int, name: str) -> None:
        rng = shared.rng
        self._timeout = rng.choice(TIMEOUTS_S)
        options = producer_options(rng) | {
            "transactional_id": name,
            "transaction_timeout_ms": self._timeout * 1000,
            "transaction_version": rng.choice((1, 2, 2, 2)),
            "max_block_ms": rng.choice((3000, 10000)),
        }
        self._producer = cluster.producer(**options)
        consumer = cluster.consumer(
            auto_offset_reset="none", isolation_level="read_committed", **consumer_options(rng, cluster.racks)
        )
        super().__init__(shared, cluster, process, consumer, attentive=False)
        self.outcomes: Counter[str] = Counter()

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
        # As a process ends that is killed: a transaction is left open.
        await self._producer.stop(flush=False)
        await self._consumer.stop()

    async def transact(self, *, calm: bool) -> bool:
        """One transaction, with the rest of it drawn; whether the process may go on. `calm`: it is to be committed."""
        rng = self._rng
        end = "commit" if calm else rng.choices(list(ENDS), list(ENDS.values()))[0]
        records = [
            (where, self._shared.value(where)) for where in rng.choices(self._shared.partitions, k=rng.choice(_SIZES))
        ]
        work = _Work(self._shared, records, reads=rng.random() < 0.3)
        invoked = self._history.invoke(self.process, "txn", work.told())
        before = dict(self.positions)
        kind, error = await self._carry_out(work, end)
        if kind != "ok":
            self.step_back(before)
        self.outcomes[kind] += 1
        self._history.complete(
            invoked, kind, work.told(), error=work.error, node=None if error is None else node_of(error)
        )
        return kind == "ok" or (kind == "fail" and end != "crash" and await self._aborted(error))

    async def leave(self) -> bool:
        """Write in a transaction, and leave it at that; whether it was written."""
        work = _Work(
            self._shared, [(where, self._shared.value(where)) for where in self._shared.partitions], reads=False
        )
        invoked = self._history.invoke(self.process, "txn", work.told())
        try:
            await self._producer.begin_transaction()
            await self._write(work)
            await self._producer.flush()
        except KafkaError as error:
            work.error = text_of(error)
        written = work.error is None and None not in work.offsets()
        self._history.complete(invoked, "fail", work.told(), error=work.error or CRASHED)
        return written

    async def _carry_out(self, work: _Work, end: str) -> tuple[Kind, KafkaError | None]:
        try:
            await self._producer.begin_transaction()
            await self._write(work)
            if end == "dawdle":
                # A process that stands still does not know how long.
                await asyncio.sleep(self._timeout * self._rng.uniform(0.8, 1.5))
            elif self._rng.random() < 0.3:
                await asyncio.sleep(self._rng.choice((0.05, 0.3, 1.0)))
        except KafkaError as error:
            # Nobody has asked for a commit, so that there will be none.
            work.error = text_of(error)
            return "fail", error
        if end in ("abort", "crash"):
            work.error = CRASHED if end == "crash" else "aborted"
            return "fail", None
        try:
            await self._producer.commit_transaction()
        except (AbortableTransactionError, FatalTransactionError, KafkaTimeoutError) as error:
            work.error = text_of(error)
            return "fail" if error.definite else "info", error
        self._note_commit(work)
        return "ok", None

    async def _write(self, work: _Work) -> None:
        """Raises KafkaError for the first record that was given up."""
        rng = self._rng
        for where, value in work.records:
            data = (b"%d" % value).ljust(self._shared.value_size)
            work.futures.append(await self._producer.send(where.topic, data, partition=where.partition))
            if rng.random() < 0.3:
                await asyncio.sleep(rng.choice((0.0, 0.01, 0.1, 0.5)))
        if rng.random() < 0.5:
            await self._producer.flush()
        if work.reads:
            work.shown = self.take_in(await self._consumer.getmany(timeout_ms=rng.choice((0, 0, 100))))

    def _note_commit(self, work: _Work) -> None:
        for (where, _), offset in zip(work.records, work.offsets(), strict=True):
            if offset is not None:
                self._cluster.invariants.acknowledged(where.topic, where.partition, offset)
                self._shared.show(where, offset + 1)
        self._shared.acknowledged += len(work.records)
        self.note_leaders()

    async def _aborted(self, cause: KafkaError | None) -> bool:
        """Whether the transaction is aborted, and the producer can go on."""
        if isinstance(cause, FatalTransactionError):
            return False
        try:
            await self._producer.abort_transaction()
        except KafkaError:
            return False
        return True


class _Work:
    """What is done in one transaction."""

    def __init__(self, shared: Shared, records: list[tuple[TopicPartition, int]], *, reads: bool) -> None:
        self.records = records
        self.futures: list[asyncio.Future[RecordMetadata]] = []
        self.reads = reads
        self.shown: dict[str, list[list[int]]] = {}
        self.error: str | None = None
        self._keys = shared.keys

    def offsets(self) -> list[int | None]:
        """Those that the brokers have told."""
        told: list[int | None] = [None] * len(self.records)
        for index, future in enumerate(self.futures):
            if future.done() and not future.cancelled() and future.exception() is None:
                offset = future.result().offset
                told[index] = offset if offset >= 0 else None
        return told

    def told(self) -> list[object]:
        """The micro-operations."""
        sends: list[object] = [
            ["send", self._keys[where], [offset, value]]
            for (where, value), offset in zip(self.records, self.offsets(), strict=True)
        ]
        return [*sends, ["poll", self.shown]] if self.reads else sends
