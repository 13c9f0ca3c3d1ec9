"""The classic group protocol as a state machine without I/O: events in, `Effects` out."""

from ottla.broker.groups.classic.group import CONSUMER, ClassicGroup
from ottla.broker.groups.classic.joining import join
from ottla.broker.groups.classic.membership import (
    check_commit,
    check_commit_in_transaction,
    crowd_out,
    end,
    gave_up,
    heartbeat,
    leave,
    rejoin,
    tick,
)
from ottla.broker.groups.classic.model import (
    TRANSITIONS,
    Answer,
    Effects,
    Identity,
    Join,
    JoinAnswer,
    JoinMember,
    Member,
    Now,
    State,
    Sync,
    SyncAnswer,
    Write,
)
from ottla.broker.groups.classic.syncing import sync, written

__all__ = [
    "CONSUMER",
    "TRANSITIONS",
    "Answer",
    "ClassicGroup",
    "Effects",
    "Identity",
    "Join",
    "JoinAnswer",
    "JoinMember",
    "Member",
    "Now",
    "State",
    "Sync",
    "SyncAnswer",
    "Write",
    "check_commit",
    "check_commit_in_transaction",
    "crowd_out",
    "end",
    "gave_up",
    "heartbeat",
    "join",
    "leave",
    "rejoin",
    "sync",
    "tick",
    "written",
]
