"""Row 16: wall clocks jump, on one node or on all. Nothing that is timed goes by them."""

import pytest

from ottla.cluster.traffic import Traffic
from ottla.simulation import SimulatedCluster, controller, leader_of
from tests.simulation.matrix.harness import survives, takes_writes

HOUR_MS = 3_600_000


@pytest.mark.parametrize("jump", [HOUR_MS, -HOUR_MS])
@pytest.mark.parametrize("everywhere", [True, False], ids=["all", "one"])
def test_no_session_ends_and_nobody_is_elected(jump: int, everywhere: bool):
    async def story(cluster: SimulatedCluster, traffic: Traffic) -> None:
        leader, active = cluster.leader("orders"), cluster.controller()
        found = cluster.partition_on(leader, "orders")
        assert found is not None
        epoch = found.leader_epoch
        hit = list(cluster.nodes) if everywhere else [leader, active]
        for _ in range(5):
            for node_id in hit:
                node = cluster.nodes[node_id]
                node.clock_offset_ms = 0 if node.clock_offset_ms else jump
            await cluster.advance(1)
            await takes_writes(cluster, traffic, within=1)
        assert (cluster.leader("orders"), cluster.controller(), found.leader_epoch) == (leader, active, epoch)
        assert found.log_start_offset == 0
        cluster.kill(leader_of("orders"))
        await takes_writes(cluster, traffic)
        cluster.start(leader)

    assert survives(story) > 300


def test_a_controller_with_another_time_takes_over():
    async def story(cluster: SimulatedCluster, traffic: Traffic) -> None:
        for number, node in enumerate(cluster.nodes.values()):
            node.clock_offset_ms = (-HOUR_MS, 0, HOUR_MS)[number]
        for _ in range(2):
            killed = cluster.kill(controller)
            await takes_writes(cluster, traffic)
            cluster.start(killed)
            await cluster.until(lambda: cluster.full("orders"), "in sync", within=15)

    assert survives(story) > 100
