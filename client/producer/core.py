"""The producer without I/O: what to send to which broker, when, and what each answer means.

The shell (`sender`) feeds records, time, leaders and answers in, and gets requests and outcomes out. It sends the
requests of one `dispatch` in their order, each node's over one connection, and tells the fate of each exactly once:
`on_answer` per batch, or `on_lost` for the whole request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from kio.schema.errors import ErrorCode

from ottla.client.backoff import IN_THE_WAY, Backoff
from ottla.client.errors import KafkaError
from ottla.client.producer.batch import (
    BATCH_OVERHEAD,
    Acked,
    Batch,
    BufferedRecord,
    Outcome,
    ProducerIdentity,
    record_size,
)
from ottla.client.producer.sequencer import AMBIGUOUS, SEQUENCE_ERRORS, PartitionQueue
from ottla.client.structs import Header, TopicPartition

if TYPE_CHECKING:
    import random

MAX_EPOCH = 0x7FFF
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """Times in seconds, sizes in bytes. `transactional`: identities come from outside, one for every transaction or
    for many, and a batch that is given up takes the transaction with it."""

    idempotent: bool = True
    transactional: bool = False
    linger: float = 0.005
    max_batch_size: int = 16384
    max_request_size: int = 1048576
    buffer_memory: int = 33554432
    delivery_timeout: float = 120.0
    backoff: Backoff = field(default_factory=Backoff)


class Call(NamedTuple):
    """One Produce request: at most one batch per partition, all led by `node`."""

    node: int
    attempt: int
    batches: tuple[Batch, ...]


class Dispatch(NamedTuple):
    """What to do now. `leaderless` waits for metadata; `wake_at` is when time alone changes something; with `more`
    there may be further requests to form at once."""

    calls: list[Call]
    leaderless: set[TopicPartition]
    wanted_nodes: set[int]
    wake_at: float | None
    more: bool = False


class Answer(NamedTuple):
    """One partition's part of a Produce answer. `rerouted`: the answer named a newer leader (KIP-951)."""

    code: ErrorCode
    base_offset: int = -1
    log_append_time: int = -1
    log_start_offset: int = -1
    message: str | None = None
    rerouted: bool = False


class ProducerCore:
    """Accumulates records, forms batches and sequences them, partition by partition."""

    def __init__(self, options: CoreOptions, rng: random.Random) -> None:
        self.options = options
        self.identity: ProducerIdentity | None = None
        self.admitted: Callable[[TopicPartition], bool] | None = None
        """Which partitions may be sent to at present; None: all of them."""
        self.doom: KafkaError | None = None
        """Why nothing more of the present transaction is sent, if that is so."""
        self.flushing = False
        self.buffered_bytes = 0
        self._rng = rng
        self._queues: dict[TopicPartition, PartitionQueue] = {}
        self._attempts = 0

    @property
    def pending(self) -> bool:
        """Whether any record is not settled."""
        return self.buffered_bytes > 0

    @property
    def needs_identity(self) -> bool:
        """Whether InitProducerId has to be called before anything can be sent."""
        return self.options.idempotent and not self.options.transactional and self.identity is None

    @property
    def in_flight(self) -> bool:
        """Whether any batch is on its way to a broker."""
        return any(batch.attempt is not None for queue in self._queues.values() for batch in queue.batches)

    @property
    def gap(self) -> bool:
        """Whether sequences of the present identity were given to batches that were given up."""
        return any(queue.gap and queue.identity == self.identity for queue in self._queues.values())

    def unsettled(self) -> list[Batch]:
        """Every batch that has no outcome yet."""
        return [batch for queue in self._queues.values() for batch in queue.batches]

    def fits(self, size: int) -> bool:
        """Whether a record of `size` bytes fits into the buffer; a lone one always does."""
        return self.buffered_bytes == 0 or self.buffered_bytes + size <= self.options.buffer_memory

    def append(
        self,
        tp: TopicPartition,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[Header, ...],
        token: Any,
        now: float,
        size: int | None = None,
    ) -> bool:
        """Buffer one record (the caller has checked `fits`, and may have worked out its `record_size` for that). True
        if a batch became ready by it."""
        if size is None:
            size = record_size(key, value, headers)
        queue = self._queues.get(tp)
        if queue is None:
            options = self.options
            queue = PartitionQueue(tp, idempotent=options.idempotent, transactional=options.transactional)
            self._queues[tp] = queue
        batch = queue.batches[-1] if queue.batches else None
        fresh = batch is None or batch.closed or batch.size + size > self.options.max_batch_size
        if batch is None or fresh:
            if batch is not None:
                batch.closed = True
            batch = Batch(tp, now, now + self.options.delivery_timeout)
            queue.batches.append(batch)
        batch.records.append(BufferedRecord(timestamp, key, value, headers))
        batch.tokens.append(token)
        batch.size += size
        self.buffered_bytes += size
        return fresh or batch.size >= self.options.max_batch_size

    def dispatch(
        self, now: float, leader: Callable[[TopicPartition], int | None], slots: Callable[[int], int]
    ) -> Dispatch:
        """Form requests for whatever may be sent at `now`.

        Args:
            leader: the node that leads a partition, None if unknown.
            slots: how many more requests may be put in flight to a node; 0 if there is no connection.
        """
        chosen: dict[int, list[Batch]] = {}
        sizes: dict[int, int] = {}
        leaderless: set[TopicPartition] = set()
        wake_at = NEVER
        more = False
        admitted = self.admitted
        wanted: set[int] = set()
        for queue in list(self._queues.values()):
            if not queue.batches:
                continue
            tp = queue.tp
            node = leader(tp)
            batch = self._candidate(queue, node, now)
            if admitted is not None and not admitted(tp):
                batch = None
            if queue.batches[0].deadline < wake_at:
                wake_at = queue.batches[0].deadline
            if batch is None:
                continue
            due = self._due(batch)
            if due > now:
                if due < wake_at:
                    wake_at = due
                continue
            if node is None:
                leaderless.add(tp)
                continue
            wanted.add(node)
            size = sizes.get(node, 0)
            if size and size + batch.size > self.options.max_request_size:
                more = True
                continue
            if not (size or slots(node) > 0) or not self._prepare(queue, batch):
                continue
            if size:
                chosen[node].append(batch)
            else:
                chosen[node] = [batch]
            more |= batch is not queue.batches[-1]
            sizes[node] = size + batch.size
            # Those that were served go to the end, so that full requests cannot starve the others.
            self._queues[tp] = self._queues.pop(tp)
        calls = [self._start(node, batches) for node, batches in chosen.items()]
        return Dispatch(calls, leaderless, wanted, None if wake_at == NEVER else wake_at, more)

    def on_answer(self, call: Call, batch: Batch, answer: Answer, now: float) -> list[Outcome]:
        """The broker answered for one batch of a call."""
        if batch.done:
            return []
        queue = self._queues[batch.tp]
        code = answer.code
        if code is ErrorCode.none or code is ErrorCode.duplicate_sequence_number:
            # Also when the batch was already sent elsewhere: that copy is recognised as one.
            batch.done, batch.attempt = True, None
            queue.batches.remove(batch)
            queue.established |= batch.identity == queue.identity
            acked = Acked(batch, answer.base_offset, answer.log_append_time, answer.log_start_offset)
            return self._settled([acked, *queue.settle()] if queue.gap else [acked])
        if batch.attempt != call.attempt:
            return []
        batch.attempt, batch.last_error = None, code
        if self.options.idempotent and code in SEQUENCE_ERRORS:
            return self._settled(queue.out_of_sequence(batch, code, now))
        batch.maybe_appended |= code in AMBIGUOUS
        if not self._retriable(code):
            return self._settled(queue.fail(batch, code, answer.message))
        backoff = IN_THE_WAY if code is ErrorCode.concurrent_transactions else self.options.backoff
        batch.retry_at = now if answer.rerouted else now + backoff.delay(batch.attempts, self._rng)
        return self._settled(queue.settle())

    def on_lost(self, call: Call, now: float) -> list[Outcome]:
        """The connection broke or the request timed out: nobody knows what became of it."""
        outcomes: list[Outcome] = []
        for batch in call.batches:
            if batch.done or batch.attempt != call.attempt:
                continue
            batch.attempt, batch.maybe_appended = None, True
            batch.last_error = ErrorCode.network_exception
            # The first retry waits for nothing but a leader that can be reached; that alone is slow enough.
            wait = self.options.backoff.delay(batch.attempts - 1, self._rng) if batch.attempts > 1 else 0.0
            batch.retry_at = now + wait
            outcomes += self._queues[batch.tp].settle()
        return self._settled(outcomes)

    def expire(self, now: float) -> list[Outcome]:
        """Give up batches whose delivery timeout has passed, in flight or not, and those of a doomed transaction that
        are not in flight."""
        if not self.buffered_bytes:
            return []
        outcomes = [] if self.doom is None else self._give_up(self.doom, in_flight=False)
        for queue in self._queues.values():
            while queue.batches and queue.batches[0].deadline <= now:
                batch = queue.batches[0]
                batch.maybe_appended |= batch.attempt is not None
                outcomes += queue.fail(batch, None, "delivery timeout")
        return self._settled(outcomes)

    def fail_all(self, code: ErrorCode | None, message: str) -> list[Outcome]:
        """Give up everything, on a close without waiting."""
        outcomes: list[Outcome] = []
        for queue in self._queues.values():
            while queue.batches:
                batch = queue.batches[0]
                batch.maybe_appended |= batch.attempt is not None
                outcomes += queue.fail(batch, code, message)
        return self._settled(outcomes)

    def fail_transaction(self, cause: KafkaError, *, in_flight: bool) -> list[Outcome]:
        """Give up what is not on its way, now and from now on; with `in_flight` that too."""
        self.doom = cause
        return self._settled(self._give_up(cause, in_flight=in_flight))

    def _give_up(self, cause: KafkaError, *, in_flight: bool) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for queue in self._queues.values():
            for batch in list(queue.batches):
                if batch.done or (batch.attempt is not None and not in_flight):
                    continue
                batch.maybe_appended |= batch.attempt is not None
                outcomes += queue.fail(batch, None, None, cause)
        return outcomes

    def _candidate(self, queue: PartitionQueue, node: int | None, now: float) -> Batch | None:
        """The batch that may be sent next; `node` leads the partition (None: nobody does)."""
        first = queue.batches[0]
        if first.attempt is None and first is queue.batches[-1]:
            return first  # as below: the only one, which nobody has
        if node is not None and self.options.idempotent:
            queue.abandon(node, now)
        return queue.candidate()

    def _due(self, batch: Batch) -> float:
        if batch.closed or self.flushing or batch.size >= self.options.max_batch_size:
            return batch.retry_at
        return max(batch.retry_at, batch.created_at + self.options.linger)

    def _prepare(self, queue: PartitionQueue, batch: Batch) -> bool:
        """Whether the batch can go now; gives it a sequence if it needs one."""
        if not self.options.idempotent or batch.sequence >= 0:
            return True
        if self.identity is None:
            return False
        if queue.gap or queue.identity != self.identity:  # the next sequence has to be the first one of another
            if queue.has_sequenced():
                return False
            if queue.identity == self.identity and (self.options.transactional or not self._bump()):
                return False
            queue.adopt(self.identity)
        queue.sequence(batch)
        return True

    def _bump(self) -> bool:
        """Move to the next epoch. This producer id is nobody else's, so that needs no broker (KIP-360).

        False when the epochs are used up: then a new producer id has to be asked for.
        """
        identity = self.identity
        if identity is None or identity.epoch >= MAX_EPOCH:
            self.identity = None
            return False
        self.identity = ProducerIdentity(identity.producer_id, identity.epoch + 1)
        return True

    def _start(self, node: int, batches: list[Batch]) -> Call:
        self._attempts += 1
        for batch in batches:
            batch.closed, batch.attempt, batch.node = True, self._attempts, node
            batch.attempts += 1
        return Call(node, self._attempts, tuple(batches))

    def _retriable(self, code: ErrorCode) -> bool:
        # UNKNOWN_SERVER_ERROR says nothing about the log. A sequence makes the second try harmless.
        return code.retriable or (self.options.idempotent and code is ErrorCode.unknown_server_error)

    def _settled(self, outcomes: list[Outcome]) -> list[Outcome]:
        for outcome in outcomes:
            self.buffered_bytes -= outcome.batch.size - BATCH_OVERHEAD
        return outcomes
