"""KIP-966: the ISR shrinks one by one, and the last of it loses power with an unflushed tail."""

import pytest

from ottla.broker.replication.leader import LeaderState
from ottla.cluster import Verdict
from ottla.controller.metadata import brokers
from ottla.simulation import SimulatedCluster, leader_of, run
from tests.simulation.scenarios.stage import Broken, Stage, play

LAG = {"replica_lag_time_max_ms": "1000"}


def last_of_an_isr_loses_its_records(seed: int) -> Verdict:
    """The leader loses power with an unflushed tail, the others stop cleanly; it is back first, and is the last member
    of the ISR once the controller has noticed that the others are away."""

    async def scenario():
        async with SimulatedCluster(settings={"ottla.flush": "os"}) as cluster:
            await cluster.create_topic("orders")
            async with cluster.traffic("orders", 1, interval=0.02) as traffic:
                await cluster.advance(1)
                lossy = cluster.power_off(leader_of("orders"))
                first, second = [node_id for node_id in cluster.nodes if node_id != lossy]
                await cluster.stop(first)
                await cluster.stop(second)
                cluster.start(lossy)
                cluster.start(first)
                await cluster.advance(10)
                cluster.start(second)
                await cluster.until(lambda: cluster.full("orders"), "every replica is in sync", within=30)
                await traffic.start_reading()
                await traffic.stop_writing(within=60)
                await traffic.read_everything()
                return traffic.ledger.verdict()

    return run(scenario, seed)


@pytest.mark.parametrize("seed", range(3))
def test_the_last_of_an_isr_that_lost_its_records_gives_way_to_one_that_has_them(seed: int):
    verdict = last_of_an_isr_loses_its_records(seed)
    assert verdict.clean
    assert verdict.acknowledged > 50


def test_it_would_lose_them_if_an_unclean_stop_did_not_count(monkeypatch: pytest.MonkeyPatch):
    original = brokers.take_out
    monkeypatch.setattr(brokers, "take_out", lambda image, policy, away, *, lost=(): original(image, policy, away))
    try:
        verdict = last_of_an_isr_loses_its_records(0)
    except (TimeoutError, AssertionError):
        return  # the reader waits for what is gone, or the invariants see it first
    assert not verdict.clean


async def one_after_another_is_cut_off(stage: Stage) -> None:
    """KIP-966's own story: the first is cut off, then the second; the third goes on alone, and loses power."""
    cluster = stage.cluster
    third = stage.leader()
    first, second = stage.others(third)
    await stage.write(b"m1")
    cluster.partition([first], [third])
    await stage.write(b"m2")
    await cluster.until(lambda: first not in stage.image().isr, "the first is out", within=20)
    cluster.partition([second], [third])
    await stage.write(b"nobody else's", acks=1)
    await cluster.until(lambda: second not in stage.image().isr, "the second is out", within=20)
    # Below min.insync.replicas nothing is acknowledged, and what is there is not shown to consumers.
    await stage.write(b"nor this", acks=1)
    if stage.on(third).high_watermark != 2:
        raise Broken(f"readers see what only one replica has: high watermark {stage.on(third).high_watermark}")
    cluster.power_off(third)
    cluster.heal()
    await stage.led_by_another(third)
    await stage.write(b"m3")


@pytest.mark.parametrize("seed", range(3))
def test_the_high_watermark_is_frozen_and_an_eligible_replica_leads(seed: int):
    play(one_after_another_is_cut_off, seed=seed, **LAG)


def test_if_it_were_not_frozen_readers_would_see_what_is_lost_then(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(LeaderState, "under_min_isr", False)
    with pytest.raises(Broken, match="readers see"):
        play(one_after_another_is_cut_off, watched=False, **LAG)
