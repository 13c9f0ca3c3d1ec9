"""The queue of one partition: order, sequences, and what an error means for them.

Exactly-once on one partition rests on three rules (KIP-98, KIP-360):

1. a batch keeps the sequence it was first sent with through every retry, and retries go out in order;
2. a sequence is given only while every earlier one is settled or on its first way to the same broker, at most
   five: behind a batch that is being retried, more could push it out of the five that brokers deduplicate;
3. after a gap (a sequenced batch was given up, or the broker lost track) nothing is sequenced in the same epoch
   any more. The partition moves to the next epoch once no sequenced batch is left. A batch moves with it only if
   no log can hold it; one that may have been appended fails instead, because a second copy would be worse.
"""

from __future__ import annotations

from collections import deque

from kio.schema.errors import ErrorCode

from ottla.client.errors import KafkaError
from ottla.client.producer.batch import Batch, Failed, Outcome, ProducerIdentity
from ottla.client.structs import TopicPartition

MAX_SEQUENCED = 5
"""Unsettled sequenced batches of one partition: the brokers remember as many for deduplication."""

SEQUENCE_ERRORS = frozenset({ErrorCode.out_of_order_sequence_number, ErrorCode.unknown_producer_id})

AMBIGUOUS = frozenset(
    {
        ErrorCode.unknown_server_error,
        ErrorCode.not_leader_or_follower,
        ErrorCode.request_timed_out,
        ErrorCode.network_exception,
        ErrorCode.not_enough_replicas_after_append,
        ErrorCode.fenced_leader_epoch,
        ErrorCode.kafka_storage_error,
    }
)
"""Errors that a broker may give after the batch is in its log (KAFKA-13574 for NOT_LEADER_OR_FOLLOWER)."""


class PartitionQueue:
    """Unsettled batches of one partition in the order of their records; the last one may still be open."""

    def __init__(self, tp: TopicPartition, *, idempotent: bool, transactional: bool = False) -> None:
        self.tp = tp
        self.idempotent = idempotent
        self.transactional = transactional
        self.batches: deque[Batch] = deque()
        self.identity: ProducerIdentity | None = None
        self.next_sequence = 0
        self.gap = False
        self.established = False
        """The log holds a batch of this identity, so the brokers can tell a gap. Before that Kafka accepts any
        first sequence, and a second batch in flight could overtake the first."""

    def candidate(self) -> Batch | None:
        """The one batch that may be sent next, whatever the time and the identity; None if it must wait."""
        in_flight = 0
        retrying = False
        for batch in self.batches:
            if batch.attempt is not None:
                in_flight += 1
                retrying |= batch.attempts > 1
                continue
            if in_flight == 0:
                return batch
            if not self.idempotent or batch.sequenced or retrying or not self.established:
                return None
            return batch if in_flight < MAX_SEQUENCED else None
        return None

    def has_sequenced(self) -> bool:
        """Whether any batch still holds a sequence, sent or waiting to be sent again."""
        return any(batch.sequenced for batch in self.batches)

    def adopt(self, identity: ProducerIdentity) -> None:
        """Begin at sequence 0 of another identity; no batch may hold a sequence."""
        if self.has_sequenced() or identity == self.identity:
            raise RuntimeError(f"{self.tp}: identity {identity} adopted while sequences of it are in use")
        # A log that knows the producer also knows that a new epoch begins with sequence 0.
        same = self.identity is not None and self.identity.producer_id == identity.producer_id
        known = self.transactional and self.established and same
        self.identity, self.next_sequence, self.gap, self.established = identity, 0, False, known

    def sequence(self, batch: Batch) -> None:
        """Give a batch the next sequence of the adopted identity."""
        if batch.sequence >= 0 or self.identity is None or self.gap:
            raise RuntimeError(f"{self.tp}: batch cannot be sequenced now")
        batch.identity, batch.sequence = self.identity, self.next_sequence
        self.next_sequence = (self.next_sequence + len(batch.records)) & 0x7FFFFFFF

    def abandon(self, leader: int, now: float) -> None:
        """The partition has a new leader: do not wait for the old one to answer, it may never do so.

        Only for idempotent producers, whose second copy the new leader recognises.
        """
        for batch in self.batches:
            if batch.attempt is not None and batch.node != leader:
                batch.attempt, batch.maybe_appended, batch.retry_at = None, True, now

    def fail(
        self, batch: Batch, code: ErrorCode | None, message: str | None, cause: KafkaError | None = None
    ) -> list[Outcome]:
        """Give up a batch for good."""
        batch.done, batch.attempt = True, None
        self.batches.remove(batch)
        self.gap |= batch.sequenced
        return [Failed(batch, code, message, batch.maybe_appended, cause), *self.settle()]

    def out_of_sequence(self, batch: Batch, code: ErrorCode, now: float) -> list[Outcome]:
        """The broker expected another sequence than the batch's."""
        for other in self.batches:
            if other is batch:
                break
            if other.sequenced:
                # An earlier batch is not settled, so this one was bound to be refused. It follows that one.
                batch.retry_at = now
                return []
        self.established = False
        if batch.maybe_appended or self.transactional:
            return self.fail(batch, code, "the broker lost track of the producer")
        self.gap = True
        batch.unsequence()
        batch.retry_at = now
        return self.settle()

    def settle(self) -> list[Outcome]:
        """After a gap: free every waiting sequenced batch that stands behind one without a sequence.

        In its place it could never be sent: the one before it has to go first, and that one needs the next epoch,
        which in turn waits for all sequences of this epoch to be settled.
        """
        if not self.gap:
            return []
        outcomes: list[Outcome] = []
        behind = False
        for batch in list(self.batches):
            if not batch.sequenced:
                behind = True
            elif behind and batch.attempt is None:
                if batch.maybe_appended:
                    batch.done = True
                    self.batches.remove(batch)
                    message = "an earlier batch was lost"
                    outcomes.append(Failed(batch, ErrorCode.out_of_order_sequence_number, message, True))
                else:
                    batch.unsequence()
        return outcomes
