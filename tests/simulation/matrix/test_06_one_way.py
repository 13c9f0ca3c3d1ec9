"""Row 6: links that carry in one direction only. (The majority ring is in test_hold.)"""

import asyncio

import pytest

from ottla.simulation import SimulatedCluster, controller, leader_of
from tests.simulation.matrix.harness import survives

MAX_ELECTIONS = 4


def term(cluster: SimulatedCluster) -> int:
    return max(node.node.quorum.driver.term for node in cluster.nodes.values())


@pytest.mark.parametrize("sends", [True, False], ids=["send only", "receive only"])
@pytest.mark.parametrize("who", [leader_of("orders"), controller], ids=["leader", "controller"])
def test_writes_resume_and_terms_do_not_explode(who, sends: bool):
    async def story(cluster, traffic):
        one = cluster.the(who).id
        others = [node_id for node_id in cluster.nodes if node_id != one]
        before, at = term(cluster), asyncio.get_running_loop().time()
        if sends:
            cluster.cut(others, [one])
        else:
            cluster.cut([one], others)
        await traffic.acknowledged_again(0, at + 1, within=10)
        await cluster.advance(5)
        cluster.heal()
        await cluster.advance(1)
        assert term(cluster) - before <= MAX_ELECTIONS

    survives(story)
