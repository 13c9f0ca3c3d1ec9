"""Failures that other systems had (KAFKA-15489, KAFKA-16144, KIP-996; Redpanda 17895, 3528; etcd 14370, 18055, 20418)
and those of the Raft paper, each by name."""

import random

import pytest

from ottla.controller.raft import (
    Entry,
    HardState,
    Message,
    PersistentState,
    RaftConfig,
    RaftCore,
    RaftInvariantError,
    Role,
)
from ottla.controller.raft.messages import AppendRequest, AppendResponse, VoteRequest, VoteResponse
from tests.raft.simulation import Simulation

VOTERS = frozenset({1, 2, 3})


def follower(term: int = 2, entries: tuple[Entry, ...] = (), **settings: object) -> RaftCore:
    config = RaftConfig(1, VOTERS, **settings)  # type: ignore[arg-type]
    return RaftCore(config, random.Random(1), PersistentState(HardState(term, identity="a"), None, entries), now=0.0)


def log_of(core: RaftCore) -> list[tuple[int, int]]:
    return [(entry.index, entry.term) for entry in core.log.between(core.log.first_index, core.log.last_index)]


def append(previous: tuple[int, int], *entries: tuple[int, int], term: int = 2, commit: int = 0) -> AppendRequest:
    return AppendRequest(term, *previous, commit, 1, tuple(Entry(index, t, b"x") for index, t in entries))


def drain(core: RaftCore, now: float = 0.0) -> list[object]:
    """Do all that the core asks for; returns the messages that left."""
    messages: list[object] = []
    while ready := core.ready(now):
        messages += [envelope.message for envelope in (*ready.urgent, *ready.messages)]
        core.persisted(ready, now)
    return messages


def test_thesis_6_2_leader_without_majority_resigns() -> None:
    simulation = Simulation(3, seed=1)
    old = simulation.elect()
    simulation.isolate(old)
    assert simulation.run_until(lambda: simulation.core(old).role is not Role.LEADER, 1.1)
    assert simulation.core(old).leader_id is None


def test_thesis_6_2_single_voter_with_check_quorum_keeps_leading() -> None:
    simulation = Simulation(1, seed=1, learners=1)
    assert simulation.run_until(simulation.has_working_leader, 0.05), "nobody to wait for"
    simulation.run(30)
    assert simulation.leaders() == [1]
    assert simulation.core(1).term == 1


def test_thesis_9_6_partitioned_voter_does_not_inflate_terms() -> None:
    simulation = Simulation(3, seed=2)
    leader = simulation.elect()
    lonely = next(voter for voter in simulation.voters if voter != leader)
    simulation.isolate(lonely)
    simulation.run(60)
    simulation.heal()
    simulation.run(5)
    assert {simulation.core(voter).term for voter in simulation.voters} == {1}
    assert simulation.leaders() == [leader]


def test_thesis_4_2_3_votes_and_pre_votes_are_refused_while_the_leader_lives() -> None:
    core = follower()
    core.step(2, append((0, 0)), 0.0)
    drain(core)
    for pre in (True, False):
        core.step(3, VoteRequest(3, 9, 2, pre), 0.9)
        assert drain(core) == [VoteResponse(2, 3, False, pre)]
    assert core.term == 2, "not even the term of a disturber is taken up"
    core.step(3, VoteRequest(3, 9, 2, True), 1.0)
    assert drain(core) == [VoteResponse(2, 3, True, True)], "a whole timeout of silence ends the lease"


def test_evidence_of_death_lifts_the_lease_and_a_late_message_of_the_dead_does_not_restore_it() -> None:
    core = follower()
    core.step(2, append((0, 0)), 0.0)
    core.suspect(2, 0.01)
    core.step(2, append((0, 0)), 0.02)
    drain(core)
    assert core.deadline < 0.05
    core.step(3, VoteRequest(3, 9, 2, True), 0.03)
    assert VoteResponse(2, 3, True, True) in drain(core)


def test_evidence_elects_a_new_leader_within_milliseconds_and_false_evidence_changes_nothing() -> None:
    for seed in range(20):
        simulation = Simulation(3, seed=seed)
        old = simulation.elect()
        simulation.run(1)
        witness = next(voter for voter in simulation.voters if voter != old)
        simulation.suspect(witness, old)
        simulation.run(2)
        assert simulation.leaders() == [old], "one mistaken witness unseated a live leader"
        simulation.crash(old)
        died = simulation.now
        for voter in simulation.voters - {old}:
            simulation.suspect(voter, old)
        assert simulation.run_until(lambda s=simulation: s.has_working_leader(), 1)  # type: ignore[misc]
        assert simulation.now - died < 0.08, f"seed {seed}: {simulation.now - died}"


def test_fresh_cluster_elects_at_once() -> None:
    for seed in range(20):
        simulation = Simulation(3, seed=seed)
        started = simulation.now
        simulation.elect()
        assert simulation.now - started < 0.2, f"seed {seed}"


def test_section_5_3_delayed_and_repeated_appends_never_cut_what_is_held() -> None:
    core = follower()
    core.step(2, append((0, 0), (1, 1), (2, 2), (3, 2), commit=3), 0.0)
    drain(core)
    for late in (append((0, 0), (1, 1)), append((1, 1), (2, 2)), append((0, 0), (1, 1), (2, 2)), append((0, 0))):
        core.step(2, late, 0.0)
        assert log_of(core) == [(1, 1), (2, 2), (3, 2)]
    assert core.commit == 3


def test_section_5_3_a_real_conflict_cuts_but_never_below_the_commit_index() -> None:
    core = follower(entries=(Entry(1, 1), Entry(2, 1), Entry(3, 1)))
    core.step(2, append((1, 1), (2, 2), commit=2), 0.0)
    assert log_of(core) == [(1, 1), (2, 2)]
    drain(core)
    with pytest.raises(RaftInvariantError, match="contradicts committed"):
        core.step(3, append((1, 1), (2, 3), term=3), 0.0)


def test_section_5_3_commit_reaches_only_as_far_as_the_request_vouches_for() -> None:
    core = follower(entries=(Entry(1, 1), Entry(2, 1), Entry(3, 1)))
    core.step(2, append((1, 1), commit=3), 0.0)
    assert core.commit == 1, "entries 2 and 3 may still be overwritten"


def test_acknowledgement_leaves_only_behind_the_entries_it_is_for() -> None:
    core = follower()
    core.step(2, append((0, 0), (1, 2)), 0.0)
    first = core.ready(0.0)
    assert first.entries and [type(e.message) for e in first.messages] == [AppendResponse]
    assert not first.urgent, "a follower has nothing to say before its disk has"


def elected(core: RaftCore) -> None:
    """Let ``core``, node 1 of term 3, win term 4 with the vote of node 2."""
    core.tick(5.0)
    drain(core, 5.0)
    core.step(2, VoteResponse(3, 4, True, True, "a"), 5.0)
    drain(core, 5.0)
    core.step(2, VoteResponse(4, 4, True, False, "a"), 5.0)
    assert core.role is Role.LEADER


def test_leader_does_not_count_its_own_copy_before_it_is_durable() -> None:
    core = follower(term=3)
    elected(core)
    ready = core.ready(5.0)
    assert len(ready.urgent) == 2, "the followers' disks may work meanwhile (thesis 10.2.1)"
    core.step(2, AppendResponse(4, True, 1, 1), 5.0)
    assert core.commit == 0
    core.persisted(ready, 5.0)
    assert core.commit == 1


def test_first_leader_of_a_cluster_remembers_that_it_is_one_before_anybody_gets_an_entry() -> None:
    """Otherwise it dies, comes back with nothing, and those that have its entry and those that voted are no majority
    of voters with a memory: nobody can ever be elected."""
    core = RaftCore(RaftConfig(1, VOTERS), random.Random(1), PersistentState(), now=0.0)
    core.tick(1.0)
    drain(core, 1.0)
    for pre in (True, False):
        for voter in (2, 3):
            core.step(voter, VoteResponse(0, 1, True, pre, core.identity, f"new {voter}" if pre else ""), 1.0)
        if pre:
            asked = [message.founder for message in drain(core, 1.0) if isinstance(message, VoteRequest)]
            assert asked == ["new 2", "new 3"], "the very memories that were found empty"
    ready = core.ready(1.0)
    assert core.role is Role.LEADER
    assert ready.hard_state == HardState(1, 1, False, core.identity)
    assert not ready.urgent
    assert [type(envelope.message) for envelope in ready.messages] == [AppendRequest, AppendRequest]


def test_persisted_word_of_an_overwritten_entry_does_not_count_aba() -> None:
    core = follower()
    core.step(2, append((0, 0), (1, 2), (2, 2)), 0.0)
    writing = core.ready(0.0)
    core.step(3, append((0, 0), (1, 3), term=3), 0.0)
    core.persisted(writing, 0.0)
    assert core.log.stable == 0, "what became durable is not what stands there now"
    drain(core)
    assert core.log.stable == 1


def test_unsent_acknowledgements_of_an_older_term_are_dropped() -> None:
    core = follower()
    core.step(2, append((0, 0), (1, 2)), 0.0)
    core.step(3, append((0, 0), (1, 3), term=3), 0.0)
    assert {message.term for message in drain(core)} == {3}  # type: ignore[attr-defined]


def test_vote_is_durable_before_it_is_given() -> None:
    core = follower()
    core.step(2, VoteRequest(3, 0, 0), 5.0)
    ready = core.ready(5.0)
    assert ready.hard_state == HardState(3, 2, False, "a")
    assert [type(envelope.message) for envelope in ready.messages] == [VoteResponse]
    reborn = RaftCore(core.config, random.Random(2), PersistentState(ready.hard_state), now=9.0)
    reborn.step(3, VoteRequest(3, 0, 0), 9.0)
    assert drain(reborn) == [VoteResponse(3, 3, False)]


def test_candidate_counts_its_own_vote_only_when_it_is_durable() -> None:
    core = RaftCore(RaftConfig(1, frozenset({1})), random.Random(1), PersistentState(), now=0.0)
    core.tick(0.0)
    ready = core.ready(0.0)
    assert ready.hard_state is not None
    assert ready.hard_state.vote == 1
    assert core.role is Role.CANDIDATE
    core.persisted(ready, 0.0)
    assert core.role is Role.LEADER


def test_section_5_4_2_figure_8_entry_of_an_earlier_term_is_not_committed_by_counting() -> None:
    core = follower(term=3, entries=(Entry(1, 1), Entry(2, 2)))
    elected(core)
    drain(core, 5.0)
    assert log_of(core)[-1] == (3, 4)
    core.step(2, AppendResponse(4, True, 2, 1), 5.0)
    assert core.commit == 0, "2@2 is on a majority, and can still be overwritten"
    core.step(2, AppendResponse(4, True, 3, 1), 5.0)
    assert core.commit == 3


def test_section_7_two_quick_snapshots() -> None:
    simulation = Simulation(1, seed=1, retained_entries=0)
    simulation.elect()
    for _ in range(2):
        simulation.propose(1, b"x")
        simulation.run(0.05)
        assert simulation.snapshot(1)
        assert not simulation.snapshot(1), "the same again is no news"
    simulation.crash(1)
    simulation.settle()
    simulation.invariants.check_everything()


@pytest.mark.parametrize("drop", [0.0, 0.4])
def test_section_7_a_follower_behind_the_log_gets_the_snapshot_and_then_entries_without_deadlock(drop: float) -> None:
    simulation = Simulation(3, seed=5, retained_entries=0, snapshot_chunk_bytes=16)
    leader = simulation.elect()
    late = next(voter for voter in simulation.voters if voter != leader)
    simulation.run(1)
    simulation.isolate(late)
    for number in range(10):
        simulation.propose(leader, b"%d" % number)
        simulation.run(0.02)
    assert simulation.snapshot(leader)
    simulation.run(0.1)
    simulation.cut.clear()
    simulation.faults.drop = drop
    for number in range(30):  # entries and snapshots go on while the transfer runs
        if simulation.leader is not None:
            simulation.propose(simulation.leader, b"more %d" % number)
            simulation.snapshot(simulation.leader)
        simulation.run(0.1)
    simulation.settle(5)
    simulation.invariants.check_everything()


def test_thesis_3_10_leadership_transfer() -> None:
    simulation = Simulation(3, seed=6)
    leader = simulation.elect()
    simulation.run(1)
    heir = next(voter for voter in simulation.voters if voter != leader)
    assert simulation.core(leader).transfer_leadership(heir, simulation.now)
    assert simulation.propose(leader, b"too late") is None
    assert simulation.run_until(lambda: simulation.leaders() == [heir], 0.05), "a transfer waits for no timer"


def test_thesis_6_4_read_barrier_is_not_fooled_by_answers_that_were_sent_before_it() -> None:
    simulation = Simulation(3, seed=7)
    leader = simulation.elect()
    simulation.run(1)
    core = simulation.core(leader)
    simulation.isolate(leader)
    assert core.read_barrier(1, simulation.now)
    simulation.pump(simulation.nodes[leader])
    simulation.run(0.3)
    assert simulation.barriers == []
    simulation.heal()
    assert simulation.run_until(lambda: bool(simulation.barriers), 0.5)


def test_commit_is_told_at_once_not_with_the_next_heartbeat() -> None:
    simulation = Simulation(3, seed=8, learners=1)
    leader = simulation.elect()
    simulation.run(2)
    index = simulation.propose(leader, b"x")
    assert index is not None
    everybody = [simulation.core(node) for node in simulation.nodes]
    assert simulation.run_until(lambda: all(core.applied >= index for core in everybody), 0.03)


def test_idle_traffic_is_a_heartbeat_and_its_answer() -> None:
    simulation = Simulation(3, seed=9)
    simulation.elect()
    simulation.run(2)
    sent: list[Message] = []
    simulation.trace = lambda sender, to, message: sent.append(message)
    simulation.run(15)
    assert len(sent) <= 4 * 15 / 0.15 + 4


def test_wiped_voter_neither_votes_nor_counts_until_it_is_readmitted() -> None:
    simulation = Simulation(3, seed=10)
    leader = simulation.elect()
    simulation.run(1)
    wiped, other = sorted(simulation.voters - {leader})
    simulation.isolate(other)
    index = simulation.propose(leader, b"on two disks only")
    assert index is not None
    simulation.run(0.05)
    assert simulation.core(leader).commit >= index
    simulation.wipe(wiped)
    simulation.crash(leader)
    simulation.start(wiped)
    simulation.heal()
    simulation.run(20)
    assert simulation.leaders() == [], "the forgetful voter helped to elect a leader without a committed entry"
    simulation.settle()
    assert (index, b"on two disks only") in simulation.nodes[other].state
    assert not simulation.core(wiped).recovering


def test_section_5_2_two_leaders_of_one_term_are_a_broken_invariant() -> None:
    core = follower()
    core.step(2, append((0, 0)), 0.0)
    with pytest.raises(RaftInvariantError, match="two leaders"):
        core.step(3, append((0, 0)), 0.0)


def test_log_ahead_of_the_quorum_state_is_refused() -> None:
    with pytest.raises(RaftInvariantError):
        follower(term=1, entries=(Entry(1, 2),))
