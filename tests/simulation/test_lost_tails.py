"""A controller that comes back without entries which it had acknowledged: two bits of its last write have flipped."""

from __future__ import annotations

import asyncio

import pytest

from ottla.simulation import SimulatedCluster, run

LOG = "/data/__cluster_metadata-0/00000000000000000000.log"


@pytest.mark.parametrize("who", ["controller", "follower"])
def test_it_gets_them_from_the_leader(who: str) -> None:
    """To the node they look like a write that was torn, so it cuts them; to the leader it has them."""

    async def scenario() -> None:
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders")
            leader = cluster.controller()
            victim = leader if who == "controller" else next(each for each in cluster.nodes if each != leader)
            node = cluster.nodes[victim]
            quorum = node.node.quorum
            assert quorum is not None
            await cluster.until(lambda: quorum.view.image.offset >= _committed(cluster), "it has everything")
            cluster.kill(victim)
            end = len(node.disk.peek(LOG))
            for position in (end - 20, end - 10):
                node.disk.flip_bit(LOG, position)
            cluster.start(victim)
            async with asyncio.timeout(20):
                await node.ready()
            again = node.node.quorum
            await cluster.until(lambda: again.view.image.offset >= _committed(cluster), "it has everything again")

    run(scenario, 1)


def _committed(cluster: SimulatedCluster) -> int:
    return cluster.invariants.metadata.latest.offset
