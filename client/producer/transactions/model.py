"""The words and rules of a producer's transactions: states, requests, what each answer means (KIP-98, KIP-890)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from kio.schema.errors import ErrorCode

from ottla.client.producer.batch import ProducerIdentity
from ottla.client.structs import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition

SECOND: Final = 2
"""The level of the feature transaction.version from which on brokers add partitions to the transaction as they are
written to, and every transaction has an epoch of its own (KIP-890)."""


class State(Enum):
    """Where a transactional producer is; what may follow is in `TRANSITIONS`."""

    UNINITIALIZED = "Uninitialized"
    INITIALIZING = "Initializing"
    READY = "Ready"
    IN_TRANSACTION = "InTransaction"
    COMMITTING = "Committing"
    ABORTING = "Aborting"
    ABORTABLE_ERROR = "AbortableError"
    FATAL_ERROR = "FatalError"


TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    State.UNINITIALIZED: frozenset({State.INITIALIZING}),
    State.INITIALIZING: frozenset({State.READY, State.FATAL_ERROR}),
    State.READY: frozenset({State.IN_TRANSACTION}),
    State.IN_TRANSACTION: frozenset({State.COMMITTING, State.ABORTING, State.ABORTABLE_ERROR, State.FATAL_ERROR}),
    State.COMMITTING: frozenset({State.READY, State.INITIALIZING, State.ABORTABLE_ERROR, State.FATAL_ERROR}),
    State.ABORTING: frozenset({State.READY, State.INITIALIZING, State.FATAL_ERROR}),
    State.ABORTABLE_ERROR: frozenset({State.ABORTING, State.FATAL_ERROR}),
    State.FATAL_ERROR: frozenset(),
}


@dataclass(frozen=True, slots=True)
class InitProducerId:
    """Get a producer id and epoch, and have whatever an earlier producer of the same transactional id left open
    aborted. With `identity` only the epoch is raised (KIP-360)."""

    identity: ProducerIdentity | None


@dataclass(frozen=True, slots=True)
class AddPartitions:
    """AddPartitionsToTxn: before anything is written to them."""

    identity: ProducerIdentity
    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class AddOffsets:
    """AddOffsetsToTxn: before the offsets themselves are sent to the group's coordinator."""

    identity: ProducerIdentity
    group_id: str


@dataclass(frozen=True, slots=True)
class CommitOffsets:
    """TxnOffsetCommit, which goes to the coordinator of the group. `second`: it also adds them to the transaction."""

    identity: ProducerIdentity
    group: ConsumerGroupMetadata
    offsets: Mapping[TopicPartition, OffsetAndMetadata]
    second: bool


@dataclass(frozen=True, slots=True)
class EndTxn:
    """Commit or abort. `second`: the answer has the epoch of the next transaction."""

    identity: ProducerIdentity
    commit: bool
    second: bool


Request = InitProducerId | AddPartitions | AddOffsets | CommitOffsets | EndTxn


class Answer(NamedTuple):
    """`codes` by partition; under None that of the whole request."""

    codes: Mapping[TopicPartition | None, ErrorCode]
    broker: int
    identity: ProducerIdentity | None = None


class Meaning(Enum):
    """What follows from an error code, the gravest last."""

    DONE = 0
    AGAIN = 1
    """Try again at the same coordinator."""
    MOVED = 2
    """Look the coordinator up, and try again."""
    ABORT = 3
    """The transaction can only be aborted."""
    BUMP = 4
    """So it is, and the brokers have lost track of the producer: it needs another epoch."""
    FATAL = 5
    FENCED = 6


_EVERYWHERE: Final[Mapping[ErrorCode, Meaning]] = {
    ErrorCode.none: Meaning.DONE,
    ErrorCode.not_coordinator: Meaning.MOVED,
    ErrorCode.coordinator_not_available: Meaning.MOVED,
    ErrorCode.request_timed_out: Meaning.MOVED,
    ErrorCode.network_exception: Meaning.MOVED,
    ErrorCode.transaction_abortable: Meaning.ABORT,
    ErrorCode.topic_authorization_failed: Meaning.ABORT,
    ErrorCode.group_authorization_failed: Meaning.ABORT,
    ErrorCode.operation_not_attempted: Meaning.ABORT,
    ErrorCode.unknown_producer_id: Meaning.BUMP,
    # Coordinators of before KIP-588 do not tell the one from the other.
    ErrorCode.invalid_producer_epoch: Meaning.FENCED,
    ErrorCode.producer_fenced: Meaning.FENCED,
}

_OF: Final[Mapping[type, Mapping[ErrorCode, Meaning]]] = {
    CommitOffsets: {
        ErrorCode.unknown_member_id: Meaning.ABORT,
        ErrorCode.illegal_generation: Meaning.ABORT,
        ErrorCode.stale_member_epoch: Meaning.ABORT,
        ErrorCode.fenced_instance_id: Meaning.ABORT,
        ErrorCode.rebalance_in_progress: Meaning.ABORT,
        ErrorCode.offset_metadata_too_large: Meaning.ABORT,
        ErrorCode.invalid_commit_offset_size: Meaning.ABORT,
        ErrorCode.group_id_not_found: Meaning.ABORT,
        ErrorCode.invalid_group_id: Meaning.ABORT,
    },
    AddOffsets: {ErrorCode.invalid_group_id: Meaning.ABORT},
}

UNTOUCHED: Final = frozenset({ErrorCode.concurrent_transactions, ErrorCode.coordinator_load_in_progress})
"""Errors to retry after which the request surely had no effect; any other may be given after it was written down."""


def meaning(request: Request, code: ErrorCode) -> Meaning:
    """What an answer with this code means: what is not in the tables is tried again if it is retriable, else fatal."""
    found = _OF.get(type(request), {}).get(code) or _EVERYWHERE.get(code)
    if found is not None:
        return found
    return Meaning.AGAIN if code.retriable else Meaning.FATAL
