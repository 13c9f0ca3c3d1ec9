"""KAFKA-8733: a leader whose disk makes it slow drops its healthy followers, then fails: the partition is offline."""

import pytest

from ottla.broker.replication.lag_clock import LagClock
from tests.simulation.scenarios.stage import Broken, Stage, play

PATIENT = {"replica_lag_time_max_ms": "2000", "broker_session_timeout_ms": "9000"}


async def stands_still_with_a_record_on_the_way(stage: Stage) -> None:
    cluster, leader = stage.cluster, stage.leader()
    await stage.write(b"m1")
    with cluster.hold("Fetch", target=leader, count=None):
        await stage.write(b"m2", acks=1)
        cluster.pause(leader)
        await cluster.advance(4)
        cluster.resume(leader)
        await cluster.advance(0.5)
        left = stage.image().isr
        cluster.power_off(leader)
    if left == (leader,):
        raise Broken(f"of the ISR only node {leader} was left, and that has failed")
    await stage.led_by_another(leader)
    await stage.write(b"m3")


@pytest.mark.parametrize("seed", range(2))
def test_time_that_the_leader_slept_through_is_not_lag(seed: int):
    play(stands_still_with_a_record_on_the_way, seed=seed, **PATIENT)


def test_by_the_clock_on_the_wall_it_would_drop_them(monkeypatch: pytest.MonkeyPatch):
    """The eligible leaders of KIP-966 would then save the partition, as long as none of them stops uncleanly."""
    monkeypatch.setattr(LagClock, "now", lambda self: self._loop.time())
    with pytest.raises(Broken, match="was left, and that has failed"):
        play(stands_still_with_a_record_on_the_way, **PATIENT)
