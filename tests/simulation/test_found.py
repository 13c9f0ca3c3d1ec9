"""What the simulation has found, each as the shortest scenario that shows it."""

import pytest

from ottla.cluster import Verdict
from ottla.controller.metadata import brokers
from ottla.simulation import SimulatedCluster, leader_of, run
from ottla.simulation.storm import storm


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
    """KIP-966"""
    verdict = last_of_an_isr_loses_its_records(seed)
    assert verdict.clean
    assert verdict.acknowledged > 50


def test_it_would_lose_them_if_an_unclean_stop_did_not_count(monkeypatch: pytest.MonkeyPatch):
    original = brokers.take_out
    monkeypatch.setattr(brokers, "take_out", lambda image, policy, away, *, lost=(): original(image, policy, away))
    try:
        verdict = last_of_an_isr_loses_its_records(0)
    except TimeoutError:
        return  # the reader waits for what is gone
    assert not verdict.clean


@pytest.mark.parametrize("seed", range(2))
def test_a_single_loss_of_power_among_clean_stops_and_pauses(seed: int):
    assert storm(seed, seconds=15, kinds=["lone power off", "stop", "pause"], rate=20).acknowledged
