"""The invariants have teeth: cores with a classic bug are caught by the same storms."""

import random
from typing import Any

import pytest

from ottla.controller.raft import (
    Entry,
    HardState,
    PersistentState,
    RaftConfig,
    RaftCore,
    RaftInvariantError,
    Ready,
)
from ottla.controller.raft.entry_log import EntryLog
from ottla.controller.raft.messages import AppendRequest
from tests.raft.invariants import InvariantBroken
from tests.raft.memory_storage import MemoryStorage
from tests.raft.simulation import Simulation
from tests.raft.storms import CHANGES, FAULTS, storm
from tests.raft.test_membership import added_voter_loses_its_disk, asks_to_be_added_without_memory, wiped_founders


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


class CountsTheCommittedVoters(RaftCore):
    """A new set of voters is not in force before it is committed."""

    def _committed_voters(self) -> None:
        voters = self.log.voters_at(max(self.commit, self.log.first_index - 1))
        self.voters = (voters or self.config.bootstrap).ids

    def _quorum_value(self, own: int, values: dict[int, int]) -> int:
        self._committed_voters()
        return super()._quorum_value(own, dict.fromkeys(self.voters, 0) | values)

    def _count_vote(self, *args: Any) -> None:
        self._committed_voters()
        super()._count_vote(*args)


class ChangesTwoAtOnce(RaftCore):
    def _is_change_pending(self, leading: Any) -> bool:
        return False


class RemembersAsLearner(RaftCore):
    """A node that its settings have as a learner is taken to have nothing to forget: a voter that was added later and
    lost its disk takes part as if nothing had happened."""

    def __init__(self, config: RaftConfig, rng: random.Random, persistent: PersistentState, now: float) -> None:
        if persistent.hard_state is None and config.node_id not in config.voters:
            persistent = PersistentState(HardState(identity=f"{config.directory_id}.{rng.random()}"))
        super().__init__(config, rng, persistent, now)


class AddsWithoutMemory(RaftCore):
    """A node that has not been readmitted is added: the leader then needs what does not count."""

    def _may_join(self, node: Any, progress: Any, now: float) -> bool:
        return True

    def _has_majority(self, leading: Any, voters: Any, now: float) -> bool:
        return True


class FoundsWithAMajority(RaftCore):
    """Nodes without memory elect when they are a majority of the voters in their settings."""

    def _count_vote(self, voter: int, granted: bool, founder: str, now: float) -> None:
        super()._count_vote(voter, granted, "", now)

    def _may_found(self, candidate: int, request: Any) -> bool:
        return not (self.log.last_index or request.last_index)


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


def weathers(core_type: type[RaftCore], seed: int) -> bool:
    """A storm with changes of the voters, and then progress."""
    rng = random.Random(seed)
    kind = type("Changing", (Simulation,), {"core_type": core_type})
    voters = rng.choice([1, 2, 3])
    simulation = kind(voters, seed, learners=5 - voters, max_batch_bytes=1)
    menu = [name for name in sorted(CHANGES) if name not in ("noisy", "false evidence", "transfer", "barrier")]
    try:
        storm(simulation, [rng.choice(menu) for _ in range(30)], faults=CHANGES)
        simulation.settle(40)
        simulation.invariants.check_everything()
    except (AssertionError, RaftInvariantError, LookupError):
        return False
    return True


CHANGING = [CountsTheCommittedVoters, ChangesTwoAtOnce]


@pytest.mark.parametrize("core_type", CHANGING)
def test_storms_with_changes_of_the_voters_catch(core_type: type[RaftCore]) -> None:
    caught = next((seed for seed in range(400) if not weathers(core_type, seed)), None)
    assert caught is not None, f"{core_type.__name__} weathered every storm"
    assert weathers(RaftCore, caught), "the real core is caught as well"


def mutated(core_type: type[RaftCore]) -> type[Simulation]:
    return type("Mutated", (Simulation,), {"core_type": core_type})


def test_two_wiped_voters_with_old_settings_catch_founding_with_a_majority() -> None:
    simulation = wiped_founders([1, 2], kind=mutated(FoundsWithAMajority))
    with pytest.raises(InvariantBroken):
        simulation.run(60)


def test_lost_disk_of_an_added_voter_catches_memories_that_learners_do_not_have() -> None:
    simulation, index, _ = added_voter_loses_its_disk(mutated(RemembersAsLearner))
    with pytest.raises(InvariantBroken, match=f"lacks committed entry {index}"):
        simulation.run(20)


def test_a_wiped_node_that_asks_to_be_added_catches_adding_without_memory() -> None:
    simulation, leader, node = asks_to_be_added_without_memory(mutated(AddsWithoutMemory))
    assert node in simulation.core(leader).voters, "the real core waits: see test_membership"


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
