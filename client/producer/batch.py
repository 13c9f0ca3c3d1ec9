"""One batch of records on its way to one partition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kio.schema.errors import ErrorCode

from ottla.client.errors import KafkaError
from ottla.client.structs import Header, TopicPartition

BATCH_OVERHEAD = 61
"""Bytes of a record batch's header."""
RECORD_OVERHEAD = 21
"""The most that a record's own lengths and deltas take: KafkaProducer reckons with the same number."""


class ProducerIdentity(NamedTuple):
    """A producer id and its epoch; sequences count within both."""

    producer_id: int
    epoch: int


class BufferedRecord(NamedTuple):
    """A record as it waits (the shape that `ottla.records.encode_batch` takes)."""

    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


def record_size(key: bytes | None, value: bytes | None, headers: tuple[Header, ...]) -> int:
    """An upper bound of the record's size in a batch, in bytes and before compression."""
    size = RECORD_OVERHEAD + (len(key) if key else 0) + (len(value) if value else 0)
    for name, content in headers:
        size += 10 + len(name) * 4 + (len(content) if content else 0)
    return size


@dataclass(slots=True, eq=False)
class Batch:
    """Records of one partition that travel together, and what is known about their fate.

    `sequence` is -1 until the batch is first dispatched by an idempotent producer. `attempt` names the request
    that carries the batch now, None while it waits. `maybe_appended` says that some earlier request may have put
    the batch into the log although its answer never came or said otherwise.
    """

    tp: TopicPartition
    created_at: float
    deadline: float
    records: list[BufferedRecord] = field(default_factory=list)
    tokens: list[Any] = field(default_factory=list)
    size: int = BATCH_OVERHEAD
    closed: bool = False
    identity: ProducerIdentity | None = None
    sequence: int = -1
    attempt: int | None = None
    node: int = -1
    attempts: int = 0
    retry_at: float = 0.0
    maybe_appended: bool = False
    done: bool = False
    last_error: ErrorCode | None = None
    payload: bytes | None = None

    @property
    def sequenced(self) -> bool:
        return self.sequence >= 0

    def unsequence(self) -> None:
        """Forget the sequence: only for a batch that no log can hold."""
        self.identity, self.sequence, self.payload = None, -1, None


class Acked(NamedTuple):
    """A batch is in the log. `base_offset` is -1 if the broker did not say where."""

    batch: Batch
    base_offset: int
    log_append_time: int
    log_start_offset: int


class Failed(NamedTuple):
    """A batch was given up. `maybe_appended`: it may be in the log all the same. `code` None: it ran out of time, or
    `cause` says why the whole transaction is over."""

    batch: Batch
    code: ErrorCode | None
    message: str | None
    maybe_appended: bool
    cause: KafkaError | None = None


Outcome = Acked | Failed
