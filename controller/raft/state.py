"""What every role of a Raft node shares: term and vote, the log, the pending output, the timers.

The core is one object built in layers, one concern each: this one, ``follower``, ``leader``, ``election``, ``core``.
No I/O here: time is a parameter, randomness is injected.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from ottla.controller.raft.config import (
    HardState,
    PersistentState,
    RaftConfig,
    Role,
)
from ottla.controller.raft.entry_log import EntryLog
from ottla.controller.raft.errors import RaftInvariantError
from ottla.controller.raft.messages import AppendRequest, Entry, Envelope, Message, Snapshot, SnapshotChunk

if TYPE_CHECKING:
    import random


class RaftState:
    def __init__(self, config: RaftConfig, rng: "random.Random", persistent: PersistentState, now: float) -> None:
        self.config = config
        self.rng = rng
        self.node_id = config.node_id
        self.snapshot = persistent.snapshot
        base = (self.snapshot.index, self.snapshot.term) if self.snapshot else (0, 0)
        voters = self.snapshot.voters if self.snapshot else None
        self.log = EntryLog(*base, entries=persistent.entries, voters=voters)
        self._adopted = self.log.voters
        self.voter_set = self._adopted or config.bootstrap  # in force
        self.voters = self.voter_set.ids
        hard = persistent.hard_state or HardState()
        if not hard.identity:
            hard = replace(hard, identity=f"{config.directory_id}.{rng.getrandbits(64):016x}")
        self.identity = hard.identity
        # An entry may only be written after its term is: a log ahead of the term file means a lost or foreign file.
        if self.log.last_term > hard.term:
            raise RaftInvariantError(f"log ends in term {self.log.last_term}, but the quorum state says {hard.term}")
        self.term = hard.term
        self.vote = hard.vote
        # A node without any memory may have voted, or acknowledged entries, before it lost its disk, even if its
        # settings have it as a learner. One whose log is damaged has lost its memory of entries: it comes to the same.
        alone = config.founds and config.voters == {self.node_id}
        pristine = persistent.hard_state is None and not alone
        self.recovering = hard.recovering or pristine
        self.damaged = hard.damaged
        self.commit = base[0]
        self.applied = base[0]
        self._leaving = self._is_leaving()
        self.role = self._passive_role()
        self.leader_id: int | None = None
        self.last_heard = now  # from the leader of this term
        self.suspected: dict[int, float] = {}  # node -> when the evidence of its death came
        self.failed_elections = 0
        self.election_deadline = now + self._startup_delay()
        self._durable = hard
        self._handed = persistent.hard_state or self.hard_state  # an empty disk need not be told that it is empty
        self._urgent: list[Envelope] = []
        self._messages: list[Envelope] = []
        self._pending_snapshot: Snapshot | None = None
        self._pending_install = False
        self._newest_snapshot = base[0]  # taken or installed, durable or not yet
        self._chunks = bytearray()  # of the snapshot being received
        self._chunks_of: tuple[int, int, int] | None = None  # (leader's term, index, snapshot term)

    def _adopt_voters(self) -> None:
        """The log has other voters now. They are in force at once, committed or not (thesis 4.1)."""
        self._adopted = self.log.voters
        self.voter_set = self._adopted or self.config.bootstrap
        self.voters = self.voter_set.ids
        self._leaving = self._is_leaving()
        if self.role in (Role.FOLLOWER, Role.LEARNER):
            self.role = self._passive_role()

    def _is_leaving(self) -> bool:
        """The newest voters are without this node, which may yet be needed as the leader to commit that: with a longer
        log than all the others it can be the only one that can win (thesis 4.2.2)."""
        index = self.log.voters_index
        if self.is_voter or index <= self.commit:
            return False
        return self.node_id in (self.log.voters_at(index - 1) or self.config.bootstrap).ids

    def _passive_role(self) -> Role:
        return Role.FOLLOWER if self.is_voter or self._leaving else Role.LEARNER

    @property
    def is_voter(self) -> bool:
        return self.node_id in self.voters

    @property
    def quorum(self) -> int:
        return len(self.voters) // 2 + 1

    @property
    def hard_state(self) -> HardState:
        return HardState(self.term, self.vote, self.recovering, self.identity, self.recovering and self.damaged)

    @property
    def _has_handed_hard_state(self) -> bool:
        """Whether `hard_state` is what was last given out to be made durable."""
        handed = self._handed
        return (
            self.term == handed.term
            and self.vote == handed.vote
            and self.recovering == handed.recovering
            and self.identity == handed.identity
            and (self.recovering and self.damaged) == handed.damaged
        )

    def _startup_delay(self) -> float:
        """Nobody leads a cluster that starts: ask at once, it is only a pre-vote."""
        if self.voters == {self.node_id}:
            return 0.0
        return self.rng.uniform(0, self.config.election_timeout / 8)

    def _election_delay(self) -> float:
        timeout = self.config.election_timeout
        return timeout + timeout * self.rng.random()

    def _retry_delay(self) -> float:
        """Between failed campaigns: short at first (a split vote, a peer that is only starting), then the timeout.

        Pre-vote makes early retries harmless: they change no term.
        """
        timeout = self.config.election_timeout
        step = min(timeout, timeout / 16 * 2 ** min(self.failed_elections, 10))
        return self.rng.uniform(step / 2, 1.5 * step)

    def _send(self, to: int, message: Message) -> None:
        """Queue a message that leaves after everything changed so far is durable."""
        self._messages.append(Envelope(to, message))

    def _send_urgent(self, to: int, message: AppendRequest | SnapshotChunk) -> None:
        self._urgent.append(Envelope(to, message))

    def _enter_term(self, term: int) -> None:
        if term < self.term:
            raise RaftInvariantError(f"term may not go back from {self.term} to {term}")
        if term == self.term:
            return
        self.term = term
        self.vote = None
        # Whatever was about to be said in the old term is void. Above all an acknowledgement that has not left yet:
        # its entry may be overwritten in this same round and then never have been durable.
        self._messages = [envelope for envelope in self._messages if envelope.message.term >= term]
        self._urgent.clear()
        self._drop_chunks()

    def _drop_chunks(self) -> None:
        self._chunks = bytearray()
        self._chunks_of = None

    def _become_follower(self, term: int, leader: int | None, now: float, delay: float | None = None) -> None:
        self._enter_term(term)
        self.role = self._passive_role()
        self.leader_id = leader
        self.election_deadline = now + (self._election_delay() if delay is None else delay)

    def _heard_leader(self, leader: int, now: float) -> None:
        self.leader_id = leader
        self.failed_elections = 0
        self.suspected.pop(leader, None)
        self.last_heard = now
        self.election_deadline = now + self._election_delay()

    def _is_freshly_suspected(self, leader: int, now: float) -> bool:
        """Its messages were most likely sent before it died, and were still on the way when the evidence came."""
        evidence = self.suspected.get(leader)
        return evidence is not None and now - evidence < self.config.heartbeat_interval / 2

    def _in_lease(self, now: float) -> bool:
        """A leader is alive as far as this node can tell, so elections are refused (thesis 4.2.3, 9.6)."""
        if self.role is Role.LEADER:
            return True
        if self.leader_id is None or self.leader_id in self.suspected:
            return False
        return now - self.last_heard < self.config.election_timeout

    def _is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Section 5.4.1: the candidate's log is at least as complete as this one."""
        return (last_term, last_index) >= (self.log.last_term, self.log.last_index)

    def _commit_to(self, index: int) -> None:
        if index > self.log.last_index:
            raise RaftInvariantError(f"commit {index} is beyond the end of the log {self.log.last_index}")
        self.commit = max(self.commit, index)
        if self._leaving and self.commit >= self.log.voters_index:
            self._adopt_voters()

    def _take_committed(self) -> tuple[Entry, ...]:
        entries = self.log.slice(self.applied + 1, self.commit, 4 * self.config.max_batch_bytes, 4096)
        self.applied = entries[-1].index
        return entries
