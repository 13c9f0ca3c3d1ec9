"""Row 5: who leads is cut off from all other nodes, and the clients stay attached."""

import asyncio

import pytest

from ottla.simulation import controller, leader_of
from tests.simulation.matrix.harness import survives


@pytest.mark.parametrize("clients", [True, False], ids=["with clients", "without clients"])
@pytest.mark.parametrize("who", [leader_of("orders"), controller], ids=["leader", "controller"])
def test_who_is_cut_off_acknowledges_nothing_and_is_replaced_soon(who, clients: bool):
    async def story(cluster, traffic):
        cut_off = cluster.isolate(who, clients=not clients)
        at = asyncio.get_running_loop().time()
        replica = cluster.partition_on(cut_off, "orders")
        await traffic.acknowledged_again(0, at + 4, within=10)
        assert cluster.leader("orders") != cut_off
        if not replica.is_leader:
            return cluster.heal()
        # Whoever leads on in its own eyes has committed nothing since.
        elected = cluster.partition_on(cluster.leader("orders"), "orders")
        assert replica.leader_epoch < elected.leader_epoch
        assert replica.high_watermark <= elected.role.start_offset
        return cluster.heal()

    survives(story, seed=2)
