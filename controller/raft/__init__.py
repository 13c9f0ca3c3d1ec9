"""Raft of the metadata quorum: a pure core (``RaftCore``), its storage, and the asyncio shell around both."""

from ottla.controller.raft.config import (
    HardState,
    PersistentState,
    RaftConfig,
    Ready,
    Role,
)
from ottla.controller.raft.core import RaftCore
from ottla.controller.raft.driver import RaftDriver, Transport
from ottla.controller.raft.errors import RaftInvariantError, Refusal
from ottla.controller.raft.log_storage import LogStorage
from ottla.controller.raft.messages import Entry, Envelope, Message, Snapshot
from ottla.controller.raft.storage import Storage
from ottla.controller.raft.voter_set import VoterNode, VoterSet
from ottla.controller.raft.waiters import ChangeRefused, NotLeader, OutcomeUnknown, Overloaded, RaftStatus, RaftStopped

__all__ = [
    "ChangeRefused",
    "Entry",
    "Envelope",
    "HardState",
    "LogStorage",
    "Message",
    "NotLeader",
    "OutcomeUnknown",
    "Overloaded",
    "PersistentState",
    "RaftConfig",
    "RaftCore",
    "RaftDriver",
    "RaftInvariantError",
    "RaftStatus",
    "RaftStopped",
    "Ready",
    "Refusal",
    "Role",
    "Snapshot",
    "Storage",
    "Transport",
    "VoterNode",
    "VoterSet",
]
