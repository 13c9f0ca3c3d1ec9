"""A vote that is not durable; a snapshot that is in the cache only; a follower that needs one while they are taken.

Figure 8 needs five nodes in states that no fault brings about by itself: see tests/raft/test_mutants.py, figure_8. In
a whole cluster the rule itself is an invariant (nothing of an older term is committed by counting).
"""

import functools

import pytest

from ottla.controller import RaftConfig
from ottla.log import ModelledDisk
from ottla.node import node as node_module
from ottla.simulation import Anomaly, SimulationError
from tests.simulation.scenarios.quorum import Voters, play
from tests.simulation.scenarios.stage import Broken

SNAPSHOTS = {"metadata_log_max_record_bytes_between_snapshots": "1"}


def sync_all_but(patch: pytest.MonkeyPatch, end: str) -> None:
    original = ModelledDisk.sync_node
    patch.setattr(
        ModelledDisk, "sync_node", lambda self, path, node: None if path.endswith(end) else original(self, path, node)
    )


async def forgets_whom_it_voted_for(voters: Voters) -> None:
    """The power of a voter goes when its vote is on the way."""
    cluster, old = voters.cluster, voters.leader
    followers, before = voters.followers(), voters.core(old).term

    def voted(each: int) -> bool:
        core = voters.core(each)
        return core.term > before and core.vote not in (None, each)

    with cluster.hold("VoteResponse", count=None):
        cluster.kill(old)
        await cluster.until(lambda: any(map(voted, followers)), "one has voted for the other", within=10)
        given = next(each for each in followers if voted(each))
        await cluster.advance(0.01)
        term, vote = voters.core(given).term, voters.core(given).vote
        cluster.power_off(given)
        cluster.start(given)
        await cluster.until(lambda: voters.runs(given), "it is back", within=5)
        core = voters.core(given)
        if (core.term, core.vote) < (term, -1) or (core.term == term and core.vote != vote):
            raise Broken(f"it voted for {vote} in term {term}, and now for {core.vote} in term {core.term}")


@pytest.mark.parametrize("seed", range(3))
def test_a_vote_is_durable_before_it_is_given(seed: int):
    play(forgets_whom_it_voted_for, seed=seed)


def test_a_vote_in_the_cache_would_be_forgotten(monkeypatch: pytest.MonkeyPatch):
    sync_all_but(monkeypatch, "quorum-state.tmp")
    outcomes = []
    for seed in range(4):
        try:
            play(forgets_whom_it_voted_for, seed=seed)
        except (Anomaly, Broken, SimulationError) as error:
            outcomes.append(str(error))
    assert outcomes, "no seed forgot anything"


async def needs_a_snapshot(voters: Voters) -> None:
    """A follower misses more than the log still has, while entries and snapshots go on; then its power goes."""
    cluster = voters.cluster
    late = voters.followers()[0]
    cluster.isolate(late, clients=True)
    for number in range(5):
        await voters.create(f"topic-{number}")
    cluster.heal()
    for number in range(5, 8):
        await voters.create(f"topic-{number}")
    await cluster.until(lambda: "topic-4" in voters.topics(late), "it has caught up", within=10)
    if voters.core(late).log.first_index == 1:
        raise Broken("it was not sent a snapshot")
    cluster.power_off(late)


@pytest.mark.parametrize("seed", range(2))
def test_a_snapshot_is_installed_while_others_are_taken_and_survives(seed: int, monkeypatch: pytest.MonkeyPatch):
    """Redpanda #3528"""
    monkeypatch.setattr(node_module, "RaftConfig", functools.partial(RaftConfig, retained_entries=0))
    play(needs_a_snapshot, seed=seed, **SNAPSHOTS)


def test_a_snapshot_in_the_cache_would_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(node_module, "RaftConfig", functools.partial(RaftConfig, retained_entries=0))
    sync_all_but(monkeypatch, ".checkpoint.tmp")
    outcomes = []
    for seed in range(4):
        try:
            play(needs_a_snapshot, seed=seed, **SNAPSHOTS)
        except (Anomaly, Broken, SimulationError) as error:
            outcomes.append(str(error))
    assert outcomes, "no seed lost a snapshot"
