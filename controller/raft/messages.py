"""What Raft nodes say to one another, as frozen values.

The sender is not in the message: the transport authenticates it and hands it over beside the message. All indexes start
at 1; index 0 with term 0 is the empty log. Stamps are microseconds of the *leader's own* clock, made strictly
increasing, and only ever echoed by others: one number tells the leader both in which order and when it asked.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

from ottla.controller.raft.voter_set import VoterSet, pack_snapshot, unpack_snapshot


@dataclass(frozen=True, slots=True)
class Entry:
    """One place in the replicated log. ``data == b""`` is the no-op of a new leader (Raft section 8); it may also be a
    set of voters, see ``voter_set``."""

    index: int
    term: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state machine after applying everything up to and including ``index`` (Raft section 7).

    ``voters`` are those in force at ``index``; None if the log had none up to there.
    """

    index: int
    term: int
    data: bytes
    voters: VoterSet | None = None

    @property
    def payload(self) -> bytes:
        """What is sent and stored."""
        return pack_snapshot(self.data, self.voters)

    @classmethod
    def of_payload(cls, index: int, term: int, payload: bytes) -> Self:
        """Raises RaftInvariantError when it is damaged."""
        return cls(index, term, *unpack_snapshot(payload))


@dataclass(frozen=True, slots=True)
class VoteRequest:
    """RequestVote (section 5.2), or its rehearsal ``pre`` (thesis 9.6), which changes nothing at the receiver.

    ``term`` is the term that the candidate wants to lead; in a rehearsal the sender has not entered it.
    ``transfer`` marks an election that the old leader asked for: leases do not stand against it (thesis 3.10).
    ``identity`` (HardState.identity) comes back in the answer. ``founder`` is the receiver's own, as it told it in the
    rehearsal, when a cluster is founded: all voters have then been found to have no memory of one (see ``election``).
    """

    term: int
    last_index: int
    last_term: int
    pre: bool = False
    transfer: bool = False
    identity: str = ""
    founder: str = ""


@dataclass(frozen=True, slots=True)
class VoteResponse:
    """``term`` is the responder's own term; ``election`` is the term that was asked for. ``founder`` is its identity
    if it has no memory and would help to found a cluster."""

    term: int
    election: int
    granted: bool
    pre: bool = False
    identity: str = ""
    founder: str = ""


@dataclass(frozen=True, slots=True)
class AppendRequest:
    """AppendEntries (section 5.3); without entries it is the heartbeat, and carries the commit index.

    ``readmitted`` names (HardState.identity) a voter that lost its disk and may vote from now on (see ``leader.py``).
    """

    term: int
    prev_index: int
    prev_term: int
    commit: int
    stamp: int
    entries: tuple[Entry, ...] = ()
    readmitted: str = ""


@dataclass(frozen=True, slots=True)
class AppendResponse:
    """Answer to AppendRequest, sent only when everything up to ``index`` is durable.

    On success ``index`` is the last entry known to equal the leader's. Otherwise it is the request's ``prev_index``,
    and ``hint_index``/``hint_term`` bound the place where the two logs can last agree.
    ``recovering``: this node began with an empty disk, and its memory of votes and entries must not be counted on.
    """

    term: int
    success: bool
    index: int
    stamp: int
    hint_index: int = 0
    hint_term: int = 0
    identity: str = ""
    recovering: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """InstallSnapshot (section 7): bytes ``[offset, offset + len(data))`` of ``total``."""

    term: int
    index: int
    snapshot_term: int
    offset: int
    total: int
    stamp: int
    data: bytes


@dataclass(frozen=True, slots=True)
class SnapshotResponse:
    """The next byte of snapshot ``index`` that the follower can use."""

    term: int
    index: int
    next_offset: int
    stamp: int
    identity: str = ""
    recovering: bool = False


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """Leadership transfer (thesis 3.10): campaign at once."""

    term: int


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """A learner that hears no leader asks every voter to be replicated to. Learners are not part of any quorum.
    ``eligible``: it can be made a voter."""

    term: int
    eligible: bool = True


@dataclass(frozen=True, slots=True)
class LeaderHint:
    """Answer to a JoinRequest by a node that does not lead: who does. ``voters`` is a VoterSet as an entry has it, so
    that a node whose settings are old can find them."""

    term: int
    leader: int
    voters: bytes


Message = (
    VoteRequest
    | VoteResponse
    | AppendRequest
    | AppendResponse
    | SnapshotChunk
    | SnapshotResponse
    | TimeoutNow
    | JoinRequest
    | LeaderHint
)


class Envelope(NamedTuple):
    to: int
    message: Message
