"""Row 8: half a second of delay, resets of every fifth connection, flapping, thin and lossy links; all of them."""

import asyncio

import pytest

from ottla.simulation import SimulatedCluster
from tests.simulation.matrix.harness import survives

HARM = {
    "delay": lambda cluster: cluster.delay(0.5),
    "resets": lambda cluster: cluster.resets(0.2),
    "flapping": SimulatedCluster.flap,
    "thin": lambda cluster: cluster.bandwidth(50_000),
    "lossy": lambda cluster: cluster.delay(0.01, jitter=0.05, loss=0.3),
}


@pytest.mark.parametrize("harm", HARM)
def test_writes_go_on_and_nothing_is_doubled(harm: str):
    async def story(cluster, traffic):
        stop = HARM[harm](cluster)
        await cluster.advance(6)
        await traffic.acknowledged_again(0, asyncio.get_running_loop().time(), within=10)
        if stop is not None:
            stop()
        cluster.recover()

    survives(story)
