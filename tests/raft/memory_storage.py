"""Raft storage in memory, that can lose power in the middle of a persist."""

import random

from ottla.controller.raft import Entry, HardState, PersistentState, Ready, Snapshot


class MemoryStorage:
    """What survives a crash. ``persist`` makes the parts of a Ready durable in the promised order; ``tear`` makes only
    a prefix of them durable, which is what a crash during ``persist`` leaves."""

    def __init__(self) -> None:
        self.hard_state: HardState | None = None
        self.snapshot: Snapshot | None = None
        self.entries: dict[int, Entry] = {}
        self.closed = False
        self.settled = 0

    def load(self) -> PersistentState:
        base = self.snapshot.index if self.snapshot else 0
        entries = tuple(entry for index, entry in sorted(self.entries.items()) if index > base)
        return PersistentState(self.hard_state, self.snapshot, entries)

    def persist(self, ready: Ready) -> None:
        self._persist(ready, 2 + len(ready.entries))

    def tear(self, ready: Ready, rng: random.Random) -> None:
        self._persist(ready, rng.randint(0, 2 + len(ready.entries)))

    def _persist(self, ready: Ready, steps: int) -> None:
        if ready.hard_state is not None and steps >= 1:
            self.hard_state = ready.hard_state
        if ready.snapshot is not None and steps >= 2:
            self.snapshot = ready.snapshot
            held = self.entries.get(ready.snapshot.index)
            if ready.install and (held is None or held.term != ready.snapshot.term):
                self.entries.clear()
        for entry in ready.entries[: max(0, steps - 2)]:
            for index in [index for index in self.entries if index >= entry.index]:
                del self.entries[index]
            self.entries[entry.index] = entry

    def compact(self, first_index: int) -> None:
        for index in [index for index in self.entries if index < first_index]:
            del self.entries[index]

    def settle(self) -> None:
        self.settled += 1

    def close(self) -> None:
        self.closed = True

    def holds(self, index: int, term: int) -> bool:
        if self.snapshot is not None and index <= self.snapshot.index:
            return True
        entry = self.entries.get(index)
        return entry is not None and entry.term == term

    @property
    def is_empty(self) -> bool:
        return self.hard_state is None and self.snapshot is None and not self.entries

    @property
    def last_index(self) -> int:
        return max([*self.entries, self.snapshot.index if self.snapshot else 0])
