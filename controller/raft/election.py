"""Elections (Raft section 5.2), with pre-vote (thesis 9.6), leases and evidence of a leader's death.

Whoever is asked votes, whatever voters its own log knows: a node that is being added may be needed for the majority of
a set that has not reached it (thesis 4.1). Only the candidate's set counts.

Founding. Nodes without memory may only vote when there is no cluster yet, and one that has lost its disk looks just
like a new one. So they vote only for a candidate that found *every* voter of its settings without entries: one that has
kept its disk is enough to stop them, however many voters have come and gone since. The rehearsal finds out, each voter
then votes with the very memory that was found, and all of them have to.
"""

from ottla.controller.raft.config import Role
from ottla.controller.raft.membership import Membership
from ottla.controller.raft.messages import JoinRequest, LeaderHint, VoteRequest, VoteResponse
from ottla.controller.raft.voter_set import VoterSet, decode_voter_set


class Elections(Membership):
    election_term = 0  # of the campaign under way
    votes: dict[int, bool]
    hinted: VoterSet | None = None  # what another node said of the voters: where they can be found, and no more
    founders: dict[int, str]  # voters without memory that granted the rehearsal, and their identities

    def _may_campaign(self) -> bool:
        """A voter that lost its disk waits to be readmitted; with nothing anywhere, it may found the cluster."""
        if self.role is Role.LEARNER:
            return False
        return not self.recovering or (self.config.founds and self.log.last_index == 0 and not self.damaged)

    @property
    def unfounded(self) -> bool:
        """Whether this voter knows of no cluster: it waits for all others, to found one, or to be readmitted."""
        nothing = self.config.founds and self.recovering and not self.damaged and self.log.last_index == 0
        return self.is_voter and nothing and self.leader_id is None

    def _on_election_timeout(self, now: float) -> None:
        if self._may_campaign():
            self._join((self.config.voters | self._hinted_ids) - self.voters)
            self._campaign(now, pre=True)
            return
        self.leader_id = None
        self.election_deadline = now + self._election_delay()
        self._join(self.config.voters | self.voters | self._hinted_ids)

    @property
    def _hinted_ids(self) -> frozenset[int]:
        return frozenset() if self.hinted is None else self.hinted.ids

    def hint(self, voters: VoterSet) -> None:
        """These may be voters, which is where a leader may be found."""
        self.hinted = voters
        if self.leader_id is None:
            self._join(voters.ids)

    def _join(self, voters: frozenset[int]) -> None:
        """Nobody replicates to this node: tell these that it is here. Those of its settings, too, as the voters that
        its log knows may all have been replaced."""
        for voter in sorted(voters - {self.node_id}):
            self._send(voter, JoinRequest(self.term, self.config.eligible))

    def _on_leader_hint(self, hint: LeaderHint) -> None:
        self.hinted = decode_voter_set(hint.voters)
        if self.leader_id is None and hint.leader != self.node_id:
            self._send(hint.leader, JoinRequest(self.term, self.config.eligible))

    def _campaign(self, now: float, *, pre: bool, transfer: bool = False) -> None:
        self.leader_id = None
        self.votes = {}
        self.election_term = self.term + 1
        if pre:
            self.role = Role.PRE_CANDIDATE
            self.failed_elections += 1
            self.founders = {}
        else:
            self._enter_term(self.election_term)
            self.role = Role.CANDIDATE
            self.vote = self.node_id
        self.election_deadline = now + self._retry_delay()
        log = self.log
        for voter in sorted(self.voters - {self.node_id}):
            founder = self.founders.get(voter, "")
            self._send(
                voter,
                VoteRequest(self.election_term, log.last_index, log.last_term, pre, transfer, self.identity, founder),
            )
        if pre:  # its own real vote counts only when it is durable
            self._count_vote(self.node_id, True, self.identity if self.recovering else "", now)

    def _vote_is_durable(self, now: float) -> None:
        if self.role is Role.CANDIDATE and self._durable.term == self.term:
            self._count_vote(self.node_id, True, "", now)

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
        founder = self.identity if grant and request.pre and self.recovering else ""
        self._send(candidate, VoteResponse(self.term, request.term, grant, request.pre, request.identity, founder))
        # It cannot have heard of this leader, nor, perhaps, that it is no voter any more, or of those added since.
        if self.leading is not None or candidate not in self.voters:
            self._on_join(candidate, now)

    def _may_vote(self, candidate: int, request: VoteRequest) -> bool:
        if self.recovering and not self._may_found(candidate, request):
            return False
        if request.pre:
            return request.term > self.term
        return request.term == self.term and self.vote in (None, candidate)

    def _may_found(self, candidate: int, request: VoteRequest) -> bool:
        """There is no sign of a cluster, and the candidate belongs to the one that this node's settings describe."""
        if self.log.last_index or request.last_index or self.damaged or not self.config.founds:
            return False
        if not self.is_voter or candidate not in self.voters:
            return False
        return request.pre or request.founder == self.identity

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
            self._count_vote(voter, response.granted, response.founder, now)

    def _count_vote(self, voter: int, granted: bool, founder: str, now: float) -> None:
        if self.votes.setdefault(voter, granted) and founder:
            self.founders.setdefault(voter, founder)
        votes = [granted for each, granted in self.votes.items() if each in self.voters]
        granted_by = sum(votes)
        founding = self.node_id in self.founders if self.role is Role.PRE_CANDIDATE else bool(self.founders)
        needed = len(self.voters) if founding else self.quorum
        if self.role is Role.PRE_CANDIDATE and granted_by < len(self.voters):
            granted_by -= len(self.founders)  # these count only together
        if granted_by >= needed:
            self._win(granted_by, now)
        elif len(votes) - sum(votes) > len(self.voters) - needed:
            self._lose(now)

    def _win(self, granted_by: int, now: float) -> None:
        if self.role is Role.PRE_CANDIDATE:
            if granted_by < len(self.voters):
                self.founders = {}
            self._campaign(now, pre=False)
        elif self.votes.get(self.node_id):
            self.recovering = False
            self._lead(now)

    def _lose(self, now: float) -> None:
        """A majority refuses, so there is no reason to wait out the campaign: try again after a short random pause.

        With evidence against the leader the others merely have not seen it yet, which is a matter of milliseconds.
        """
        timeout, stagger = self.config.election_timeout, self.config.suspect_stagger
        fresh = any(now - evidence < timeout for evidence in self.suspected.values())
        delay = self.rng.uniform(0.25, 0.75) * stagger if fresh else self._retry_delay()
        self._become_follower(self.term, None, now, delay)

    def _on_timeout_now(self, now: float) -> None:
        if self.is_voter and not self.recovering:
            self.founders = {}
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
        rank = successors.index(self.node_id) if self.is_voter else len(successors)
        stagger = self.config.suspect_stagger
        self.election_deadline = min(self.election_deadline, now + rank * stagger + self.rng.uniform(0, stagger / 4))
