"""Voters come and go, one at a time (thesis chapter 4, KIP-853), and no disk that is lost on the way is believed."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ottla.controller.raft import Refusal, Role
from tests.raft.simulation import Simulation
from tests.raft.storms import CHANGES, storm

SEEDS = st.integers(0, 2**32)
STEPS = st.lists(st.sampled_from(sorted(CHANGES)), max_size=40)


@pytest.mark.parametrize("voters", [1, 3])
@settings(suppress_health_check=[HealthCheck.too_slow], phases=[Phase.explicit, Phase.generate])
@given(seed=SEEDS, steps=STEPS)
def test_voters_change_in_every_storm_and_then_there_is_progress(voters: int, seed: int, steps: list[str]) -> None:
    simulation = Simulation(
        voters, seed, learners=6 - voters, retained_entries=4, snapshot_chunk_bytes=64, max_batch_bytes=256
    )
    storm(simulation, steps, faults=CHANGES)
    simulation.settle()
    simulation.invariants.check_everything()


@pytest.mark.parametrize("seed", range(10))
def test_one_voter_becomes_three_and_five_and_three_again_while_leaders_are_killed(seed: int) -> None:
    simulation = Simulation(1, seed, learners=4, retained_entries=4)
    simulation.faults.drop = simulation.faults.duplicate = 0.05
    storming = True

    def kill_leader() -> None:
        leader = simulation.leader
        if leader is not None and len(simulation.voters) > 2:
            simulation.crash(leader)
            simulation.at(simulation.now + 0.5, lambda: simulation.start(leader))
        if storming:
            simulation.at(simulation.now + simulation.rng.uniform(2, 4), kill_leader)

    kill_leader()
    for new in (2, 3, 4, 5):
        simulation.grow(new)
    for _ in range(2):
        assert simulation.run_until(lambda: simulation.leader in simulation.voters, 20)
        simulation.shrink(simulation.elect())
    storming = False
    simulation.run(5)
    simulation.settle()
    simulation.invariants.check_everything()
    assert len(simulation.voters) == 3


def test_thesis_4_1_a_change_counts_as_soon_as_it_is_in_the_log_and_is_taken_back_with_it() -> None:
    simulation = Simulation(3, seed=3, learners=1)
    leader = simulation.elect()
    simulation.run(1)
    simulation.isolate(leader)
    assert isinstance(simulation.remove(leader, min(simulation.voters - {leader})), int)
    assert len(simulation.core(leader).voters) == 2, "in force, though nobody else can have it"
    simulation.run(3)
    simulation.settle()
    assert simulation.core(leader).voters == {1, 2, 3}


def test_refusals() -> None:
    simulation = Simulation(3, seed=4, learners=2)
    leader = simulation.elect()
    core = simulation.core(leader)
    assert simulation.add(max(simulation.voters - {leader}), 4) is Refusal.NOT_LEADER
    assert simulation.add(leader, 2) is Refusal.DUPLICATE_VOTER
    assert simulation.remove(leader, 9) is Refusal.VOTER_NOT_FOUND
    told = core.remove_voter(2, "another directory", simulation.now)
    assert isinstance(told, int), "of a voter of the settings nobody knows the directory"
    assert simulation.remove(leader, 3) is Refusal.CHANGE_PENDING
    assert simulation.add(leader, 4) is Refusal.CHANGE_PENDING
    simulation.run(1)
    simulation.grow(4)
    leader = simulation.elect()
    assert simulation.core(leader).remove_voter(4, "another directory", simulation.now) is Refusal.VOTER_NOT_FOUND
    heir = next(voter for voter in simulation.voters if voter != leader)
    simulation.core(leader).transfer_leadership(heir, simulation.now)
    assert simulation.remove(leader, 4) is Refusal.NOT_LEADER


def test_a_leader_without_an_entry_of_its_own_term_changes_nothing() -> None:
    """The single-server bug that Ongaro told raft-dev of in 2015."""
    simulation = Simulation(3, seed=5)
    assert simulation.run_until(lambda: simulation.leader is not None, 1)
    leader = simulation.leader
    assert leader is not None
    assert simulation.remove(leader, leader) is Refusal.NOT_READY


def test_a_removal_that_could_not_be_committed_is_refused() -> None:
    simulation = Simulation(3, seed=16)
    leader = simulation.elect()
    simulation.run(1)
    dead, other = sorted(simulation.voters - {leader})
    simulation.crash(dead)
    simulation.run(2)
    assert simulation.remove(leader, other) is Refusal.NO_MAJORITY
    assert isinstance(simulation.remove(leader, dead), int)


def test_the_only_voter_cannot_be_removed() -> None:
    simulation = Simulation(1, seed=6)
    assert simulation.remove(simulation.elect(), 1) is Refusal.LAST_VOTER


def test_thesis_4_2_1_a_node_that_does_not_catch_up_is_not_added() -> None:
    simulation = Simulation(3, seed=7, learners=1)
    leader = simulation.elect()
    simulation.isolate(4)
    token = simulation.add(leader, 4)
    assert isinstance(token, int)
    simulation.run(11)
    assert simulation.changes[token] is Refusal.NOT_CAUGHT_UP
    assert simulation.core(leader).voters == {1, 2, 3}


def test_thesis_4_2_2_a_leader_that_removes_itself_leads_until_that_is_committed_and_hands_over() -> None:
    simulation = Simulation(3, seed=8)
    old = simulation.elect()
    simulation.run(1)
    others = simulation.voters - {old}
    lost = max(others)
    simulation.isolate(lost)
    index = simulation.remove(old, old)
    assert isinstance(index, int)
    simulation.run(0.5)
    assert simulation.core(old).role is Role.LEADER
    assert simulation.core(old).commit < index, "both of the others are needed: the leader does not count itself"
    simulation.heal()
    assert simulation.run_until(lambda: simulation.core(old).commit >= index, 1.0)
    committed = simulation.now
    assert simulation.run_until(lambda: set(simulation.leaders()) <= others and bool(simulation.leaders()), 1.0)
    assert simulation.now - committed < 0.1, "a hand-over waits for no timer"
    simulation.settle()
    assert simulation.core(old).role is Role.LEARNER


def test_thesis_4_2_3_a_removed_voter_that_has_not_heard_of_it_disturbs_nobody_and_becomes_a_learner() -> None:
    simulation = Simulation(3, seed=9)
    leader = simulation.elect()
    simulation.run(1)
    removed = max(simulation.voters - {leader})
    simulation.isolate(removed)
    simulation.shrink(removed)
    simulation.run(30)
    term = simulation.core(leader).term
    simulation.heal()
    simulation.settle()
    assert simulation.core(leader).term == term
    assert simulation.core(removed).role is Role.LEARNER


def test_thesis_4_1_a_node_votes_for_a_set_that_it_has_not_heard_of() -> None:
    """Of {1, 2, 3} and the new 4, only the leader has the entry that adds it, and one of the others is dead."""
    simulation = Simulation(3, seed=10, learners=1)
    leader = simulation.elect()
    simulation.run(1)
    dead, other = sorted(simulation.voters - {leader})
    simulation.crash(dead)
    simulation.loses = lambda message: any(entry.data for entry in getattr(message, "entries", ()))
    assert isinstance(simulation.add(leader, 4), int)
    assert simulation.run_until(lambda: 4 in simulation.core(leader).voters, 2)
    simulation.run(0.01)  # on the disk of the leader
    simulation.crash(leader)
    simulation.start(leader)
    simulation.loses = lambda message: False
    assert simulation.run_until(lambda: simulation.has_working_leader() and 4 in simulation.voters, 10)
    assert other in simulation.voters


def test_snapshot_carries_the_voters_to_a_node_that_missed_the_change() -> None:
    simulation = Simulation(3, seed=11, learners=1, retained_entries=0, snapshot_chunk_bytes=16)
    leader = simulation.elect()
    late = max(simulation.voters - {leader})
    simulation.run(1)
    simulation.isolate(late)
    simulation.grow(4)
    leader = simulation.elect()
    simulation.run(0.5)
    assert simulation.snapshot(leader)
    simulation.run(0.5)
    assert simulation.core(leader).log.first_index > simulation.core(leader).log.voters_index
    simulation.crash(leader)
    simulation.settle()
    assert all(simulation.core(node).voters == {1, 2, 3, 4} for node in simulation.nodes)


# -- lost disks


def wiped_founders(wiped: list[int], kind: type[Simulation] = Simulation) -> Simulation:
    """Voters 1 to 5, of which the settings of all name only 1 to 3; then `wiped` lose their disks and hear only one
    another."""
    simulation = kind(3, seed=12, learners=2)
    simulation.grow(4)
    simulation.grow(5)
    simulation.run(1)
    for node in wiped:
        assert simulation.may_wipe(node)
        simulation.wipe(node)
        simulation.nodes[node].config = replace(simulation.nodes[node].config, voters=simulation.bootstrap)
        for other in simulation.nodes.keys() - set(wiped):
            simulation.cut |= {(node, other), (other, node)}
    for node in wiped:
        simulation.start(node)
    return simulation


def test_two_wiped_voters_of_five_found_no_other_cluster_though_they_are_most_of_those_in_their_settings() -> None:
    simulation = wiped_founders([1, 2])
    simulation.run(60)
    assert not {1, 2} & set(simulation.leaders())
    simulation.settle()
    simulation.invariants.check_everything()


def added_voter_loses_its_disk(kind: type[Simulation] = Simulation) -> tuple[Simulation, int, int]:
    """The settings of a voter that was added have it as a learner, which used to have nothing to forget. It loses its
    disk, with one of the two copies of a committed entry, while the node without one is cut off. Returns the index of
    that entry, and the node that lacks it."""
    simulation = kind(1, seed=13, learners=2)
    simulation.grow(2)
    simulation.grow(3)
    simulation.run(1)
    leader = simulation.elect()
    other, wiped = sorted(simulation.voters - {leader})
    simulation.isolate(other)
    index = simulation.propose(leader, b"on two disks only")
    assert index is not None
    simulation.run(0.05)
    assert simulation.core(leader).commit >= index
    simulation.wipe(wiped)
    simulation.nodes[wiped].config = replace(simulation.nodes[wiped].config, voters=simulation.bootstrap)
    simulation.crash(leader)
    simulation.start(wiped)
    simulation.heal()
    return simulation, index, other


def test_a_voter_added_later_that_loses_its_disk_neither_votes_nor_counts_until_it_is_readmitted() -> None:
    simulation, index, other = added_voter_loses_its_disk()
    simulation.run(20)
    assert simulation.leaders() == [], "the forgetful voter helped to elect a leader without a committed entry"
    simulation.settle()
    assert (index, b"on two disks only") in simulation.nodes[other].state


def asks_to_be_added_without_memory(kind: type[Simulation] = Simulation) -> tuple[Simulation, int, int]:
    """A voter is removed, loses its disk, and is to be added again while nothing commits, so that nobody is readmitted.
    Returns the leader and that node."""
    simulation = kind(3, seed=14)
    simulation.elect()
    simulation.run(1)
    leaver, other = sorted(simulation.voters - {simulation.elect()})
    simulation.shrink(leaver)
    simulation.wipe(leaver)
    simulation.start(leaver)
    leader = simulation.elect()
    simulation.isolate(other)
    assert isinstance(simulation.add(leader, leaver), int)
    simulation.run(0.9)
    assert simulation.core(leaver).recovering
    return simulation, leader, leaver


def test_a_node_is_added_only_once_it_is_readmitted() -> None:
    simulation, leader, leaver = asks_to_be_added_without_memory()
    assert leaver not in simulation.core(leader).voters
    simulation.settle()
    assert not simulation.core(leaver).recovering


def test_a_dead_voter_is_replaced_for_good() -> None:
    simulation = Simulation(3, seed=15, learners=1)
    leader = simulation.elect()
    simulation.run(1)
    dead = max(simulation.voters - {leader})
    simulation.crash(dead)
    simulation.grow(4)
    simulation.shrink(dead)
    survivor = next(iter(simulation.voters - {4, simulation.elect()}))
    simulation.crash(survivor)
    assert simulation.run_until(simulation.has_working_leader, 5), "the new voter is one of two of three"


@pytest.mark.parametrize("wiped", [False, True])
def test_a_node_that_was_removed_while_it_was_down_finds_a_leader_whom_it_does_not_know(wiped: bool) -> None:
    """It takes itself for a voter yet, and those whom it asks for their votes follow somebody who was added since."""
    simulation = Simulation(3, seed=15, learners=2)
    simulation.elect()
    simulation.run(1)
    removed = max(simulation.voters - {simulation.elect()})
    simulation.crash(removed)
    for new in (4, 5):
        simulation.grow(new)
    simulation.shrink(removed)
    leader = simulation.elect()
    assert simulation.core(leader).transfer_leadership(4, simulation.now)
    simulation.pump(simulation.nodes[leader])
    assert simulation.run_until(lambda: simulation.leader == 4 and simulation.has_working_leader(), 5)
    simulation.run(30)  # until the leader has forgotten that it was there
    if wiped:
        simulation.wipe(removed)
        simulation.nodes[removed].config = replace(simulation.nodes[removed].config, voters=simulation.bootstrap)
    simulation.start(removed)
    assert simulation.run_until(simulation.converged, 20)
    assert simulation.core(removed).role is Role.LEARNER and simulation.leader == 4
