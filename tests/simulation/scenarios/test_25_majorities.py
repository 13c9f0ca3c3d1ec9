"""Leaders and majorities of the controllers: KAFKA-15489, KAFKA-16144, KIP-996."""

import pytest

from ottla.controller import Role
from ottla.controller.raft.core import RaftCore
from ottla.controller.raft.election import Elections
from ottla.controller.raft.leader import Leader
from tests.simulation.scenarios.quorum import Voters, play
from tests.simulation.scenarios.stage import Broken


async def cut_off(voters: Voters) -> None:
    cluster, old = voters.cluster, voters.leader
    cluster.isolate(old)
    await voters.led_by_another(old)
    await cluster.advance(3)
    if voters.core(old).role is Role.LEADER:
        raise Broken(f"node {old} leads on without a majority")


def test_a_leader_without_a_majority_resigns():
    """KAFKA-15489"""
    play(cut_off)


def test_without_the_check_of_its_quorum_it_would_lead_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Leader, "_quorum_deadline", lambda _self, _leading: float("inf"))
    with pytest.raises(Broken, match="leads on without a majority"):
        play(cut_off)


async def all_alone(voters: Voters) -> None:
    term = voters.core(1).term
    await voters.create("first")
    await voters.cluster.advance(10)
    if voters.core(1).term != term or voters.core(1).role is not Role.LEADER:
        raise Broken("a single voter lost its own majority")


def test_a_single_voter_is_its_own_majority():
    """KAFKA-16144"""
    play(all_alone, nodes=1)


def test_if_others_had_to_answer_a_single_voter_would_resign(monkeypatch: pytest.MonkeyPatch):
    """As if no majority had answered since it was elected."""
    monkeypatch.setattr(Leader, "_quorum_deadline", lambda self, _leading: self.last_heard + 1.0)
    with pytest.raises(Broken):
        play(all_alone, nodes=1)


async def comes_back(voters: Voters) -> None:
    cluster, leader = voters.cluster, voters.leader
    term = voters.core(leader).term
    away = voters.followers()[0]
    cluster.isolate(away)
    await cluster.advance(15)
    if voters.core(away).term > term:
        raise Broken(f"node {away} went from term {term} to {voters.core(away).term} by itself")
    cluster.heal()
    await cluster.advance(3)
    if (voters.leader, voters.core(leader).term) != (leader, term):
        raise Broken(f"node {away} unseated node {leader}")


@pytest.mark.parametrize("seed", range(2))
def test_a_voter_that_was_cut_off_disturbs_nobody(seed: int):
    """KIP-996"""
    play(comes_back, seed=seed)


def test_without_the_rehearsal_of_votes_its_term_would_grow(monkeypatch: pytest.MonkeyPatch):
    original = RaftCore._campaign

    def campaign(self: Elections, now: float, *, pre: bool, transfer: bool = False) -> None:
        original(self, now, pre=False, transfer=transfer)

    async def without_the_rehearsal(voters: Voters) -> None:
        # A new cluster cannot be founded without it.
        monkeypatch.setattr(RaftCore, "_campaign", campaign)
        await comes_back(voters)

    with pytest.raises(Broken, match="by itself"):
        play(without_the_rehearsal)
