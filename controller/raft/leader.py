"""The leading side: replication, commit, check-quorum, read barriers, transfer (Raft sections 5.3, 5.4.2, 6.4 of the
thesis, 8), and the readmission of a voter that lost its disk.

Readmission. A node with an empty disk may have voted in a term that it no longer remembers, and acknowledged entries
that it no longer has. It says ``recovering`` in every answer. It then does not vote, and a leader counts it in no
quorum, until an entry that the leader wrote *after* hearing of it is committed without it and has reached it. From then
on every winner of a later term must hold that entry, so that a vote given away before the loss can elect nobody.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ottla.controller.raft.config import Role
from ottla.controller.raft.errors import RaftInvariantError, Refusal
from ottla.controller.raft.follower import Follower
from ottla.controller.raft.messages import (
    AppendRequest,
    AppendResponse,
    Entry,
    LeaderHint,
    SnapshotChunk,
    SnapshotResponse,
    TimeoutNow,
)
from ottla.controller.raft.progress import Mode, Progress
from ottla.controller.raft.voter_set import VoterNode


@dataclass(slots=True)
class Joining:
    """A learner that is to become a voter once it has caught up (thesis 4.2.1: rounds, until one is short)."""

    token: int
    node: VoterNode
    deadline: float
    rounds: int = 0
    target: int = 0  # the end of the log when this round began; 0: none has
    began: float = 0.0


class LeaderState:
    """Volatile state of one term of leadership; reinitialised after each election."""

    def __init__(self, first_index: int, now: float, heartbeat_interval: float) -> None:
        self.peers: dict[int, Progress] = {}
        self.first_index = first_index  # the no-op of this term
        self.heartbeat_due = now + heartbeat_interval
        self.stamp = 0
        self.quorum_floor = float("-inf")  # check-quorum is due then, or later: contacts only move on
        self.transfer_to: int | None = None
        self.transfer_deadline = 0.0
        self.barriers: list[tuple[int, int, int]] = []  # (token, index to have applied, stamp to have been echoed)
        self.joining: Joining | None = None
        self.changes: list[tuple[int, int | Refusal]] = []  # to be told


class Leader(Follower):
    leading: LeaderState | None = None

    def _lead(self, now: float) -> None:
        self.role = Role.LEADER
        self.leader_id = self.node_id
        self.failed_elections = 0
        self.suspected.clear()
        self.leading = LeaderState(self.log.last_index + 1, now, self.config.heartbeat_interval)
        for peer in sorted(self.voters - {self.node_id}):
            self._add_peer(peer, now)
        # Entries of earlier terms commit only behind one of this term (5.4.2), so write one at once (section 8).
        self._append_own([b""])

    def _add_peer(self, peer: int, now: float) -> None:
        assert self.leading is not None
        self.leading.peers[peer] = Progress(self.log.last_index + 1, contact=now, voter=peer in self.voters)

    def _on_join(self, peer: int, now: float, *, eligible: bool = True) -> None:
        """``peer`` hears no leader: if this is one, let it hear, and replicate to it if it is no voter."""
        leading = self.leading
        if leading is None or peer == self.node_id:
            leader = self.leader_id
            if leader is not None and leader not in (peer, self.node_id):
                self._send(peer, LeaderHint(self.term, leader, self.voter_set.encode()))
            return
        if peer not in leading.peers:
            if sum(not progress.voter for progress in leading.peers.values()) >= self.config.max_learners:
                return
            self._add_peer(peer, now)
        leading.peers[peer].eligible = eligible
        self._heartbeat_to(peer, leading.peers[peer], now)

    def _become_follower(self, term: int, leader: int | None, now: float, delay: float | None = None) -> None:
        self.leading = None
        super()._become_follower(term, leader, now, delay)

    def _append_own(self, datas: Sequence[bytes]) -> int:
        """Entries of this term at the end of the log; returns the index of the first."""
        first = self.log.last_index + 1
        self.log.append([Entry(first + position, self.term, data) for position, data in enumerate(datas)])
        if self.log.voters is not self._adopted:
            self._adopt_voters()
        return first

    def _adopt_voters(self) -> None:
        super()._adopt_voters()
        leading = self.leading
        if leading is None:
            return
        for peer, progress in leading.peers.items():
            progress.voter = peer in self.voters
        leading.quorum_floor = float("-inf")

    # -- what goes out

    def _stamp(self, leading: LeaderState, now: float) -> int:
        leading.stamp = max(leading.stamp + 1, int(now * 1_000_000))
        return leading.stamp

    def _replicate(self, leading: LeaderState, now: float) -> None:
        """Send every peer what it lacks, as far as its window allows. Called once per Ready, so that proposals and
        acknowledgements that came together leave together."""
        last = self.log.last_index
        for peer, progress in leading.peers.items():
            if progress.mode is Mode.REPLICATE and progress.next_index > last and progress.sent_commit >= self.commit:
                continue  # it has been sent everything: the usual case
            self._replicate_to(peer, progress, now)

    def _replicate_to(self, peer: int, progress: Progress, now: float) -> None:
        if progress.mode is Mode.SNAPSHOT or (progress.mode is Mode.PROBE and progress.probing):
            return
        if self.log.term_at(progress.next_index - 1) is None:
            self._begin_snapshot(peer, progress, now)
            return
        sent = False
        while progress.next_index <= self.log.last_index and len(progress.inflight) < self.config.max_inflight:
            sent = True
            last = self._send_append(peer, progress, now, with_entries=True)
            if progress.mode is Mode.PROBE:
                break
            progress.next_index = last + 1
            progress.inflight.append(last)
        if progress.mode is Mode.PROBE:
            if not sent:
                self._send_append(peer, progress, now, with_entries=False)
            progress.probing = True
        elif not sent and progress.sent_commit < self.commit and len(progress.inflight) < self.config.max_inflight:
            self._send_append(peer, progress, now, with_entries=False)  # a commit is news worth its own message

    def _send_append(self, peer: int, progress: Progress, now: float, *, with_entries: bool) -> int:
        """One AppendEntries at next_index; returns the last index in it."""
        assert self.leading is not None
        previous = progress.next_index - 1
        entries: tuple[Entry, ...] = ()
        if with_entries:
            entries = self.log.slice(
                progress.next_index, self.log.last_index, self.config.max_batch_bytes, self.config.max_batch_entries
            )
        progress.sent_commit = max(progress.sent_commit, min(self.commit, previous + len(entries)))
        stamp = self._stamp(self.leading, now)
        progress.asked(stamp, self.log.last_index)
        self._send_urgent(
            peer,
            AppendRequest(
                term=self.term,
                prev_index=previous,
                prev_term=self.log.term_at(previous) or 0,
                commit=self.commit,
                stamp=stamp,
                entries=entries,
                readmitted=self._readmission(progress),
            ),
        )
        return previous + len(entries)

    def _readmission(self, progress: Progress) -> str:
        if progress.recovering and 0 < progress.readmit_index <= min(self.commit, progress.match):
            return progress.identity or ""
        return ""

    def _heartbeat(self, now: float) -> None:
        assert self.leading is not None
        self.leading.heartbeat_due = now + self.config.heartbeat_interval
        for peer, progress in list(self.leading.peers.items()):
            if not progress.voter and now - progress.contact > 10 * self.config.election_timeout:
                del self.leading.peers[peer]  # a learner that is gone; it asks again when it is back
            else:
                self._heartbeat_to(peer, progress, now)

    def _heartbeat_to(self, peer: int, progress: Progress, now: float) -> None:
        """At next_index, so that a follower that missed a pipelined request says so."""
        if progress.mode is Mode.SNAPSHOT:
            if now - progress.snapshot_sent >= self.config.election_timeout / 2:
                self._send_chunk(peer, progress, now)  # the chunk or its answer was lost
            else:
                self._send_bare_heartbeat(peer, now)
        elif self.log.term_at(progress.next_index - 1) is None:
            self._begin_snapshot(peer, progress, now)
        else:
            progress.probing = progress.mode is Mode.PROBE
            self._send_append(peer, progress, now, with_entries=False)

    def _send_bare_heartbeat(self, peer: int, now: float) -> None:
        """Agrees with every log, says nothing about entries: for a peer that waits for a snapshot."""
        assert self.leading is not None
        self._send_urgent(peer, AppendRequest(self.term, 0, 0, 0, self._stamp(self.leading, now)))

    def _begin_snapshot(self, peer: int, progress: Progress, now: float) -> None:
        assert self.snapshot is not None, "a compacted log has a snapshot"
        progress.send_snapshot(self.snapshot)
        self._send_chunk(peer, progress, now)

    def _send_chunk(self, peer: int, progress: Progress, now: float) -> None:
        assert self.leading is not None
        assert progress.snapshot is not None
        snapshot, payload, offset = progress.snapshot, progress.payload, progress.snapshot_offset
        data = payload[offset : offset + self.config.snapshot_chunk_bytes]
        stamp = self._stamp(self.leading, now)
        progress.snapshot_sent = now
        self._send_urgent(
            peer,
            SnapshotChunk(self.term, snapshot.index, snapshot.term, offset, len(payload), stamp, data),
        )

    # -- what comes back

    def _heard_peer(
        self, peer: int, response: AppendResponse | SnapshotResponse, leading: LeaderState
    ) -> Progress | None:
        """The peer's progress, after noting that it lives; None when the answer is not from who we think it is."""
        progress = leading.peers.get(peer)
        if progress is None:
            return None
        if progress.identity is None:
            progress.identity = response.identity
        elif progress.identity != response.identity:
            if not response.recovering:
                return None  # sent by the peer before it lost its disk
            progress.forget(response.identity)
            leading.quorum_floor = float("-inf")
        if response.recovering and progress.readmit_index == 0:
            progress.recovering = True
            leading.quorum_floor = float("-inf")
            progress.readmit_index = self._append_own([b""])
        elif not response.recovering:
            progress.recovering = False
        progress.acked_stamp = max(progress.acked_stamp, response.stamp)
        progress.contact = max(progress.contact, response.stamp / 1_000_000)
        self.suspected.pop(peer, None)
        return progress

    def _on_append_response(self, peer: int, response: AppendResponse) -> None:
        leading = self.leading
        if leading is None or (progress := self._heard_peer(peer, response, leading)) is None:
            return
        if response.success:
            self._on_accepted(peer, progress, response.index)
            progress.answered(response.stamp)
        else:
            self._on_rejected(progress, response)

    def _on_accepted(self, peer: int, progress: Progress, index: int) -> None:
        if index > self.log.last_index:
            raise RaftInvariantError(f"node {peer} acknowledges entry {index}, the log ends at {self.log.last_index}")
        news = progress.acknowledge(index)
        probed = progress.mode is Mode.PROBE and index + 1 >= progress.next_index
        has_snapshot = progress.snapshot is not None and progress.match >= progress.snapshot.index
        if probed or has_snapshot:
            progress.replicate()
        if news:
            self._advance_commit()
            if self.leading and self.leading.transfer_to == peer:
                self._hand_over_if_ready(peer)

    def _on_rejected(self, progress: Progress, response: AppendResponse) -> None:
        if progress.mode is Mode.SNAPSHOT or progress.is_overtaken(response.index, response.stamp):
            return
        if response.index <= progress.match:
            progress.lost_entries()
        if progress.mode is Mode.PROBE and response.index != progress.next_index - 1:
            return
        bound = min(response.hint_index, response.index - 1)
        if bound >= self.log.first_index - 1:
            bound, _ = self.log.hint(bound, response.hint_term)
        progress.probe(bound + 1)  # behind the beginning of the log, the next step is a snapshot

    def _on_snapshot_response(self, peer: int, response: SnapshotResponse, now: float) -> None:
        leading = self.leading
        if leading is None or (progress := self._heard_peer(peer, response, leading)) is None:
            return
        if progress.snapshot is None or progress.snapshot.index != response.index:
            return
        if response.next_offset != progress.snapshot_offset and response.next_offset < len(progress.payload):
            progress.snapshot_offset = response.next_offset
            self._send_chunk(peer, progress, now)

    # -- what follows from it

    def _quorum_value(self, own: int, values: dict[int, int]) -> int:
        """The largest number that a majority of voters has reached."""
        ordered = sorted((own if voter == self.node_id else values[voter] for voter in self.voters), reverse=True)
        return ordered[self.quorum - 1]

    def _advance_commit(self) -> None:
        """Section 5.4.2: only an entry of the current term is committed by counting; earlier ones go with it."""
        if self.leading is None:
            return
        matches = {p: 0 if pr.recovering else pr.match for p, pr in self.leading.peers.items()}
        index = self._quorum_value(self.log.stable, matches)
        if index > self.commit and self.log.term_at(index) == self.term:
            self._commit_to(index)

    def _check_quorum(self, now: float) -> None:
        """A leader that no majority answers resigns, so that its clients look elsewhere (thesis 6.2)."""
        leading = self.leading
        if leading is None or now < leading.quorum_floor:
            return
        if now >= self._quorum_deadline(leading):
            self._become_follower(self.term, None, now)

    def _quorum_deadline(self, leading: LeaderState) -> float:
        """When a leader of whom nothing is heard any more has to resign, in the loop's seconds."""
        leading.quorum_floor = self._reckon_quorum_deadline(leading)
        return leading.quorum_floor

    def _reckon_quorum_deadline(self, leading: LeaderState) -> float:
        contacts = sorted(
            (progress.contact for progress in leading.peers.values() if progress.voter and not progress.recovering),
            reverse=True,
        )
        needed = self.quorum - self.is_voter
        if needed == 0:
            return float("inf")
        if len(contacts) < needed:
            # Too many voters lost their disks: the wait for the others is counted from the last heartbeat.
            contacts = sorted((progress.contact for progress in leading.peers.values() if progress.voter), reverse=True)
        return contacts[needed - 1] + self.config.election_timeout

    def _take_barriers(self, leading: LeaderState) -> tuple[tuple[int, int], ...]:
        """Read barriers (thesis 6.4) that a majority has confirmed after they were asked for."""
        if self.commit < leading.first_index:
            return ()
        stamps = {p: 0 if pr.recovering else pr.acked_stamp for p, pr in leading.peers.items()}
        confirmed = self._quorum_value(leading.stamp + 1, stamps)
        done = tuple((token, index) for token, index, stamp in leading.barriers if stamp <= confirmed)
        leading.barriers = [barrier for barrier in leading.barriers if barrier[2] > confirmed]
        return done

    def _hand_over_if_ready(self, peer: int) -> None:
        """Thesis 3.10: once its log is complete, the successor need not wait for its timer."""
        if self.leading and self.leading.peers[peer].match == self.log.last_index:
            self._send(peer, TimeoutNow(self.term))
