"""Row 12: every sync takes five seconds."""

import pytest

from ottla.cluster.traffic import Traffic
from ottla.simulation import SimulatedCluster, controller, leader_of
from tests.simulation.matrix.harness import survives, takes_writes


@pytest.mark.parametrize("flush", ["os", "synced"])
@pytest.mark.parametrize("who", [leader_of("orders"), controller], ids=["leader", "controller"])
def test_writes_go_on_while_one_disk_stalls(who, flush: str):
    """L: writes go on within ten seconds whatever moves meanwhile, and the ISR never falls below the minimum."""

    async def story(cluster: SimulatedCluster, traffic: Traffic) -> None:
        victim = cluster.disk_stalls(who, 5.0)
        for _ in range(2):
            await takes_writes(cluster, traffic, within=12)
            await cluster.advance(6)
        cluster.disk_mended(victim)
        await takes_writes(cluster, traffic)

    assert survives(story, ottla_flush=flush) > 100
