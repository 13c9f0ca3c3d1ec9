"""One voter more, or one less (thesis 4.1 to 4.3): the leader's part.

Any two majorities of successive sets of voters have a node in common, so that one change at a time needs no joint
consensus, as long as the leader has committed an entry of its own term first, and the change before is committed.
A node is added only once it has caught up as a learner, so that it does not keep entries from being committed, and has
a memory of its own (see ``leader``). A leader that removes itself goes on until that is committed, counted in no
majority, and then hands over.
"""

from typing import Final

from ottla.controller.raft.errors import Refusal
from ottla.controller.raft.leader import Joining, Leader, LeaderState
from ottla.controller.raft.progress import Progress
from ottla.controller.raft.voter_set import VoterNode, VoterSet

MAX_ROUNDS: Final = 10
_PATIENCE: Final = 4.0  # election timeouts


class Membership(Leader):
    def add_voter(self, token: int, node: VoterNode, now: float) -> Refusal | None:
        """Let ``node`` vote once it has caught up; it must replicate as a learner. The outcome comes with the token in
        ``Ready.changes``, unless there is a refusal at once. ``directory_id``, where given, must be the node's."""
        leading = self.leading
        if leading is None:
            return Refusal.NOT_LEADER
        if node.node_id in self.voters:
            return Refusal.DUPLICATE_VOTER
        if (refusal := self._refusal(leading)) is not None:
            return refusal
        leading.joining = Joining(token, node, now + _PATIENCE * self.config.election_timeout)
        self._pursue_change(leading, now)
        return None

    def remove_voter(self, node_id: int, directory_id: str, now: float) -> Refusal | int:
        """Append the set of voters without this one; returns the index of the entry."""
        leading = self.leading
        if leading is None:
            return Refusal.NOT_LEADER
        node = self.voter_set.get(node_id)
        if node is None or (directory_id and node.directory_id and directory_id != node.directory_id):
            return Refusal.VOTER_NOT_FOUND
        if len(self.voters) == 1:
            return Refusal.LAST_VOTER
        voters = self.voter_set.without(node_id)
        if (refusal := self._refusal(leading)) is not None:
            return refusal
        return self._change_voters(voters) if self._has_majority(leading, voters, now) else Refusal.NO_MAJORITY

    def _refusal(self, leading: LeaderState) -> Refusal | None:
        if leading.transfer_to is not None:
            return Refusal.NOT_LEADER
        if self.commit < leading.first_index:
            return Refusal.NOT_READY
        return Refusal.CHANGE_PENDING if self._is_change_pending(leading) else None

    def _is_change_pending(self, leading: LeaderState) -> bool:
        return leading.joining is not None or self.log.voters_index > self.commit

    def _has_majority(self, leading: LeaderState, voters: VoterSet, now: float) -> bool:
        """A majority of these can commit an entry now: a change that cannot be committed cannot be undone either."""
        horizon = now - self.config.election_timeout
        peers = (peer for node, peer in leading.peers.items() if node in voters.ids)
        there = sum(not peer.recovering and peer.contact >= horizon for peer in peers)
        return there + (self.node_id in voters.ids) > len(voters.ids) // 2

    def _change_voters(self, voters: VoterSet) -> int:
        return self._append_own([voters.encode()])

    def _pursue_change(self, leading: LeaderState, now: float) -> None:
        """A change goes on, or is done with. Called for what may bring that about, and never while a Ready is made:
        what this appends would be taken for something that needs no disk."""
        if leading.joining is not None:
            self._advance_joining(leading, leading.joining, now)
        if self.node_id not in self.voters and leading.transfer_to is None and self.commit >= self.log.voters_index:
            self._depart(leading, now)

    # -- adding

    def _advance_joining(self, leading: LeaderState, joining: Joining, now: float) -> None:
        """Called with every answer while a node joins."""
        if joining.rounds >= MAX_ROUNDS:
            self._end_joining(leading, joining, Refusal.NOT_CAUGHT_UP)
            return
        progress = leading.peers.get(joining.node.node_id)
        if progress is None or not self._may_join(joining.node, progress, now):
            joining.target = 0
        elif not joining.target:
            joining.target, joining.began = self.log.last_index, now
        if not joining.target or progress is None or progress.match < joining.target:
            return
        if now - joining.began > self.config.election_timeout:
            joining.rounds += 1
            joining.target, joining.began = self.log.last_index, now
        elif leading.transfer_to is None and self._has_majority(leading, self.voter_set.with_node(joining.node), now):
            index = self._change_voters(self.voter_set.with_node(joining.node))
            self._end_joining(leading, joining, index)

    def _may_join(self, node: VoterNode, progress: Progress, now: float) -> bool:
        """It is there, it is the one that is meant, and it has a memory that can be counted on."""
        if progress.recovering or not progress.eligible or now - progress.contact > self.config.election_timeout:
            return False
        return (progress.identity or "").startswith(f"{node.directory_id}." if node.directory_id else "")

    @staticmethod
    def _end_joining(leading: LeaderState, joining: Joining, outcome: int | Refusal) -> None:
        leading.joining = None
        leading.changes.append((joining.token, outcome))

    # -- removing itself

    def _depart(self, leading: LeaderState, now: float) -> None:
        """The entry that removes this leader is committed: hand over to the most complete voter."""
        heirs = [(p.match, p.contact, peer) for peer, p in leading.peers.items() if p.voter and not p.recovering]
        if not heirs:
            self._become_follower(self.term, None, now)
            return
        self._begin_transfer(leading, max(heirs)[2], now)

    def _begin_transfer(self, leading: LeaderState, to: int, now: float) -> None:
        leading.transfer_to = to
        leading.transfer_deadline = now + self.config.election_timeout
        self._hand_over_if_ready(to)

    def _end_transfer(self, leading: LeaderState, now: float) -> None:
        """Nobody has taken over in time."""
        leading.transfer_to = None
        if not self.is_voter and self.commit >= self.log.voters_index:
            self._become_follower(self.term, None, now)
