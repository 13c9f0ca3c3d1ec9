"""Settings, roles and persistent state of a Raft node. Times are seconds (floats of the event loop's clock)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ottla.controller.raft.errors import Refusal
from ottla.controller.raft.messages import Entry, Envelope, Snapshot
from ottla.controller.raft.voter_set import VoterSet, is_voter_set


class Role(StrEnum):
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"
    LEARNER = "learner"


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Static settings; raises ValueError on a combination that cannot work.

    ``voters`` (``addresses``: where they listen) are those of the settings, in force until the log has others. A node
    that is not among the voters in force is a learner. ``directory_id`` is that of meta.properties; it becomes a part
    of the name by which a voter that lost its disk is told from the voter that it was. Only a node that is ``eligible``
    can be made a voter.

    A node that does not ``found`` goes by voters that others told it of: there is a cluster, so that it never begins
    another one, and until they are found there may be none.
    """

    node_id: int
    voters: frozenset[int]
    addresses: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    directory_id: str = ""
    eligible: bool = True
    founds: bool = True
    election_timeout: float = 1.0
    heartbeat_interval: float = 0.15
    suspect_stagger: float = 0.02
    max_batch_bytes: int = 256 * 1024
    max_batch_entries: int = 512
    max_inflight: int = 16
    max_uncommitted_bytes: int = 64 * 1024 * 1024
    max_learners: int = 256
    snapshot_chunk_bytes: int = 512 * 1024
    max_snapshot_bytes: int = 256 * 1024 * 1024
    retained_entries: int = 1024

    def __post_init__(self) -> None:
        if not self.voters and self.founds:
            raise ValueError("a quorum needs at least one voter")
        if not 0 < self.heartbeat_interval * 2 <= self.election_timeout:
            raise ValueError("the heartbeat interval must be at most half the election timeout")
        if min(self.max_batch_bytes, self.max_batch_entries, self.max_inflight, self.snapshot_chunk_bytes) < 1:
            raise ValueError("batch, window and chunk sizes must be positive")

    @property
    def bootstrap(self) -> VoterSet:
        return VoterSet.bootstrap(self.voters, self.addresses)

    @property
    def is_replaceable(self) -> bool:
        """The others are a majority without this node, so that they can give back what it loses."""
        return len(self.voters - {self.node_id}) > len(self.voters) // 2


@dataclass(frozen=True, slots=True)
class HardState:
    """What must be durable before it is answered for (section 5): the term, the vote in it, whether this voter still
    recovers from the loss of its disk, and the name of this memory: whoever starts without one takes a new name.

    ``damaged``: it recovers from the loss of entries, not from that of everything. Unlike an empty directory that is
    never the beginning of a cluster.
    """

    term: int = 0
    vote: int | None = None
    recovering: bool = False
    identity: str = ""
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class PersistentState:
    """What storage found. ``hard_state is None`` with nothing else: the directory was empty."""

    hard_state: HardState | None = None
    snapshot: Snapshot | None = None
    entries: tuple[Entry, ...] = ()

    @property
    def has_voters(self) -> bool:
        """Whether the log knows who votes, so that the settings do not count."""
        return (self.snapshot is not None and self.snapshot.voters is not None) or any(
            is_voter_set(entry.data) for entry in self.entries
        )


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything that the core wants done, in this order:

    1. ``urgent`` messages may leave at once: a leader's appends need no local fsync first (thesis 10.2.1), because
       the leader counts its own copy only when ``RaftCore.persisted`` is called.
    2. Make durable, in this order: ``hard_state``, ``snapshot`` (when ``install``, it also replaces the whole log),
       ``entries`` (the log is first cut before ``entries[0].index``).
    3. Only then: send ``messages``, apply ``installed`` and ``committed``, answer ``barriers``
       (token, index that must be applied first) and ``changes`` of the voters (token, and the index of the entry that
       makes the change or why there is none), call ``RaftCore.persisted`` with this value.

    One Ready is finished before the next one is taken; the core may be stepped meanwhile.
    """

    urgent: tuple[Envelope, ...] = ()
    snapshot: Snapshot | None = None
    install: bool = False
    hard_state: HardState | None = None
    entries: tuple[Entry, ...] = ()
    messages: tuple[Envelope, ...] = ()
    committed: tuple[Entry, ...] = ()
    barriers: tuple[tuple[int, int], ...] = ()
    changes: "tuple[tuple[int, int | Refusal], ...]" = ()

    def __bool__(self) -> bool:
        return self.must_persist or bool(
            self.urgent or self.messages or self.committed or self.barriers or self.changes
        )

    @property
    def must_persist(self) -> bool:
        return self.snapshot is not None or self.hard_state is not None or bool(self.entries)

    @property
    def installed(self) -> Snapshot | None:
        """The snapshot that the state machine has to be replaced with, if any."""
        return self.snapshot if self.install else None
