"""An AlterPartition that comes late, and a leader that leans on an ISR which was not granted yet (KIP-497)."""

import asyncio

import pytest

from ottla.broker.replication.isr import PendingShrink
from ottla.controller.metadata import isr
from ottla.simulation.errors import Anomaly
from ottla.simulation.messages import Message
from tests.simulation.scenarios.stage import Broken, Stage, play

LAG = {"replica_lag_time_max_ms": "1000"}


def drops(stage: Stage, member: int):
    def does(message: Message) -> bool:
        return any(
            each["partition"] == stage.index and member not in {row["id"] for row in each["new_isr"]}
            for each in message.json()["partitions"]
        )

    return does


async def an_old_leaders_request_after_an_election(stage: Stage) -> None:
    """The old leader wanted the third replica out. It arrives when there is a new leader, and the old one is back but
    has not caught up; the third has all."""
    cluster = stage.cluster
    old = stage.leader()
    new, third = stage.others(old)
    await stage.write(b"m1")
    held = cluster.hold("AlterPartition", source=old, where=drops(stage, third))
    cluster.partition([old], [third])
    await stage.write(b"nobody else's", acks=1)
    await held.caught(20)
    cluster.partition([old], stage.everybody_but(old))
    assert await stage.led_by_another(old) == new
    fetches = cluster.hold("Fetch", source=old, target=new, count=None)
    await stage.write(b"m2")
    cluster.heal()
    await cluster.until(lambda: not fenced(stage, old), "the old leader is unfenced", within=20)
    assert set(stage.image().isr) == {new, third}
    held.release()
    # Not for long: the new leader would see to it that who lags is dropped.
    await cluster.advance(0.1)
    cluster.kill(new)
    cluster.kill(third)
    await cluster.advance(3)
    fetches.drop()


def fenced(stage: Stage, node_id: int) -> bool:
    node = stage.cluster.nodes[stage.cluster.controller()].node
    return bool(node.quorum.view.image.brokers[node_id].fenced)


@pytest.mark.parametrize("seed", range(2))
def test_a_request_of_an_earlier_epoch_is_refused(seed: int):
    play(an_old_leaders_request_after_an_election, seed=seed, **LAG)


def test_without_that_check_a_stale_replica_is_elected(monkeypatch: pytest.MonkeyPatch):
    original = isr._refusal

    def refusal(image, state, _node_id, wish):
        fresh = {"leader_epoch": state.leader_epoch, "partition_epoch": state.partition_epoch}
        return original(image, state, state.leader, wish.model_copy(update=fresh))

    monkeypatch.setattr(isr, "_refusal", refusal)
    with pytest.raises(Broken, match="m2"):
        play(an_old_leaders_request_after_an_election, watched=False, seed=2, **LAG)


async def a_shrink_that_is_not_granted_yet(stage: Stage) -> None:
    """The leader waits for the answer; the controller has never heard of the question, and elects whom it dropped."""
    cluster = stage.cluster
    leader = stage.leader()
    second, third = stage.others(leader)
    await stage.write(b"m1")
    held = cluster.hold("AlterPartition", source=leader, where=drops(stage, third), count=None)
    cluster.partition([third], [leader])
    writing = asyncio.ensure_future(stage.write(b"m2", delivery_timeout_ms=6_000, request_timeout_ms=6_000))
    await held.caught(20)
    await cluster.advance(1)
    assert set(stage.image().isr) == {leader, second, third}
    # At once, so that the controller does not hear first of one, then of the other.
    cluster.kill(leader)
    cluster.kill(second)
    await cluster.until(lambda: stage.image().leader == third, "the third leads", within=20)
    cluster.heal()
    held.drop()
    await asyncio.gather(writing, return_exceptions=True)


@pytest.mark.parametrize("seed", range(2))
def test_who_is_proposed_to_go_is_still_waited_for(seed: int):
    play(a_shrink_that_is_not_granted_yet, seed=seed, **LAG)


def test_if_it_were_not_its_election_would_lose_what_was_acknowledged(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(PendingShrink, "maximal", property(lambda self: self.committed - self.removed))
    with pytest.raises(Broken, match="m2"):
        play(a_shrink_that_is_not_granted_yet, watched=False, **LAG)
    # The invariants see it when that commits, and not only once there is an election.
    with pytest.raises(Anomaly, match="of its ISR"):
        play(a_shrink_that_is_not_granted_yet, **LAG)
