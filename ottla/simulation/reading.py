"""The reading half of a client process: each operation of it is a pair of entries in the history."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from ottla.client import BrokerResponseError, Consumer, ConsumerRecord, KafkaError, TopicPartition
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.history import History

T = TypeVar("T")

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


class Reader:
    """Reads by assignment. `attentive`: also takes down which leader epochs wrote what it reads."""

    def __init__(
        self, shared: Shared, cluster: SimulatedCluster, process: int, consumer: Consumer, *, attentive: bool
    ) -> None:
        self.process = process
        self.positions: dict[TopicPartition, int] = {}
        self._shared = shared
        self._history = shared.history
        self._rng = shared.rng
        self._cluster = cluster
        self._consumer = consumer
        self._attentive = attentive
        self._epochs: dict[TopicPartition, list[list[int]]] = {}

    async def poll(self, timeout_ms: float) -> bool:
        """What there is to read. A poll that fails moves no position."""
        invoked = self._history.invoke(self.process, "poll", [["poll", {}]])
        try:
            got = await self._consumer.getmany(timeout_ms=timeout_ms)
        except KafkaError as error:
            self.step_back(self.positions)
            self._history.complete(invoked, "fail", None, error=text_of(error), node=node_of(error))
            return True
        shown = self.take_in(got)
        self.note_leaders()
        self._history.complete(invoked, "ok", [["poll", shown]])
        return True

    def step_back(self, positions: Mapping[TopicPartition, int]) -> None:
        """What was given after these positions is to be given again."""
        self.positions = dict(positions)
        for where, position in positions.items():
            self._consumer.seek(where, position)

    def take_in(self, got: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> dict[str, list[list[int]]]:
        """What a poll has shown, as the history has it."""
        shown: dict[str, list[list[int]]] = {}
        for where, records in got.items():
            shown[self._shared.keys[where]] = [[record.offset, int(record.value or b"")] for record in records]
            self.positions[where] = records[-1].offset + 1
            self._cluster.invariants.acknowledged(where.topic, where.partition, records[-1].offset, "read")
            self._shared.show(where, records[-1].offset + 1)
            if self._attentive:
                self._note_epochs(where, records)
        return shown

    def assign(self, wanted: dict[TopicPartition, int] | dict[TopicPartition, int | None]) -> bool:
        """Read these partitions, from the offset, or from where it was if there is none."""
        invoked = self._history.invoke(self.process, "assign", self.by_key(wanted.items()))
        self._consumer.assign(list(wanted))
        self.positions = {where: self.positions[where] if at is None else at for where, at in wanted.items()}
        for where, at in wanted.items():
            if at is not None:
                self._consumer.seek(where, at)
        self._history.complete(invoked, "ok", invoked.value)
        return True

    def tell_epochs(self) -> None:
        """Which leader epochs wrote what it has read."""
        invoked = self._history.invoke(self.process, "epochs", None)
        self._history.complete(invoked, "ok", self.by_key(self._epochs.items()))

    def note_leaders(self) -> None:
        """Which leader epochs there are by now. To be called before what was learned is put down."""
        image = self._cluster.invariants.metadata.latest
        began: dict[TopicPartition, int] = {}
        for where in self._shared.partitions:
            state = image.partition(where.topic, where.partition)
            if state is not None and self._shared.leads.get(where) != state.leader_epoch:
                began[where] = state.leader_epoch
        if began:
            self._shared.leads.update(began)
            noted = self.by_key(began.items())
            self._history.complete(self._history.invoke(_OBSERVER, "leads", noted), "ok", noted)

    def another_assignment(self) -> dict[TopicPartition, int | None]:
        rng, known = self._rng, self._shared.known
        chosen: dict[TopicPartition, int | None] = {}
        for where in rng.sample(self._shared.partitions, rng.randint(1, len(self._shared.partitions))):
            if where in self.positions and rng.random() < 0.5:
                chosen[where] = None
            else:
                chosen[where] = rng.choice((0, known[where], rng.randint(0, known[where])))
        return chosen

    def by_key(self, items: Iterable[tuple[TopicPartition, T]]) -> dict[str, T]:
        return {self._shared.keys[where]: at for where, at in items}

    def _note_epochs(self, where: TopicPartition, records: Iterable[ConsumerRecord]) -> None:
        epochs = self._epochs.setdefault(where, [])
        for record in records:
            if not epochs or epochs[-1][0] != record.leader_epoch:
                epochs.append([record.leader_epoch, record.offset])


def consumer_options(rng: random.Random, racks: Sequence[str]) -> dict[str, Any]:
    """Of a consumer with whims."""
    least, most = rng.choice(((1, 1048576), (1, 200), (500, 1048576)))
    options = {
        "request_timeout_ms": rng.choice((1500, 5000, 30000)),
        "fetch_max_wait_ms": rng.choice((300, 1000, 5000)),
        "fetch_min_bytes": least,
        "max_partition_fetch_bytes": most,
        "max_poll_records": rng.choice((5, 50, 500)),
    }
    return options | {"client_rack": rng.choice(racks)} if racks else options


async def is_behind(cluster: SimulatedCluster, consumer: Consumer, partitions: Sequence[TopicPartition]) -> bool:
    """Whether there is more to read by now; a broker that is asked may have been replaced, and tell of the past."""
    committed = cluster.invariants.committed
    return any([await consumer.position(where) < committed(where.topic, where.partition) for where in partitions])


def text_of(error: KafkaError) -> str:
    """As a history has it."""
    return f"{type(error).__name__}: {error}"


def node_of(error: KafkaError) -> int | None:
    """The broker that said so, if one did."""
    return error.broker if isinstance(error, BrokerResponseError) else None
