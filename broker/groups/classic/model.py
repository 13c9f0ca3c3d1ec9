"""The words of the classic group protocol: states and their transitions, requests, answers, effects. All data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, NamedTuple, TypeAlias

from kio.schema.errors import ErrorCode

from ottla.broker.coordination import Ticket
from ottla.broker.groups.newcomers import size_of
from ottla.broker.groups.records import StoredGroup


class State(Enum):
    """Kafka's states of a classic group, by the names that clients are told."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    State.EMPTY: frozenset({State.PREPARING_REBALANCE, State.DEAD}),
    State.PREPARING_REBALANCE: frozenset({State.COMPLETING_REBALANCE, State.EMPTY, State.DEAD}),
    State.COMPLETING_REBALANCE: frozenset({State.STABLE, State.PREPARING_REBALANCE, State.DEAD}),
    State.STABLE: frozenset({State.PREPARING_REBALANCE, State.DEAD}),
    State.DEAD: frozenset(),
}

Protocols: TypeAlias = tuple[tuple[str, bytes], ...]
"""What a member can do, in its order of preference: (name, metadata)."""


class Now(NamedTuple):
    """The moment of an event: `at` in s of a clock that only goes forward, `ms` since the epoch."""

    at: float
    ms: int


@dataclass(frozen=True, slots=True)
class Join:
    """A JoinGroup request. `fresh_id` is the id to give if a new one is needed, drawn by the shell.

    `may_defer_id` is whether the client knows MEMBER_ID_REQUIRED (KIP-394, v4); `may_skip` whether it knows
    `skip_assignment` (v9).
    """

    ticket: Ticket
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_ms: int
    rebalance_ms: int
    protocol_type: str
    protocols: Protocols
    fresh_id: str
    may_defer_id: bool = True
    may_skip: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Sync:
    """A SyncGroup request; `assignments` come from the leader only."""

    ticket: Ticket
    member_id: str
    instance_id: str | None
    generation: int
    protocol_type: str | None
    protocol: str | None
    assignments: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who leaves: by member id, by instance id, or both (KIP-345)."""

    member_id: str
    instance_id: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class JoinMember:
    """A member as the leader is told of it."""

    member_id: str
    instance_id: str | None
    metadata: bytes


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    error: ErrorCode
    member_id: str = ""
    generation: int = -1
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    members: tuple[JoinMember, ...] = ()
    skip_assignment: bool = False


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    error: ErrorCode
    protocol_type: str | None = None
    protocol: str | None = None
    assignment: bytes = b""


Answer: TypeAlias = JoinAnswer | SyncAnswer
Purpose: TypeAlias = Literal["assignment", "empty", "static"]


@dataclass(frozen=True, slots=True)
class Write:
    """A record to be replicated before anybody is told. `ClassicGroup.written` wants it back with the outcome.

    `answers` are given when the record is committed (purpose "static").
    """

    purpose: Purpose
    value: StoredGroup
    answers: tuple[tuple[Ticket, JoinAnswer], ...] = ()


@dataclass(slots=True)
class Effects:
    """What an event asks of the shell: send `replies`, replicate `writes` in order, call `tick` not later than
    `wake_at` (s; None: no earlier than was said before). `news` are changes worth a line in the log."""

    replies: list[tuple[Ticket, Answer]] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    wake_at: float | None = None
    news: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def wake(self, at: float) -> None:
        if self.wake_at is None or at < self.wake_at:
            self.wake_at = at

    def reply(self, ticket: Ticket | None, answer: Answer) -> None:
        if ticket is not None:
            self.replies.append((ticket, answer))


@dataclass(slots=True, eq=False)
class Member:
    """A member while the group lives. `deadline` (s) is when its session ends unless it is waiting for an answer.

    `is_new` until its first rebalance completes: a member that waits for its first answer is not known to be alive,
    and goes at its deadline even while it waits.
    """

    id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_ms: int
    rebalance_ms: int
    protocols: Protocols
    assignment: bytes = b""
    deadline: float = 0.0
    is_new: bool = False
    join_ticket: Ticket | None = None
    sync_ticket: Ticket | None = None

    def metadata(self, protocol: str | None) -> bytes:
        """What it said with `protocol`; empty for one that it does not know."""
        return next((data for name, data in self.protocols if name == protocol), b"")

    @property
    def size(self) -> int:
        """Bytes of what it sent."""
        said = (part for protocol in self.protocols for part in protocol)
        return size_of((self.instance_id, self.client_id, self.client_host, *said))

    @property
    def waits(self) -> bool:
        return self.sync_ticket is not None or self.join_ticket is not None

    def expired(self, now: float) -> bool:
        return self.deadline <= now and (self.is_new or not self.waits)
