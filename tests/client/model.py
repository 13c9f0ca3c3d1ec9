"""A model of brokers that lead partitions in turn, with Kafka's sequence rules, for driving the producer's core.

There is one true log per partition. What lies beyond `committed` exists on the leader alone and may be lost when
the leadership moves, like records that were not yet replicated.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from kio.schema.errors import ErrorCode

from ottla.client import TopicPartition
from ottla.client.producer.batch import Batch
from ottla.client.producer.core import Answer, Call, ProducerCore


@dataclass
class Stored:
    tokens: tuple[int, ...]
    producer_id: int
    epoch: int
    sequence: int
    base_offset: int


@dataclass
class ModelPartition:
    leader: int = 0
    known_leader: int = 0
    batches: list[Stored] = field(default_factory=list)
    committed: int = 0

    @property
    def end(self) -> int:
        return self.batches[-1].base_offset + len(self.batches[-1].tokens) if self.batches else 0

    def append(self, batch: Batch) -> tuple[ErrorCode, int]:
        """Kafka's check and append: (error, base offset)."""
        if batch.identity is None:
            self.batches.append(Stored(tuple(batch.tokens), -1, -1, -1, self.end))
            return ErrorCode.none, self.batches[-1].base_offset
        mine = [b for b in self.batches if b.producer_id == batch.identity.producer_id]
        epoch = mine[-1].epoch if mine else None
        if epoch is not None and batch.identity.epoch < epoch:
            return ErrorCode.invalid_producer_epoch, -1
        window = [b for b in mine if b.epoch == batch.identity.epoch][-5:]
        for old in window:
            if old.sequence == batch.sequence and len(old.tokens) == len(batch.tokens):
                return ErrorCode.none, old.base_offset
        expected = window[-1].sequence + len(window[-1].tokens) if window else 0
        # A log without any batch of this producer takes whatever sequence comes first, as Kafka's does.
        if mine and batch.sequence != expected:
            return ErrorCode.out_of_order_sequence_number, -1
        entry = Stored(tuple(batch.tokens), *batch.identity, batch.sequence, self.end)
        self.batches.append(entry)
        return ErrorCode.none, entry.base_offset


@dataclass
class InFlight:
    call: Call
    answers: list[tuple[Batch, Answer, int]] | None = None
    """Batch, answer and index of its log entry, once the broker has handled it."""


class ModelCluster:
    """Two nodes. `harsh` also gives errors that end a batch."""

    def __init__(self, rng: random.Random, partitions: list[TopicPartition], *, harsh: bool) -> None:
        self.rng = rng
        self.harsh = harsh
        self.partitions = {tp: ModelPartition() for tp in partitions}
        self.links: dict[int, deque[InFlight]] = {0: deque(), 1: deque()}

    def leader(self, tp: TopicPartition) -> int | None:
        return self.partitions[tp].known_leader

    def slots(self, node: int) -> int:
        return 5 - len(self.links[node])

    def submit(self, call: Call) -> None:
        self.links[call.node].append(InFlight(call))

    def handle(self, node: int, *, faults: bool = True) -> None:
        """The broker handles its next request."""
        for flight in self.links[node]:
            if flight.answers is None:
                flight.answers = [self._handle(node, batch, faults) for batch in flight.call.batches]
                return

    def _handle(self, node: int, batch: Batch, faults: bool) -> tuple[Batch, Answer, int]:
        partition = self.partitions[batch.tp]
        if partition.leader != node:
            return batch, Answer(ErrorCode.not_leader_or_follower), -1
        if faults and self.rng.random() < 0.15:
            return batch, Answer(self.rng.choice([ErrorCode.not_enough_replicas, ErrorCode.leader_not_available])), -1
        if faults and self.harsh and self.rng.random() < 0.05:
            return batch, Answer(ErrorCode.invalid_record), -1
        code, offset = partition.append(batch)
        if code is ErrorCode.none and faults and self.rng.random() < 0.1:
            late = [ErrorCode.request_timed_out, ErrorCode.not_leader_or_follower, ErrorCode.unknown_server_error]
            return batch, Answer(self.rng.choice(late)), -1
        index = next((i for i, b in enumerate(partition.batches) if b.base_offset == offset), -1)
        return batch, Answer(code, offset), index if code is ErrorCode.none else -1

    def answer(self, node: int, core: ProducerCore, now: float) -> list[object]:
        """The first handled request's answer arrives; what it acknowledges is committed."""
        if not self.links[node] or self.links[node][0].answers is None:
            return []
        flight = self.links[node].popleft()
        outcomes: list[object] = []
        for batch, answer, index in flight.answers or []:
            partition = self.partitions[batch.tp]
            final = answer
            if index >= partition.committed and partition.leader != node:
                final = Answer(ErrorCode.not_leader_or_follower)
            elif index >= 0:
                partition.committed = max(partition.committed, index + 1)
            outcomes += core.on_answer(flight.call, batch, final, now)
        return outcomes

    def break_link(self, node: int, core: ProducerCore, now: float) -> list[object]:
        """The connection resets: some requests were handled, no answer comes."""
        for _ in range(self.rng.randint(0, len(self.links[node]))):
            self.handle(node)
        outcomes: list[object] = []
        while self.links[node]:
            outcomes += core.on_lost(self.links[node].popleft().call, now)
        return outcomes

    def move(self, tp: TopicPartition) -> None:
        """Another leader; what was not committed may be gone."""
        partition = self.partitions[tp]
        partition.leader = 1 - partition.leader
        keep = self.rng.randint(partition.committed, len(partition.batches))
        # The survivors are in the new leader's log, and it will replicate them: they are as good as committed.
        partition.batches = partition.batches[:keep]
        partition.committed = keep
        for flight in self.links[1 - partition.leader]:
            # The deposed leader gives no positive answer for what it had not committed.
            flight.answers = flight.answers and [
                (b, Answer(ErrorCode.not_leader_or_follower) if b.tp == tp else a, -1 if b.tp == tp else i)
                for b, a, i in flight.answers
            ]

    def learn(self) -> None:
        for partition in self.partitions.values():
            partition.known_leader = partition.leader
