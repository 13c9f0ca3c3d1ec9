"""The Raft node as a value machine: events and the time go in, a ``Ready`` comes out (see config.Ready for the duties).

Nothing here does I/O. Raises RaftInvariantError when going on could lose committed entries.
"""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ottla.controller.raft.config import HardState, PersistentState, RaftConfig, Ready, Role
from ottla.controller.raft.election import Elections
from ottla.controller.raft.entry_log import ENTRY_OVERHEAD
from ottla.controller.raft.errors import RaftInvariantError, Refusal
from ottla.controller.raft.messages import (
    AppendRequest,
    AppendResponse,
    JoinRequest,
    LeaderHint,
    Message,
    Snapshot,
    SnapshotChunk,
    SnapshotResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)

if TYPE_CHECKING:
    import random

NOTHING = Ready()
"""What `RaftCore.ready` returns when there is nothing to do."""


class RaftCore(Elections):
    def __init__(self, config: RaftConfig, rng: "random.Random", persistent: PersistentState, now: float) -> None:
        super().__init__(config, rng, persistent, now)
        self.votes = {}
        self.founders = {}
        self._proposed: deque[tuple[int, int]] = deque()  # (last index, bytes) of proposals, in order
        self._proposed_bytes = 0

    # -- events

    def step(self, sender: int, message: Message, now: float) -> None:
        """Take in one message; ``sender`` is authenticated by the transport."""
        match message:
            case VoteRequest():
                self._on_vote_request(sender, message, now)
            case JoinRequest():
                self._on_join(sender, now, eligible=message.eligible)
            case LeaderHint():
                self._on_leader_hint(message)
            case _ if message.term == self.term:
                self._step_current(sender, message, now)
            case _ if message.term > self.term:
                led = isinstance(message, AppendRequest | SnapshotChunk)
                delay = None if led else self._retry_delay()
                self._become_follower(message.term, sender if led else None, now, delay)
                self._step_current(sender, message, now)
            case VoteResponse():
                self._step_current(sender, message, now)
            case AppendRequest():
                # A deposed leader learns from the answer that it is one (section 5.1).
                self._send(sender, self._append_response(False, message.prev_index, message.stamp))
            case SnapshotChunk():
                self._send(sender, self._snapshot_response(message, 0))
            case _:
                return

    def _step_current(self, sender: int, message: Message, now: float) -> None:
        match message:
            case VoteResponse():
                self._on_vote_response(sender, message, now)
            case AppendRequest():
                self._follow(sender, now)
                self._on_append_request(sender, message)
            case SnapshotChunk():
                self._follow(sender, now)
                self._on_snapshot_chunk(sender, message)
            case AppendResponse():
                self._on_append_response(sender, message)
                leading = self.leading
                if leading is not None and (leading.joining is not None or self.node_id not in self.voters):
                    self._pursue_change(leading, now)
            case SnapshotResponse():
                self._on_snapshot_response(sender, message, now)
            case TimeoutNow() if sender == self.leader_id:
                self._on_timeout_now(now)
            case _:
                return

    def _follow(self, leader: int, now: float) -> None:
        if self.role is Role.LEADER or (self.leader_id is not None and self.leader_id != leader):
            raise RaftInvariantError(f"term {self.term} has two leaders: {leader} and {self.leader_id}")
        if self._is_freshly_suspected(leader, now):
            return  # what it says counts, but it does not prove that it lives
        if self.role in (Role.CANDIDATE, Role.PRE_CANDIDATE):
            self._become_follower(self.term, leader, now)
        self._heard_leader(leader, now)

    def tick(self, now: float) -> None:
        """Do what has become due; harmless when nothing has."""
        leading = self.leading
        if leading is None:
            if now >= self.election_deadline:
                self._on_election_timeout(now)
            return
        if leading.transfer_to is not None and now >= leading.transfer_deadline:
            self._end_transfer(leading, now)
        if leading.joining is not None and now >= leading.joining.deadline:
            self._end_joining(leading, leading.joining, Refusal.NOT_CAUGHT_UP)
        if self.leading is not None and now >= leading.heartbeat_due:
            self._heartbeat(now)
        self._check_quorum(now)

    @property
    def deadline(self) -> float:
        """When ``tick`` has to be called next."""
        leading = self.leading
        if leading is None:
            return self.election_deadline
        due = leading.heartbeat_due
        if leading.quorum_floor <= due:
            due = min(due, self._quorum_deadline(leading))
        if leading.joining is not None:
            due = min(due, leading.joining.deadline)
        return due if leading.transfer_to is None else min(due, leading.transfer_deadline)

    def propose(self, datas: Sequence[bytes]) -> int | None:
        """Append entries to the log of this leader; returns the first one's index.

        None when this node does not lead, is handing over its leadership, or has too much uncommitted.
        """
        leading = self.leading
        if leading is None or leading.transfer_to is not None:
            return None
        while self._proposed and self._proposed[0][0] <= self.commit:
            self._proposed_bytes -= self._proposed.popleft()[1]
        size = sum(len(data) + ENTRY_OVERHEAD for data in datas)
        if self._proposed and self._proposed_bytes + size > self.config.max_uncommitted_bytes:
            return None
        first = self._append_own(datas)
        self._proposed.append((self.log.last_index, size))
        self._proposed_bytes += size
        return first

    def _lead(self, now: float) -> None:
        self._proposed.clear()
        self._proposed_bytes = 0
        super()._lead(now)

    def transfer_leadership(self, to: int, now: float) -> bool:
        """Let ``to`` lead. Proposals are refused until it does, or an election timeout has passed. False when this
        node does not lead or ``to`` cannot."""
        leading = self.leading
        if leading is None or to == self.node_id or to not in self.voters or leading.peers[to].recovering:
            return False
        self._begin_transfer(leading, to, now)
        return True

    def suspect(self, node: int, now: float) -> None:
        """Evidence that ``node`` is dead (connection reset, and connecting refused). If it leads, elections are no
        longer refused on its behalf, and this node campaigns within milliseconds. Pre-vote keeps a mistake harmless."""
        self._on_evidence(node, now)

    def trust(self, node: int) -> None:
        """The evidence was wrong, or ``node`` is back."""
        self.suspected.pop(node, None)

    def read_barrier(self, token: int, now: float) -> bool:
        """Ask for proof that this node still leads *now* (thesis 6.4); the token comes back in ``Ready.barriers`` with
        the index to have applied, or never if the leadership is lost. False when this node does not lead."""
        leading = self.leading
        if leading is None:
            return False
        leading.barriers.append((token, max(self.commit, leading.first_index), leading.stamp + 1))
        self._heartbeat(now)
        return True

    def compact(self, index: int, data: bytes) -> bool:
        """``data`` is the state after applying ``index``: keep it, and drop the log behind it once it is durable.
        False if a snapshot at least as new exists (two quick snapshots are not an error)."""
        if index <= self._newest_snapshot or index > self.applied:
            return False
        self._newest_snapshot = index
        term = self.log.term_at(index)
        assert term is not None, "applied entries after the last snapshot are in the log"
        self._pending_snapshot = Snapshot(index, term, data, self.log.voters_at(index))
        return True

    # -- results

    @property
    def must_persist(self) -> bool:
        """Whether the next Ready will have something to make durable."""
        return (
            self.log.handed != self.log.last_index
            or self._pending_snapshot is not None
            or not self._has_handed_hard_state
        )

    def ready(self, now: float) -> Ready:
        """Take what has to be done now (see Ready); falsy when there is nothing. The one before must be finished."""
        barriers: tuple[tuple[int, int], ...] = ()
        changes: tuple[tuple[int, int | Refusal], ...] = ()
        leading = self.leading
        if leading is not None:
            self._replicate(leading, now)
            if leading.barriers:
                barriers = self._take_barriers(leading)
            if leading.changes:
                changes = tuple(leading.changes)
                leading.changes.clear()
        must_persist = self.must_persist
        if not (must_persist or self._urgent or self._messages or self.commit != self.applied or barriers or changes):
            return NOTHING
        hard_state: HardState | None = None
        if must_persist and not self._has_handed_hard_state:
            hard_state = self._handed = self.hard_state
            # Only the first leader of a cluster has both: before anybody holds an entry, a majority must durably
            # remember that the cluster has begun, and this node is counted in it.
            self._messages[:0] = self._urgent
            self._urgent.clear()
        result = Ready(
            urgent=tuple(self._urgent),
            snapshot=self._pending_snapshot,
            install=self._pending_install,
            hard_state=hard_state,
            entries=self.log.take_unpersisted() if must_persist else (),
            messages=tuple(self._messages),
            committed=self._take_committed() if self.commit != self.applied else (),
            barriers=barriers,
            changes=changes,
        )
        self._urgent.clear()
        self._messages.clear()
        self._pending_snapshot = None
        self._pending_install = False
        return result

    def persisted(self, ready: Ready, now: float) -> None:
        """Everything that ``ready`` asked to make durable is."""
        if ready.hard_state is not None:
            self._durable = ready.hard_state
        if ready.snapshot is not None and not ready.install:
            self._forget_log_before(ready.snapshot)
        if ready.entries:
            self.log.persisted(ready.entries[-1].index, ready.entries[-1].term)
            self._advance_commit()
            if self.leading is not None and self.node_id not in self.voters:
                self._pursue_change(self.leading, now)
        if ready.hard_state is not None:
            self._vote_is_durable(now)

    def _forget_log_before(self, snapshot: Snapshot) -> None:
        """Keep some entries behind the snapshot: a follower that is only a little late should not need it."""
        if self.snapshot is None or snapshot.index > self.snapshot.index:
            self.snapshot = snapshot
            self.log.compact(max(0, snapshot.index - self.config.retained_entries))
