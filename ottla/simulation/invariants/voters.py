"""What successive sets of voters promise (Raft thesis 4.1 to 4.3): no majority can miss what another has decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ottla.controller import Entry, Role, VoterSet
from ottla.simulation.errors import Anomaly

if TYPE_CHECKING:
    from ottla.controller.raft.core import RaftCore
    from ottla.controller.raft.entry_log import EntryLog


class VoterTruth:
    """The sets of voters that any log ever had, and those that are committed, with their indexes."""

    def __init__(self) -> None:
        self._committed: list[tuple[int, VoterSet | None]] = [(0, None)]
        self._seen: set[tuple[int, int | None]] = set()
        self._gone: set[int] = set()

    @property
    def index(self) -> int:
        return self._committed[-1][0]

    @property
    def committed(self) -> VoterSet | None:
        return self._committed[-1][1]

    @property
    def changes(self) -> int:
        """How many were committed."""
        return len(self._committed) - 1

    def at(self, index: int) -> VoterSet | None:
        """Those in force once the committed entry at `index` is applied; None: those of the settings."""
        return next(voters for at, voters in reversed(self._committed) if at <= index)

    def seen(self, who: str, core: RaftCore, committed: Sequence[Entry], nodes: Mapping[int, RaftCore]) -> None:
        """A log has a new end of its sets; `committed` are the entries of which it is known now, `nodes` all nodes as
        they are now. A set is seen first where it is made, at once: by the leader of its term. Raises Anomaly."""
        log = core.log
        at, new = log.voters_index, log.voters
        if new is None or at < log.first_index:
            return  # that of the settings, or of a snapshot
        term = log.term_at(at)
        if (at, term) in self._seen:
            return
        self._seen.add((at, term))
        since = max((index for index, _ in log._voter_sets if index < at), default=0)
        before = log.voters_at(at - 1) or core.config.bootstrap
        what = f"{who}: entry {at} changes the voters from {sorted(before.ids)} to {sorted(new.ids)}"
        if len(before.ids ^ new.ids) != 1:
            raise Anomaly(f"{what}, which is more than one at a time")
        if since >= log.first_index and not _is_committed(committed, since, log.term_at(since)):
            raise Anomaly(f"{what} before entry {since}, which had changed them, is committed")
        earlier = committed[: at - 1]
        if not earlier or earlier[-1].term != term:
            raise Anomaly(f"{what} before an entry of term {term} is committed")
        for added in new.ids - before.ids:
            self._remembers(what, core, added, nodes.get(added))

    @staticmethod
    def _remembers(what: str, core: RaftCore, added: int, node: RaftCore | None) -> None:
        """A disk may be lost in this very moment; whoever the leader has heard of must remember all it promised."""
        if core.role is not Role.LEADER or node is None or core.leading is None:
            return
        heard = core.leading.peers.get(added)
        if heard is None or (node.recovering and node.identity == heard.identity):
            raise Anomaly(f"{what}, though node {added} has lost its memory, or was not heard of")

    def has_committed(self, who: str, log: EntryLog, index: int) -> None:
        """The entry at `index` is the newest that is committed. Raises Anomaly when it makes somebody a voter who has
        left."""
        sets = [voters for at, voters in log._voter_sets if at == index and voters is not None]
        if not sets or index < log.first_index:
            return
        self._committed.append((index, sets[0]))
        if not self._gone.isdisjoint(sets[0].ids):
            raise Anomaly(f"{who}: of the voters {sorted(sets[0].ids)} {self._gone & sets[0].ids} have left")

    def leaves(self, node: int) -> None:
        """This node has left the cluster for good. Raises Anomaly when it is a voter."""
        self._gone.add(node)
        if self.committed is not None and node in self.committed.ids:
            raise Anomaly(f"node {node} has left, and is one of the voters {sorted(self.committed.ids)}")


def _is_committed(committed: Sequence[Entry], index: int, term: int | None) -> bool:
    return index <= len(committed) and committed[index - 1].term == term
