"""What Raft promises (Figure 3 of the paper), checked on the cores and logs of the nodes that run."""

from __future__ import annotations

from typing import Any

from ottla.controller import Entry, RaftDriver, Role, VoterSet
from ottla.log import PartitionLog
from ottla.simulation.errors import Anomaly
from ottla.simulation.invariants.voters import VoterTruth


class RaftLife:
    """The Raft node of one life, as it was at the last look. `entries` is its log's list, which may not become shorter
    than `floor`: what is committed."""

    def __init__(self, truth: RaftTruth, node: int, driver: RaftDriver, life: int) -> None:
        self.core = core = driver.core
        self.node = node
        self.life = life
        self._truth = truth
        self.term = core.term
        self.vote = core.vote
        self.role = Role.FOLLOWER
        self.snapshot: Any = None
        self.commit = self.floor = 0
        self.entries = core.log._entries
        self.voters: VoterSet | None = None  # the newest in its log

    def __str__(self) -> str:
        return f"node {self.node} in term {self.core.term}"

    def look(self) -> None:
        """Something has moved. Raises Anomaly."""
        core = self.core
        if core.term < self.term:
            raise Anomaly(f"node {self.node}: the Raft term went back from {self.term} to {core.term}")
        if core.term == self.term and self.vote is not None and core.vote != self.vote:
            raise Anomaly(f"{self}: voted for {self.vote} and then for {core.vote}")
        if core.commit < self.commit:
            raise Anomaly(f"{self}: the commit index went back from {self.commit} to {core.commit}")
        if core.log.last_index < core.commit:
            raise Anomaly(f"{self}: the log was cut to {core.log.last_index}, committed is {core.commit}")
        led = self.role is Role.LEADER and self.term == core.term
        if led and core.commit > self.commit and core.log.term_at(core.commit) != core.term:
            term = core.log.term_at(core.commit)
            raise Anomaly(f"{self}: committed {core.commit}@{term} by counting, though it is of an older term")
        self.term, self.vote, self.role = core.term, core.vote, core.role
        if core.role is Role.LEADER and not led:
            self._truth.elected(self)
        if core.log.voters is not self.voters:
            self.voters = core.log.voters
            self._truth.changed(self)
        if core.commit > self.commit:
            before, self.commit = self.commit, core.commit
            self._truth.committed(self, before)
        if core.snapshot is not self.snapshot:
            self.snapshot = core.snapshot
            self._truth.snapshot(self)
        self.floor = core.commit - core.log.first_index + 1


class RaftTruth:
    """What was ever committed, by whom terms were led, and what each node promised to remember."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []  # entries[i] has index i + 1
        self.committed_by: list[int] = []  # the term in which that was seen first: it was committed then, or before
        self._leaders: dict[int, tuple[int, int]] = {}  # term -> (node, life)
        self._lives: dict[int, RaftLife] = {}
        self._logs: dict[int, PartitionLog] = {}
        self._lost: dict[int, list[PartitionLog]] = {}  # what a node's disk had before that was lost
        self._voters = VoterTruth()

    @property
    def voters(self) -> VoterSet | None:
        """The newest that is committed; None as long as it is that of the settings."""
        return self._voters.committed

    @property
    def voter_changes(self) -> int:
        """How many were committed."""
        return self._voters.changes

    def voters_behind(self) -> list[frozenset[int]]:
        """The sets of voters that are not known to be committed, but are in the log of a node, up or down."""
        logs = (life.core.log for life in self._lives.values())
        return [log.voters.ids for log in logs if log.voters is not None and log.voters_index > self._voters.index]

    def changed(self, life: RaftLife) -> None:
        """It has other voters in its log. Raises Anomaly."""
        there = {node: each.core for node, each in self._lives.items()}
        self._voters.seen(str(life), life.core, self.entries, there)

    def leaves(self, node: int) -> None:
        """This node has left the cluster for good. Raises Anomaly when it is a voter."""
        self._voters.leaves(node)

    def begins(self, node: int, driver: RaftDriver) -> RaftLife:
        """A node has read its disk. Raises Anomaly when it does not remember what it had promised to."""
        before = self._lives.get(node)
        life = RaftLife(self, node, driver, 1 if before is None else before.life + 1)
        held, log = self._logs.get(node), _log(driver)
        if held is not None and log.log_end_offset < held.recovery_point:
            self._lost.setdefault(node, []).append(held)
        self._lives[node], self._logs[node] = life, log
        core = life.core
        if before is not None and before.core.identity == core.identity:
            told = before.core._durable
            if core.term < told.term:
                raise Anomaly(f"node {node} came back in term {core.term}, it had promised to remember {told.term}")
            if core.term == told.term and told.vote is not None and core.vote != told.vote:
                raise Anomaly(f"{life}: came back with the vote {core.vote}, it had voted for {told.vote}")
        life.look()
        return life

    def elected(self, life: RaftLife) -> None:
        """Election safety and leader completeness (sections 5.2 and 5.4): a leader has what was committed before its
        term. One that hears late of its votes need not have what a later term has committed."""
        core, who = life.core, (life.node, life.life)
        other = self._leaders.setdefault(core.term, who)
        if other != who:
            raise Anomaly(f"two leaders in Raft term {core.term}: nodes {other[0]} and {life.node}")
        first = core.log.first_index - 1
        for entry, by in zip(self.entries[first:], self.committed_by[first:], strict=True):
            if by < core.term and core.log.term_at(entry.index) != entry.term:
                raise Anomaly(
                    f"{life}: leads with a log of {core.log.last_index} entries that has "
                    f"{core.log.term_at(entry.index)} for the term of committed entry {entry.index}@{entry.term}"
                )

    def committed(self, life: RaftLife, before: int) -> None:
        """State machine safety (section 5.4.3), and that what is committed survives a minority (5.4.2)."""
        core, known = life.core, self.entries
        fresh = None
        for entry in core.log.between(max(before + 1, core.log.first_index), core.commit):
            if entry.index <= len(known):
                if known[entry.index - 1] != entry:
                    there = known[entry.index - 1]
                    raise Anomaly(
                        f"{life}: committed {entry.index}@{entry.term} ({_short(entry)}), where "
                        f"{there.index}@{there.term} ({_short(there)}) is committed"
                    )
            elif entry.index == len(known) + 1:
                known.append(entry)
                self.committed_by.append(core.term)
                self._voters.has_committed(str(life), core.log, entry.index)
                fresh = entry
            else:
                raise Anomaly(f"{life}: committed entry {entry.index} while nobody has committed {len(known) + 1}")
        if fresh is not None:
            self._on_majority(life, fresh)

    def _on_majority(self, life: RaftLife, entry: Entry) -> None:
        """What a node has told of, it may have lost before the leader counts it: it counts as held for this entry."""
        voters = life.core.voters
        holders = [
            node
            for node in sorted(voters)
            if node in self._logs and any(_has(log, entry) for log in (self._logs[node], *self._lost.get(node, ())))
        ]
        if len(holders) <= len(voters) // 2:
            raise Anomaly(
                f"{life}: committed entry {entry.index}@{entry.term}, durable only on nodes {holders} of {len(voters)}"
            )

    def snapshot(self, life: RaftLife) -> None:
        snapshot = life.core.snapshot
        if snapshot is None:
            return
        if snapshot.index > min(life.core.commit, len(self.entries)):
            raise Anomaly(f"{life}: has a snapshot at {snapshot.index}, committed is {life.core.commit}")
        if self.entries[snapshot.index - 1].term != snapshot.term:
            raise Anomaly(f"{life}: its snapshot at {snapshot.index} ends in term {snapshot.term}")
        voters = self._voters.at(snapshot.index)
        if snapshot.voters != voters:
            raise Anomaly(f"{life}: its snapshot at {snapshot.index} has the voters {snapshot.voters}, not {voters}")


def _log(driver: RaftDriver) -> PartitionLog:
    """The log on the disk of a node. It stays readable after the node's death, as it was then."""
    log: PartitionLog = driver._storage._log  # type: ignore[attr-defined]
    return log


def _has(log: PartitionLog, entry: Entry) -> bool:
    """Whether the entry is durable there, by itself or in a snapshot."""
    offset = entry.index - 1
    if offset < log.log_start_offset:
        return True
    return offset < log.recovery_point and log.epoch_for_offset(offset) == entry.term


def _short(entry: Entry) -> str:
    return entry.data[:60].decode(errors="replace") or "no-op"
