"""Row 7: a broker without the controllers' plane, and with that of its data."""

import asyncio

import pytest

from ottla.simulation import controller, follower_of, leader_of
from tests.simulation.matrix.harness import survives


@pytest.mark.parametrize(
    "who", [leader_of("orders"), follower_of("orders"), controller], ids=["leader", "follower", "controller"]
)
def test_it_is_fenced_leaves_the_isr_and_rejoins(who):
    async def story(cluster, traffic):
        lost, at = cluster.cut_controller(who), asyncio.get_running_loop().time()
        (view,) = [cluster.nodes[other].node.quorum.view for other in cluster.nodes if other != lost][:1]
        await cluster.until(lambda: view.image.brokers[lost].fenced, "it is fenced", within=15)
        assert lost not in view.image.topics["orders"].partitions[0].isr
        await traffic.acknowledged_again(0, at, within=10)
        cluster.heal()

    survives(story)
