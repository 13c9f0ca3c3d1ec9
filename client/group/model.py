"""The words between a member's machine and its shell: events go in, effects come out.

Both protocols use them, so that the shell need not know which one it carries out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from kio.schema.errors import ErrorCode

from ottla.client.errors import KafkaError
from ottla.client.group.protocol import Partitions


class Phase(Enum):
    """Where a member is; what may follow is in `TRANSITIONS`."""

    OUT = "out"
    JOINING = "joining"
    SYNCING = "syncing"
    STABLE = "stable"
    GIVING_UP = "giving up partitions"
    TAKING_OVER = "taking partitions over"
    IDLE = "left, until the program reads again"
    FAILED = "failed, until the program has seen the error"
    LEAVING = "leaving"


# What a member does next, by what it does now. Whatever happens while the program is told to give up or to take over
# waits until that is done.
TRANSITIONS: Mapping[Phase, frozenset[Phase]] = {
    Phase.OUT: frozenset({Phase.JOINING}),
    Phase.JOINING: frozenset(
        {Phase.SYNCING, Phase.GIVING_UP, Phase.LEAVING, Phase.FAILED, Phase.OUT, Phase.TAKING_OVER, Phase.STABLE}
    ),
    Phase.SYNCING: frozenset(
        {Phase.JOINING, Phase.GIVING_UP, Phase.TAKING_OVER, Phase.STABLE, Phase.LEAVING, Phase.FAILED, Phase.OUT}
    ),
    Phase.STABLE: frozenset(
        {Phase.JOINING, Phase.GIVING_UP, Phase.TAKING_OVER, Phase.LEAVING, Phase.FAILED, Phase.IDLE, Phase.OUT}
    ),
    Phase.GIVING_UP: frozenset(
        {Phase.JOINING, Phase.TAKING_OVER, Phase.STABLE, Phase.LEAVING, Phase.FAILED, Phase.IDLE, Phase.OUT}
        | {Phase.GIVING_UP}
    ),
    Phase.TAKING_OVER: frozenset(
        {Phase.JOINING, Phase.GIVING_UP, Phase.STABLE, Phase.LEAVING, Phase.FAILED, Phase.OUT, Phase.TAKING_OVER}
    ),
    Phase.IDLE: frozenset({Phase.JOINING, Phase.OUT, Phase.GIVING_UP, Phase.FAILED}),
    Phase.FAILED: frozenset({Phase.JOINING, Phase.OUT, Phase.GIVING_UP, Phase.LEAVING}),
    Phase.LEAVING: frozenset({Phase.OUT, Phase.JOINING}),
}


@dataclass(frozen=True, slots=True)
class MemberConfig:
    """Times in seconds. `instance_id` makes the member static (KIP-345)."""

    group_id: str
    instance_id: str | None = None
    session_timeout: float = 45.0
    heartbeat_interval: float = 3.0
    max_poll_interval: float = 300.0
    rack: str | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom a member commits."""

    member_id: str = ""
    generation: int = -1
    instance_id: str | None = None


# Events


@dataclass(frozen=True, slots=True)
class Subscribe:
    """These topics from now on, and those that match the expression (of RE2, for the coordinator); none: leave."""

    topics: frozenset[str]
    regex: str = ""


@dataclass(frozen=True, slots=True)
class Rejoin:
    """The member has seen something that asks for another assignment."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to the last request of this kind; `body` is what the shell read of it."""

    kind: str
    code: ErrorCode
    body: Any = None
    broker: int | None = None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The last request of this kind got no answer: nobody knows what became of it."""

    kind: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The last request of this kind cannot be sent at all, or its answer cannot be understood."""

    kind: str
    error: KafkaError


@dataclass(frozen=True, slots=True)
class Fenced:
    """A commit of this identity was refused."""

    code: ErrorCode
    identity: Identity


@dataclass(frozen=True, slots=True)
class Done:
    """The program was told what the last GiveUp or TakeOver said."""


@dataclass(frozen=True, slots=True)
class Polled:
    """The program reads again, after it was found idle or was shown an error."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed. `busy_since` is when the program took its last records, None while it waits for some."""

    busy_since: float | None


Event = Subscribe | Rejoin | Answered | Unreachable | Refused | Fenced | Done | Polled | Tick


# Actions


@dataclass(frozen=True, slots=True)
class Send:
    """Ask the coordinator. A kind has one request at a time: one that is still out is forgotten."""

    kind: str
    values: Mapping[str, Any]
    body: Any = None


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop reading these and tell the program. Unless they are `lost`, its place in them is committed before that."""

    partitions: Partitions
    lost: bool


@dataclass(frozen=True, slots=True)
class TakeOver:
    """`owned` is everything from now on, `added` what was not there before."""

    owned: Partitions
    added: Partitions


@dataclass(frozen=True, slots=True)
class Fail:
    """The program has to hear of this."""

    error: KafkaError


@dataclass(frozen=True, slots=True)
class Note:
    """Something to write into the log."""

    event: str
    facts: Mapping[str, Any]


Action = Send | GiveUp | TakeOver | Fail | Note


@dataclass(slots=True)
class Effects:
    """`actions` in this order; `wake_at` is the time of the next Tick."""

    actions: list[Action] = field(default_factory=list)
    wake_at: float | None = None


class Machine(Protocol):
    """A member of a group under one of the two protocols."""

    @property
    def phase(self) -> Phase: ...
    @property
    def identity(self) -> Identity: ...
    @property
    def owned(self) -> Partitions: ...
    @property
    def waits_for_poll(self) -> bool: ...
    def step(self, event: Event, now: float) -> Effects: ...
