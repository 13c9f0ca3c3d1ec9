"""Elections (Raft section 5.2), with pre-vote (thesis 9.6), leases and evidence of a leader's death."""

from ottla.controller.raft.config import Role
from ottla.controller.raft.leader import Leader
from ottla.controller.raft.messages import JoinRequest, VoteRequest, VoteResponse


class Elections(Leader):
    election_term = 0  # of the campaign under way
    votes: dict[int, bool]

    def _may_campaign(self) -> bool:
        """A voter that lost its disk waits to be readmitted; with nothing anywhere, this is the first election."""
        return self.is_voter and (not self.recovering or (self.log.last_index == 0 and not self.damaged))

    def _on_election_timeout(self, now: float) -> None:
        if self.role is not Role.LEARNER and self._may_campaign():
            self._campaign(now, pre=True)
            return
        # Nobody replicates to this node: tell every voter that it is here.
        self.leader_id = None
        self.election_deadline = now + self._election_delay()
        for voter in sorted(self.voters - {self.node_id}):
            self._send(voter, JoinRequest(self.term))

    def _campaign(self, now: float, *, pre: bool, transfer: bool = False) -> None:
        self.leader_id = None
        self.votes = {}
        self.election_term = self.term + 1
        if pre:
            self.role = Role.PRE_CANDIDATE
            self.failed_elections += 1
        else:
            self._enter_term(self.election_term)
            self.role = Role.CANDIDATE
            self.vote = self.node_id
        self.election_deadline = now + self._retry_delay()
        request = VoteRequest(
            self.election_term, self.log.last_index, self.log.last_term, pre, transfer, identity=self.identity
        )
        for voter in sorted(self.voters - {self.node_id}):
            self._send(voter, request)
        if pre:
            self._count_vote(self.node_id, True, now)  # its own real vote counts only when it is durable

    def _vote_is_durable(self, now: float) -> None:
        if self.role is Role.CANDIDATE and self._durable.term == self.term:
            self._count_vote(self.node_id, True, now)

    def _on_vote_request(self, candidate: int, request: VoteRequest, now: float) -> None:
        """A rehearsal changes nothing here; a real request of a newer term moves this node into it, unless a live
        leader is known: then the candidate is only disturbing (thesis 4.2.3), and its term is not even taken up."""
        newer = request.term > self.term
        leased = not request.transfer and self._in_lease(now)
        if newer and not request.pre and not leased:
            # The deadline stays: refusing a candidate must not delay one's own campaign.
            delay = None if self.role is Role.LEADER else max(0.0, self.election_deadline - now)
            self._become_follower(request.term, None, now, delay)
        grant = (
            not leased
            and self._may_vote(candidate, request)
            and self._is_up_to_date(request.last_index, request.last_term)
        )
        if grant:
            self._yield_to_candidate(candidate, request, now)
        self._send(candidate, VoteResponse(self.term, request.term, grant, request.pre, request.identity))
        if self.leading is not None and candidate in self.leading.peers:
            self._heartbeat_to(candidate, self.leading.peers[candidate], now)  # it cannot have heard of this leader

    def _may_vote(self, candidate: int, request: VoteRequest) -> bool:
        if not self.is_voter or candidate not in self.voters:
            return False
        if self.recovering and (self.log.last_index or request.last_index or self.damaged):
            return False  # only in the very first election of a cluster is there no vote that may be forgotten
        if request.pre:
            return request.term > self.term
        return request.term == self.term and self.vote in (None, candidate)

    def _yield_to_candidate(self, candidate: int, request: VoteRequest, now: float) -> None:
        if request.pre:
            # Do not run against a candidate that one would elect oneself.
            self.election_deadline = max(self.election_deadline, now + 3 * self.config.suspect_stagger)
            return
        self.vote = candidate
        self.recovering = False
        self.election_deadline = now + self._election_delay()

    def _on_vote_response(self, voter: int, response: VoteResponse, now: float) -> None:
        """An answer of the right term may be to a former self, whose log was lost with its disk: see ``identity``."""
        campaigning = Role.PRE_CANDIDATE if response.pre else Role.CANDIDATE
        if self.role is not campaigning or voter not in self.voters:
            return
        if response.election == self.election_term and response.identity == self.identity:
            self._count_vote(voter, response.granted, now)

    def _count_vote(self, voter: int, granted: bool, now: float) -> None:
        self.votes.setdefault(voter, granted)
        granted_by = sum(self.votes.values())
        if granted_by >= self.quorum:
            if self.role is Role.PRE_CANDIDATE:
                self._campaign(now, pre=False)
            elif self.votes.get(self.node_id):
                self.recovering = False
                self._lead(now)
        elif len(self.votes) - granted_by > len(self.voters) - self.quorum:
            self._lose(now)

    def _lose(self, now: float) -> None:
        """A majority refuses, so there is no reason to wait out the campaign: try again after a short random pause.

        With evidence against the leader the others merely have not seen it yet, which is a matter of milliseconds.
        """
        timeout, stagger = self.config.election_timeout, self.config.suspect_stagger
        fresh = any(now - evidence < timeout for evidence in self.suspected.values())
        delay = self.rng.uniform(0.25, 0.75) * stagger if fresh else self._retry_delay()
        self._become_follower(self.term, None, now, delay)

    def _on_timeout_now(self, now: float) -> None:
        if not self.recovering:
            self._campaign(now, pre=False, transfer=True)

    def _on_evidence(self, node: int, now: float) -> None:
        """``node`` is dead, says the shell. If it led, run: in a fixed order, so that survivors rarely collide."""
        self.suspected[node] = now
        if node != self.leader_id or self.role is Role.LEADER:
            return
        self.leader_id = None
        if not self._may_campaign():
            return
        survivors = sorted(self.voters - {node})
        successors = [v for v in survivors if v > node] + [v for v in survivors if v < node]
        rank = successors.index(self.node_id)
        stagger = self.config.suspect_stagger
        self.election_deadline = min(self.election_deadline, now + rank * stagger + self.rng.uniform(0, stagger / 4))
