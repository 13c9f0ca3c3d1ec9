"""Row 22: the power goes at any disk operation while segments roll, retention deletes and the controller's log is
snapshot and compacted."""

import pytest

from ottla.cluster.traffic import Traffic
from ottla.simulation import SimulatedCluster, controller, follower_of, leader_of
from tests.simulation.matrix.harness import survives, takes_writes

BUSY = {
    "log_retention_bytes": "8192",
    "log_retention_check_interval_ms": "300",
    "log_segment_delete_delay_ms": "100",
    "metadata_log_max_record_bytes_between_snapshots": "600",
    "ottla_flush": "synced",
}


@pytest.mark.parametrize(
    "who", [leader_of("orders"), follower_of("orders"), controller], ids=["leader", "follower", "controller"]
)
@pytest.mark.parametrize("first", range(0, 60, 15))
def test_power_goes_at_one_operation_after_another(who, first: int):
    async def story(cluster: SimulatedCluster, traffic: Traffic) -> None:
        for operation in range(first, first + 15, 5):
            node = cluster.the(who)
            node.power_off_within(operation)
            await cluster.until(lambda node=node: not node.alive, "the power goes", within=10)
            await cluster.advance(0.2)
            node.start()
            await node.ready()
            await takes_writes(cluster, traffic)
            await cluster.until(lambda: cluster.full("orders"), "in sync", within=20)

    assert survives(story, seed=first, equal=False, **BUSY) > 100
