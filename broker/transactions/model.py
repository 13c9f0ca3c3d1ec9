"""The words of the coordinator: states and their transitions, and a transactional id as its log has it. All data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

from kio.schema.errors import ErrorCode

Partition: TypeAlias = tuple[str, int]
"""Topic and index."""

MAX_EPOCH: Final = 32767
LAST_EPOCH: Final = MAX_EPOCH - 1
"""The last epoch that a producer gets. One more is kept, so that it can always be fenced."""

VERSION_1: Final = 0
"""What Kafka writes for a client without transactions v2 (its feature levels 0 and 1)."""
VERSION_2: Final = 2
"""A new epoch for every transaction, and partitions added by their leaders (KIP-890, part 2)."""


class State(IntEnum):
    """Kafka's states, by the numbers that are in the log."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6
    PREPARE_EPOCH_FENCE = 7

    @property
    def label(self) -> str:
        """As clients are told."""
        return "".join(word.capitalize() for word in self.name.split("_"))


TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    State.EMPTY: frozenset({State.EMPTY, State.ONGOING, State.PREPARE_ABORT, State.DEAD}),
    State.ONGOING: frozenset({State.ONGOING, State.PREPARE_COMMIT, State.PREPARE_ABORT, State.PREPARE_EPOCH_FENCE}),
    State.PREPARE_EPOCH_FENCE: frozenset({State.PREPARE_ABORT}),
    State.PREPARE_COMMIT: frozenset({State.COMPLETE_COMMIT}),
    State.PREPARE_ABORT: frozenset({State.COMPLETE_ABORT}),
    State.COMPLETE_COMMIT: frozenset({State.EMPTY, State.ONGOING, State.PREPARE_ABORT, State.DEAD}),
    State.COMPLETE_ABORT: frozenset({State.EMPTY, State.ONGOING, State.PREPARE_ABORT, State.DEAD}),
    State.DEAD: frozenset(),
}
"""PREPARE_EPOCH_FENCE and DEAD are passed through, and never in the log: the fencing of a producer is one record with
the abort of its transaction, and the end of an id is a tombstone."""

PREPARED: Final = frozenset({State.PREPARE_COMMIT, State.PREPARE_ABORT})
"""The outcome is decided, and the partitions are being told."""
IDLE: Final = frozenset({State.EMPTY, State.COMPLETE_COMMIT, State.COMPLETE_ABORT})
"""No transaction is under way."""


class Producer(NamedTuple):
    """A producer id with its epoch; -1 for none."""

    id: int
    epoch: int

    @property
    def exhausted(self) -> bool:
        """Whether it has had its last epoch."""
        return self.epoch >= LAST_EPOCH


NO_PRODUCER: Final = Producer(-1, -1)


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transactional id, and the transaction that it has or had last. Times in ms since the epoch, -1 for none.

    `previous_id` is the producer id before the last change of it; `next_id` the one that takes over when this
    transaction is complete, because the epochs of the present one are used up. `last_epoch` is the one before the
    present, as long as only the same producer can have had it: who still names it did not hear the last answer (-1:
    nobody may name it). `version` is by which transactions protocol its present state came to be.
    """

    producer: Producer
    state: State
    timeout_ms: int
    updated_at: int
    started_at: int = -1
    partitions: frozenset[Partition] = frozenset()
    previous_id: int = -1
    next_id: int = -1
    last_epoch: int = -1
    version: int = VERSION_1

    @property
    def successor(self) -> Producer:
        """Who may begin the next transaction."""
        return self.producer if self.next_id < 0 else Producer(self.next_id, 0)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a request comes to.

    `record` has to be written first (with `forget` a tombstone), and the rest is told when it is committed. `producer`
    goes with the answer. With `needs_id` nothing is decided: the same has to be asked again with a new producer id.
    """

    error: ErrorCode = ErrorCode.none
    record: Transaction | None = None
    producer: Producer = NO_PRODUCER
    needs_id: bool = False
    forget: bool = False


NEEDS_ID: Final = Decision(needs_id=True)
