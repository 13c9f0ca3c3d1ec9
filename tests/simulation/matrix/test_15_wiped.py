"""Row 15: a data directory is wiped, and the node comes back under the same id."""

import pytest

from ottla.cluster.traffic import Traffic
from ottla.simulation import SimulatedCluster, controller, follower_of, leader_of
from tests.simulation.matrix.harness import survives, takes_writes


@pytest.mark.parametrize(
    "who", [leader_of("orders"), follower_of("orders"), controller], ids=["leader", "follower", "controller"]
)
@pytest.mark.parametrize("seed", range(2))
def test_it_joins_again_only_with_everything(who, seed: int):
    """D: not in the ISR before it has caught up. And as a voter it helps nobody to be elected before: with the other
    one that holds the committed entries cut off, there is no controller until that is back."""

    async def story(cluster: SimulatedCluster, traffic: Traffic) -> None:
        wiped = cluster.wipe(who)
        await takes_writes(cluster, traffic)
        first, second = [node_id for node_id in cluster.nodes if node_id != wiped]
        cluster.kill(first)
        cluster.start(wiped)
        await cluster.advance(3)
        for node_id in (wiped, second):
            found = cluster.partition_on(node_id, "orders")
            assert found is None or found.image is None or wiped not in found.image.isr
        cluster.start(first)
        await takes_writes(cluster, traffic, within=15)
        await cluster.until(lambda: cluster.full("orders"), "in sync", within=15)
        cluster.kill(second)
        await takes_writes(cluster, traffic)
        cluster.start(second)

    assert survives(story, seed=seed) > 100
