"""The part of the log after the last compaction, in memory (Raft section 5.3).

The metadata log is short (snapshots bound it), so that all of it is kept; storage holds the same entries on disk.
``handed`` is the last index given out to be persisted, ``stable`` the last known to be durable as it stands here.
``voters`` is the newest set of voters in it, None if it has none, and ``voters_index`` the entry that brought it (that
of the beginning of the log, or an earlier one, if it is gone).
"""

from collections.abc import Sequence

from ottla.controller.raft.errors import RaftInvariantError
from ottla.controller.raft.messages import Entry
from ottla.controller.raft.voter_set import VoterSet, decode_voter_set

ENTRY_OVERHEAD = 64  # bytes an entry takes in a message or a batch besides its data, generously


class EntryLog:
    def __init__(
        self,
        base_index: int = 0,
        base_term: int = 0,
        entries: Sequence[Entry] = (),
        voters: VoterSet | None = None,
    ) -> None:
        self._base_index = base_index  # the entry before the first one kept
        self._base_term = base_term
        self._entries: list[Entry] = []
        self._voter_sets: list[tuple[int, VoterSet | None]] = [(base_index, voters)]  # the first: at or before the base
        self.voters, self.voters_index = voters, base_index
        self.bytes = 0
        self.last_index = base_index
        self.append(entries)
        self.handed = self.stable = self.last_index

    @property
    def first_index(self) -> int:
        return self._base_index + 1

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self._base_term

    def term_at(self, index: int) -> int | None:
        """The term of the entry at ``index``; None when it is compacted away or not there yet."""
        if index == self._base_index:
            return self._base_term
        position = index - self._base_index - 1
        if 0 <= position < len(self._entries):
            return self._entries[position].term
        return None

    def slice(self, first: int, last: int, max_bytes: int, max_entries: int) -> tuple[Entry, ...]:
        """Entries ``first..last`` as far as they fit; at least one, so that a large entry still moves."""
        if first <= self._base_index:
            raise RaftInvariantError(f"entry {first} is compacted away, the log begins at {self.first_index}")
        start = first - self._base_index - 1
        taken: list[Entry] = []
        size = 0
        for entry in self._entries[start : min(start + max_entries, last - self._base_index)]:
            size += len(entry.data) + ENTRY_OVERHEAD
            if taken and size > max_bytes:
                break
            taken.append(entry)
        return tuple(taken)

    def between(self, first: int, last: int) -> tuple[Entry, ...]:
        return tuple(self._entries[first - self._base_index - 1 : last - self._base_index])

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries that follow the last one. Raises RaftInvariantError on a gap or a term going back."""
        for entry in entries:
            if entry.index != self.last_index + 1 or entry.term < self.last_term:
                raise RaftInvariantError(f"entry {entry.index}@{entry.term} cannot follow {self.last_index}")
            self._entries.append(entry)
            self.last_index = entry.index
            if entry.data[:1] == b"\x00" and (voters := decode_voter_set(entry.data)) is not None:
                self._voter_sets.append((entry.index, voters))
                self.voters_index, self.voters = self._voter_sets[-1]
            self.bytes += len(entry.data) + ENTRY_OVERHEAD

    def merge(self, entries: Sequence[Entry], commit: int) -> None:
        """Take a leader's entries, the one before which is known to match (section 5.3, receiver steps 3 and 4).

        Only a real conflict cuts the log: entries that are held already are skipped, so that a delayed or repeated
        request never removes what came after it.
        """
        for position, entry in enumerate(entries):
            if entry.index <= self._base_index:
                continue  # inside the snapshot, so committed and equal
            held = self.term_at(entry.index)
            if held == entry.term:
                continue
            if held is not None:
                if entry.index <= commit:
                    raise RaftInvariantError(
                        f"leader of term {entries[-1].term} contradicts committed entry {entry.index}@{held}"
                    )
                self._cut(entry.index)
            self.append(entries[position:])
            return

    def _cut(self, index: int) -> None:
        position = index - self._base_index - 1
        self.bytes -= sum(len(entry.data) + ENTRY_OVERHEAD for entry in self._entries[position:])
        del self._entries[position:]
        self.last_index = index - 1
        while self._voter_sets[-1][0] >= index:
            self._voter_sets.pop()
        self.voters_index, self.voters = self._voter_sets[-1]
        self.handed = min(self.handed, index - 1)
        self.stable = min(self.stable, index - 1)

    def voters_at(self, index: int) -> VoterSet | None:
        """Those in force at ``index``, which is not compacted away."""
        return next(voters for at, voters in reversed(self._voter_sets) if at <= index)

    def take_unpersisted(self) -> tuple[Entry, ...]:
        """Entries to persist next; remembers that they were handed out."""
        entries = self.between(self.handed + 1, self.last_index)
        self.handed = self.last_index
        return entries

    def persisted(self, index: int, term: int) -> None:
        """The log up to ``index@term`` is durable. Ignored if that entry was replaced since: the acknowledgement of
        an overwritten entry says nothing about the one in its place."""
        if self.term_at(index) == term:
            self.stable = max(self.stable, index)

    def hint(self, index: int, term: int) -> tuple[int, int]:
        """The largest held index <= ``index`` whose term is <= ``term``, with its term; (base, its term) at worst."""
        position = min(index, self.last_index)
        while position > self._base_index:
            held = self._entries[position - self._base_index - 1].term
            if held <= term:
                return position, held
            position -= 1
        return self._base_index, self._base_term

    def compact(self, index: int) -> None:
        """Forget entries up to ``index``, which a durable snapshot covers."""
        if index <= self._base_index:
            return
        term = self.term_at(index)
        if term is None or index > self.stable:
            raise RaftInvariantError(f"cannot compact up to {index}, durable up to {self.stable}")
        position = index - self._base_index
        self.bytes -= sum(len(entry.data) + ENTRY_OVERHEAD for entry in self._entries[:position])
        del self._entries[:position]
        self._base_index, self._base_term = index, term
        while len(self._voter_sets) > 1 and self._voter_sets[1][0] <= index:
            del self._voter_sets[0]

    def reset(self, index: int, term: int, voters: VoterSet | None = None) -> None:
        """Replace everything by the snapshot ``index@term``."""
        self._voter_sets = [(index, voters)]
        self.voters, self.voters_index = voters, index
        self._entries.clear()
        self.bytes = 0
        self._base_index, self._base_term = index, term
        self.handed = self.stable = self.last_index = index
