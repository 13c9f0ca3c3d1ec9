"""Nodes whose files disagree about min.insync.replicas (KIP-966): one number holds for all of them.

A leader that went by less than the controller would acknowledge with an ISR of one, while the controller takes the
replica that has left it for an eligible leader: elected, that one does not have what was acknowledged.
"""

import pytest

from ottla.client import KafkaError, NewTopic, TopicPartition
from ottla.simulation import SimulatedCluster, run

TP = TopicPartition("t", 0)


@pytest.mark.parametrize("seed", range(4))
def test_no_leader_commits_with_fewer_replicas_than_the_controller_counts_on(seed):
    async def scenario():
        cluster = SimulatedCluster()
        cluster.nodes[1].settings = {**cluster.nodes[1].settings, "min.insync.replicas": "1"}
        async with cluster, cluster.admin() as admin:
            await admin.create_topics([NewTopic("t", replica_assignments={0: (1, 2)})])
            await cluster.until(lambda: cluster.full("t"), "both are in sync")
            cluster.kill(2)
            await cluster.until(lambda: cluster.partition_on(1, "t").role.isr.committed == {1}, "one is alone")
            acknowledged = 0
            async with cluster.producer(linger_ms=0, request_timeout_ms=2000) as producer:
                for _ in range(3):
                    try:
                        await producer.send_and_wait("t", b"v", partition=0)
                        acknowledged += 1
                    except KafkaError:
                        break
            cluster.kill(1)
            cluster.start(2)
            await cluster.until(lambda: cluster.nodes[2].node and cluster.partition_on(2, "t"), "the other is back")
            await cluster.advance(10)
            other = cluster.partition_on(2, "t")
            values = {
                node.node.quorum.view.image.configs["broker", ""]["min.insync.replicas"]
                for node in cluster.nodes.values()
                if node.alive
            }
            return acknowledged, other.is_leader, other.log_end_offset, values

    acknowledged, leads, end, values = run(scenario, seed)
    assert len(values) == 1
    assert not leads or end >= acknowledged
    # Two of three files say 2; whichever the first active controller had, everybody goes by it.
    assert (acknowledged == 3 and not leads) if values == {"1"} else (acknowledged == 0 and leads)
