"""The invariants have teeth: cores with a classic bug are caught by the same storms."""

import random
from typing import Any

import pytest

from ottla.controller.raft import Entry, HardState, RaftCore, RaftInvariantError, Ready
from ottla.controller.raft.entry_log import EntryLog
from ottla.controller.raft.messages import AppendRequest
from tests.raft.invariants import InvariantBroken
from tests.raft.memory_storage import MemoryStorage
from tests.raft.simulation import Simulation
from tests.raft.storms import FAULTS, storm


class ForgetsVotes(MemoryStorage):
    def _persist(self, ready: Ready, steps: int) -> None:
        super()._persist(ready, steps)
        if self.hard_state is not None:
            state = self.hard_state
            self.hard_state = HardState(state.term, None, state.recovering, state.identity)


class CommitsByCounting(RaftCore):
    """Figure 8: without the rule of section 5.4.2."""

    def _advance_commit(self) -> None:
        if self.leading is not None:
            matches = {peer: progress.match for peer, progress in self.leading.peers.items()}
            self._commit_to(max(self.commit, self._quorum_value(self.log.stable, matches)))


class CutsWithoutConflict(EntryLog):
    """Takes every append as the end of the log."""

    def merge(self, entries: Any, commit: int) -> None:
        if entries and entries[0].index <= self.last_index and entries[0].index >= self.first_index:
            self._cut(entries[0].index)
        super().merge(entries, commit)


class Truncating(RaftCore):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        log = self.log
        self.log = CutsWithoutConflict(log.first_index - 1, log.term_at(log.first_index - 1) or 0)
        self.log.append(log.between(log.first_index, log.last_index))
        self.log.handed = self.log.stable = self.log.last_index


class Unrepentant(RaftCore):
    """A voter that lost its disk takes part as if nothing had happened."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.recovering = False


class Forgetful(Simulation):
    storage_type = ForgetsVotes


class AcksFirst(Simulation):
    ack_before_persist = True


class Cutter(Simulation):
    core_type = Truncating


class Wiped(Simulation):
    core_type = Unrepentant


class FigureEight(Simulation):
    core_type = CommitsByCounting


EVERYTHING = [name for name in sorted(FAULTS) if name != "wipe"]
MENUS = {
    Forgetful: ["crash", "restart", "crash all", "restart all", "restart all", "noisy", "noisy"],
    Wiped: ["wipe", "wipe", "isolate", "join", "crash leader", "restart all", "isolate leader"],
    AcksFirst: EVERYTHING,
    Cutter: EVERYTHING,
}


def is_caught(kind: type[Simulation], menu: list[str], seed: int) -> bool:
    rng = random.Random(seed)
    simulation = kind(rng.choice([3, 5]), seed, max_batch_bytes=1)
    try:
        storm(simulation, [rng.choice(menu) for _ in range(30)])
        simulation.invariants.check_everything()
    except (InvariantBroken, RaftInvariantError):
        return True
    return False


@pytest.mark.parametrize("kind", MENUS)
def test_storms_catch(kind: type[Simulation]) -> None:
    menu = MENUS[kind]
    assert any(is_caught(kind, menu, seed) for seed in range(400)), f"{kind.__name__} weathered every storm"
    assert not any(is_caught(Simulation, menu, seed) for seed in range(10)), "the real core is caught as well"


def figure_8(kind: type[Simulation]) -> None:
    """Raft Figure 8 from (c) on: 2@2 reaches a majority in term 4, then the holder of 2@3 runs for leader."""
    simulation = kind(5, seed=8, max_batch_bytes=1)
    logs = {1: [1, 2], 2: [1, 2], 3: [1], 4: [1], 5: [1, 3]}
    for node_id, terms in logs.items():
        simulation.crash(node_id)
        storage = simulation.nodes[node_id].storage
        storage.hard_state = HardState(3, None, False, f"disk {node_id}")
        storage.entries = {index: Entry(index, term) for index, term in enumerate(terms, 1)}
    simulation.loses = lambda message: isinstance(message, AppendRequest) and any(e.term > 3 for e in message.entries)
    for node_id in (1, 2, 3):
        simulation.start(node_id)
    simulation.run(3)
    assert simulation.core(3).log.term_at(2) == 2, "(c): the entry of term 2 is on a majority"
    simulation.crash(1)
    simulation.crash(2)
    simulation.start(4)
    simulation.start(5)
    simulation.loses = lambda message: False
    simulation.elect()  # with 3, 4 and 5 only: it is 5
    simulation.settle()


def test_section_5_4_2_figure_8_catches_commit_by_counting() -> None:
    with pytest.raises(InvariantBroken):
        figure_8(FigureEight)


def test_section_5_4_2_figure_8_is_harmless_with_the_rule() -> None:
    figure_8(Simulation)
