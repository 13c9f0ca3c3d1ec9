"""Row 4: SIGSTOP for three times the session timeout, then SIGCONT."""

import pytest

from ottla.simulation import controller, follower_of, leader_of
from tests.simulation.matrix.harness import survives

SESSION_S = 1.5


@pytest.mark.parametrize(
    "who", [leader_of("orders"), controller, follower_of("orders")], ids=["leader", "controller", "follower"]
)
def test_whoever_is_paused_comes_back_as_one_of_many(who):
    async def story(cluster, traffic):
        paused = cluster.pause(who)
        await cluster.advance(3 * SESSION_S)
        replica = cluster.partition_on(paused, "orders")
        committed = replica.high_watermark
        if replica.is_leader:
            assert cluster.leader("orders") != paused
            acknowledged = len(traffic.ledger.partitions[0].acknowledged)
            assert acknowledged > committed, "somebody else goes on"
        cluster.resume(paused)

    survives(story, broker_session_timeout_ms="1500")
