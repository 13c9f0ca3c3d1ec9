"""Row 10: a disk is full. A clean error or the end of the node; others go on; all is well once there is room."""

import pytest

from ottla.cluster.traffic import Traffic
from ottla.simulation import SimulatedCluster, controller, follower_of, leader_of
from tests.simulation.matrix.harness import survives, takes_writes

LEADER, FOLLOWER = leader_of("orders"), follower_of("orders")


async def revive(cluster: SimulatedCluster) -> None:
    for node in cluster.nodes.values():
        if await node.stopping():
            node.start()


@pytest.mark.parametrize("room", [0, 100, 3000])
@pytest.mark.parametrize("who", [LEADER, FOLLOWER, controller], ids=["leader", "follower", "controller"])
def test_writes_go_on_or_come_back_with_room(who, room: int):
    async def story(cluster: SimulatedCluster, traffic: Traffic) -> None:
        victim = cluster.disk_full(who, room=room)
        await cluster.advance(8)
        cluster.disk_mended(victim)
        await revive(cluster)
        await takes_writes(cluster, traffic)

    assert survives(story) > 100
