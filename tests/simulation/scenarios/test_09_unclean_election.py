"""The ISR shrinks to the leader, the leader goes, and who is left is stale (aphyr.com/posts/293)."""

import pytest

from ottla.controller.metadata import election
from ottla.controller.metadata.decision import Policy
from tests.simulation.scenarios.stage import Broken, Stage, play

ALONE = {"min_insync_replicas": "1"}
UNCLEAN = {**ALONE, "unclean_leader_election_enable": "true"}
LAG = {"replica_lag_time_max_ms": "1000"}


async def the_leader_is_the_last(stage: Stage) -> int:
    """Returns who led last, which is dead."""
    cluster = stage.cluster
    leader = stage.leader()
    await stage.write(b"m1")
    cluster.cut([leader], stage.others(leader))
    await stage.write(b"m2", acks=1)
    await cluster.until(lambda: stage.image().isr == (leader,), "the leader is alone", within=20)
    await stage.write(b"m3")
    cluster.kill(leader)
    cluster.heal()
    return leader


async def nobody_leads_until_it_is_back(stage: Stage) -> None:
    leader = await the_leader_is_the_last(stage)
    await stage.cluster.advance(5)
    if stage.image().leader != -1:
        raise Broken(f"{stage.image().leader} leads, and was not in sync")
    stage.cluster.start(leader)


async def a_stale_one_leads(stage: Stage) -> None:
    leader = await the_leader_is_the_last(stage)
    assert await stage.led_by_another(leader) != leader
    assert stage.acknowledged.pop(2) == b"m3", "an unclean election may lose, and here it does"
    await stage.write(b"m4")


def test_without_unclean_elections_nothing_is_lost():
    play(nobody_leads_until_it_is_back, configs=ALONE, **LAG)


def test_with_them_it_goes_on_without_what_was_lost_and_replicas_are_equal():
    play(a_stale_one_leads, configs=UNCLEAN, **LAG)


def test_if_the_controller_did_not_ask_the_topic_acknowledged_records_would_be_lost(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Policy, "unclean", lambda *_: True)
    with pytest.raises(Broken):
        play(nobody_leads_until_it_is_back, configs=ALONE, watched=False, **LAG)


async def below_the_minimum_nothing_is_acknowledged(stage: Stage) -> None:
    """With min.insync.replicas = 2 the last of an ISR has nothing that others lack: one of them leads (KIP-966)."""
    cluster = stage.cluster
    leader = stage.leader()
    await stage.write(b"m1")
    cluster.cut([leader], stage.others(leader))
    await stage.write(b"nobody else's", acks=1)
    await cluster.until(lambda: stage.image().isr == (leader,), "the leader is alone", within=20)
    cluster.kill(leader)
    cluster.heal()
    await stage.led_by_another(leader)
    await stage.write(b"m2")


def test_an_eligible_replica_leads_when_the_last_of_the_isr_is_gone():
    play(below_the_minimum_nothing_is_acknowledged, **LAG)


def test_without_eligible_leaders_it_would_wait_for_the_last(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(election, "eligible_leaders", lambda *_, **__: ())
    monkeypatch.setattr("ottla.controller.metadata.isr.eligible_leaders", lambda *_, **__: ())
    with pytest.raises(Broken, match="is replaced as leader"):
        play(below_the_minimum_nothing_is_acknowledged, watched=False, **LAG)
