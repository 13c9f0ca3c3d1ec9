"""What must hold after every event: the properties of Figure 3 of the Raft paper, and what durability means."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from ottla.controller.raft import Entry, Message, RaftCore, Role
from ottla.controller.raft.messages import VoteRequest, VoteResponse
from ottla.controller.raft.voter_set import decode_voter_set

if TYPE_CHECKING:
    from tests.raft.simulation import SimulatedNode, Simulation


class InvariantBroken(AssertionError):
    pass


def require(condition: bool, message: str) -> None:
    if not condition:
        raise InvariantBroken(message)


class Invariants:
    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self.wiped = False
        self.voters: frozenset[int] | None = None  # the newest that are committed
        self.voters_index = 0
        self.proposed_voters: set[tuple[int, frozenset[int]]] = set()  # (index, voters)
        self._voter_sets: dict[int, object] = {}  # node -> the newest set looked at
        self._leaders: dict[int, int] = {}  # term -> leader
        self._checked_leaders: set[tuple[int, int]] = set()
        self._entries: dict[tuple[int, int], tuple[int, bytes]] = {}  # (index, term) -> (previous term, data)
        self._committed: dict[int, Entry] = {}
        self._commits: dict[int, int] = {}  # node -> commit seen in this life
        self._logs: dict[int, tuple[int, int]] = {}  # node -> (last index, last term) seen
        self._terms: dict[int, int] = {}
        self._votes: dict[tuple[str, int], int] = {}  # (directory of the voter, term) -> candidate

    def restarted(self, node: SimulatedNode) -> None:
        core = node.core
        assert core is not None
        self._commits[node.node_id] = core.commit
        self._logs.pop(node.node_id, None)
        if not self.wiped:
            require(core.term >= self._terms.get(node.node_id, 0), f"node {node.node_id} forgot a term it had told")

    def sent(self, sender: int, to: int, message: Message) -> None:
        """One vote per term and disk (5.2), whatever happened to the process in between."""
        directory = self._simulation.nodes[sender].config.directory_id
        match message:
            case VoteRequest(pre=True):
                return
            case VoteRequest():
                self._voted(directory, message.term, sender)
            case VoteResponse(granted=True, pre=False):
                self._voted(directory, message.election, to)
            case _:
                pass
        self._terms[sender] = max(self._terms.get(sender, 0), message.term)

    def _voted(self, directory: str, term: int, candidate: int) -> None:
        before = self._votes.setdefault((directory, term), candidate)
        require(before == candidate, f"{directory} voted twice in term {term}: for {before} and {candidate}")

    def check(self) -> None:
        for node in self._simulation.nodes.values():
            if node.core is not None:
                self._check_election_safety(node.core)
                self._check_log_matching(node.core)
                self._check_voters(node.core)
                self._check_commit(node.core)

    def _check_election_safety(self, core: RaftCore) -> None:
        """5.2: at most one leader per term; 5.4: it holds every committed entry."""
        if core.role is not Role.LEADER:
            return
        elected = self._leaders.setdefault(core.term, core.node_id)
        require(elected == core.node_id, f"term {core.term} has two leaders: {elected} and {core.node_id}")
        if (core.term, core.node_id) in self._checked_leaders:
            return
        self._checked_leaders.add((core.term, core.node_id))
        for index, entry in self._committed.items():
            if index >= core.log.first_index:
                require(
                    core.log.term_at(index) == entry.term,
                    f"leader {core.node_id} of term {core.term} lacks committed entry {index}@{entry.term}",
                )

    def _check_log_matching(self, core: RaftCore) -> None:
        """5.3: index and term determine the data and, by induction over the previous term, the whole prefix."""
        end = (core.log.last_index, core.log.last_term)
        seen = self._logs.get(core.node_id)
        if seen == end:
            return
        self._logs[core.node_id] = end
        first = core.log.first_index
        if seen is not None and seen[0] < end[0] and core.log.term_at(seen[0]) == seen[1]:
            first = max(first, seen[0] + 1)
        previous = core.log.term_at(first - 1)
        assert previous is not None
        for entry in core.log.between(first, end[0]):
            known = self._entries.setdefault((entry.index, entry.term), (previous, entry.data))
            require(known == (previous, entry.data), f"logs do not match at {entry.index}@{entry.term}")
            previous = entry.term

    def _check_voters(self, core: RaftCore) -> None:
        """Thesis 4.1: any majorities of two sets of voters that may count at the same time have a node in common."""
        log = core.log
        if self._voter_sets.get(core.node_id) is log.voters:
            return
        self._voter_sets[core.node_id] = log.voters
        self.proposed_voters.add((log.voters_index, core.voters))
        sets = [(at, self._simulation.bootstrap if each is None else each.ids) for at, each in log._voter_sets]
        for (_, older), (index, newer) in itertools.pairwise(sets):
            require(
                len(older) // 2 + 1 + len(newer) // 2 + 1 > len(older | newer),
                f"node {core.node_id}: {sorted(older)} and {sorted(newer)} at {index} have disjoint majorities",
            )
        require(sum(at > core.commit for at, _ in sets) <= 1 or core.role is not Role.LEADER, "two changes at once")

    def _check_commit(self, core: RaftCore) -> None:
        """5.4.3 state machine safety; the commit index never goes back in one life; committed means durable."""
        seen = self._commits[core.node_id]
        require(core.commit >= seen, f"node {core.node_id}: commit went back from {seen} to {core.commit}")
        if core.commit == seen:
            return
        self._commits[core.node_id] = core.commit
        for entry in core.log.between(max(seen + 1, core.log.first_index), core.commit):
            known = self._committed.get(entry.index)
            if known is None:
                self._committed[entry.index] = entry
                voters = decode_voter_set(entry.data)
                if voters is not None:
                    self.voters, self.voters_index = voters.ids, entry.index
                self._check_durable(entry, core.voters)
            else:
                require(known == entry, f"node {core.node_id} committed another entry at {entry.index}")

    def _check_durable(self, entry: Entry, voters: frozenset[int]) -> None:
        nodes = self._simulation.nodes
        copies = sum(nodes[voter].storage.holds(entry.index, entry.term) for voter in voters)
        require(
            self.wiped or copies > len(voters) // 2,
            f"entry {entry.index}@{entry.term} is committed with {copies} durable copies",
        )

    def check_everything(self) -> None:
        """The slow version, once at the end."""
        self._logs.clear()
        self.check()
        for node in self._simulation.nodes.values():
            applied = [index for index, _ in node.state]
            require(applied == list(range(1, len(applied) + 1)), f"node {node.node_id} applied with gaps or twice")
            for index, data in node.state:
                if index in self._committed:
                    require(self._committed[index].data == data, f"node {node.node_id} applied another {index}")
