"""One client process of a workload: each operation of it is a pair of entries in the history."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from ottla.client import BrokerResponseError, ConsumerRecord, KafkaError, RecordMetadata, TopicPartition
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.history import CRASHED, History, classify

T = TypeVar("T")

_LATEST: Final = -1
# The process that looks into all nodes; those of clients begin with 1.
_OBSERVER: Final = 0


@dataclass(slots=True)
class Shared:
    """What all clients of a run share. `acknowledged` counts records; `known` is, by partition, the end that follows
    from what any client was shown, `leads` the leader epoch that the history has."""

    rng: random.Random
    history: History
    keys: dict[TopicPartition, str]
    value_size: int
    acknowledged: int = 0
    known: dict[TopicPartition, int] = field(init=False)
    leads: dict[TopicPartition, int] = field(default_factory=dict)
    partitions: list[TopicPartition] = field(init=False)
    _sent: dict[TopicPartition, int] = field(init=False)

    def __post_init__(self) -> None:
        self.partitions = list(self.keys)
        self.known = dict.fromkeys(self.keys, 0)
        self._sent = dict.fromkeys(self.keys, 0)

    def value(self, where: TopicPartition) -> int:
        """The next value that nobody has sent to the partition."""
        self._sent[where] += 1
        return self._sent[where]

    def show(self, where: TopicPartition, end: int) -> None:
        """Somebody knows that the partition's end is not below this."""
        if end > self.known[where]:
            self.known[where] = end


class Client:
    """One process. Every operation is a pair of entries; each answers whether the client may go on.

    With `within` it has no whims: it is patient for so many seconds, and reads as much as it can, with care for epochs.
    """

    def __init__(self, shared: Shared, cluster: SimulatedCluster, process: int, within: float | None) -> None:
        rng = shared.rng
        self.process = process
        self.positions: dict[TopicPartition, int] = {}
        self._shared = shared
        self._history = shared.history
        self._rng = rng
        self._cluster = cluster
        self._attentive = within is not None
        self._epochs: dict[TopicPartition, list[list[int]]] = {}
        self._producer = cluster.producer(**_producer_options(rng) if within is None else _patient(within))
        options = _consumer_options(rng) if within is None else {}
        if cluster.racks and within is None:
            options["client_rack"] = rng.choice(cluster.racks)
        self._consumer = cluster.consumer(auto_offset_reset="none", **options)

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
            return self.assign(self._another_assignment())
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
        self._note_leaders()
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
            shown[self._shared.keys[where]] = [[record.offset, int(record.value or b"")] for record in records]
            self.positions[where] = records[-1].offset + 1
            self._cluster.invariants.acknowledged(where.topic, where.partition, records[-1].offset, "read")
            self._shared.show(where, records[-1].offset + 1)
            if self._attentive:
                self._note_epochs(where, records)
        self._note_leaders()
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
        partitions = self._shared.partitions
        invoked = self._history.invoke(self.process, "ends", [self._shared.keys[where] for where in partitions])
        try:
            async with self._cluster.admin() as admin:
                found = await admin.list_offsets(dict.fromkeys(partitions, _LATEST))
        except KafkaError as error:
            self._history.complete(invoked, "fail", None, error=_text(error), node=_node(error))
            return {}
        for where, end in found.items():
            self._shared.show(where, end.offset)
        answers = self._by_key((where, [end.offset, end.leader_epoch]) for where, end in found.items())
        self._history.complete(invoked, "ok", answers)
        return {where: end.offset for where, end in found.items()}

    def tell_epochs(self) -> None:
        """Which leader epochs wrote what it has read."""
        invoked = self._history.invoke(self.process, "epochs", None)
        self._history.complete(invoked, "ok", self._by_key(self._epochs.items()))

    def _note_leaders(self) -> None:
        """Which leader epochs there are by now. To be called before what was learned is put down."""
        image = self._cluster.invariants.metadata.latest
        began: dict[TopicPartition, int] = {}
        for where in self._shared.partitions:
            state = image.partition(where.topic, where.partition)
            if state is not None and self._shared.leads.get(where) != state.leader_epoch:
                began[where] = state.leader_epoch
        if began:
            self._shared.leads.update(began)
            noted = self._by_key(began.items())
            self._history.complete(self._history.invoke(_OBSERVER, "leads", noted), "ok", noted)

    def _another_assignment(self) -> dict[TopicPartition, int | None]:
        rng, known = self._rng, self._shared.known
        chosen: dict[TopicPartition, int | None] = {}
        for where in rng.sample(self._shared.partitions, rng.randint(1, len(self._shared.partitions))):
            if where in self.positions and rng.random() < 0.5:
                chosen[where] = None
            else:
                chosen[where] = rng.choice((0, known[where], rng.randint(0, known[where])))
        return chosen

    def _by_key(self, items: Iterable[tuple[TopicPartition, T]]) -> dict[str, T]:
        return {self._shared.keys[where]: at for where, at in items}

    def _note_epochs(self, where: TopicPartition, records: Iterable[ConsumerRecord]) -> None:
        epochs = self._epochs.setdefault(where, [])
        for record in records:
            if not epochs or epochs[-1][0] != record.leader_epoch:
                epochs.append([record.leader_epoch, record.offset])


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
