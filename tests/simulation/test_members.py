"""What a simulation asks of members that come and go: the checks have eyes, and the nemesis leaves a quorum."""

from dataclasses import replace

import pytest

from ottla.client import TopicPartition
from ottla.controller import PartitionImage
from ottla.simulation import SimulatedCluster, run
from ottla.simulation.errors import Anomaly
from ottla.simulation.invariants.metadata import MetadataTruth
from ottla.simulation.replicas import nothing_too_much
from ottla.simulation.storm import storm
from tests.simulation.test_voters import change

ORDERS = TopicPartition("orders", 0)


@pytest.mark.parametrize("seed", range(3))
def test_members_and_voters_come_and_go_while_nodes_die(seed: int):
    report = storm(seed, seconds=12, kinds=["new voter", "voter leaves", "broker leaves", "reassign", "kill"], rate=20)
    assert report.acknowledged


def test_a_node_that_has_left_may_not_have_a_replica():
    async def scenario():
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders")
            new = cluster.add_broker()
            await cluster.nodes[new].ready()
            async with cluster.admin() as admin:
                await admin.alter_partition_reassignments({ORDERS: (1, 2, new)})
            await cluster.until(lambda: cluster.full("orders"), "it has all of it")
            cluster.kill(new)
            cluster.forget(new)

    with pytest.raises(Anomaly, match="have left"):
        run(scenario, 0)


def test_a_node_that_has_left_may_not_vote():
    async def scenario():
        async with SimulatedCluster() as cluster:
            new = cluster.add_broker(controller=True)
            await cluster.nodes[new].ready()
            await change(cluster, new, add=True)
            cluster.kill(new)
            cluster.forget(new)

    with pytest.raises(Anomaly, match="has left"):
        run(scenario, 0)


def test_a_replica_that_nobody_wants_is_noticed():
    async def scenario():
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders")
            nothing_too_much(cluster)
            cluster.pause(3)
            async with cluster.admin() as admin:
                await admin.alter_partition_reassignments({ORDERS: (1, 2)})
            await cluster.advance(1)
            nothing_too_much(cluster)

    with pytest.raises(Anomaly, match="node 3 has a replica of orders-0"):
        run(scenario, 0)


def test_what_becomes_of_a_reassignment_is_judged_change_by_change():
    """A node may apply two at once: here all wanted replicas were in the ISR before it shrank again."""
    was = PartitionImage((3, 1, 5, 4), (3, 4), 3, 3, 6, adding=(1,), removing=(5, 4))
    now = PartitionImage((3, 1), (3,), 3, 4, 8, elr=(1,))
    truth = MetadataTruth({}, lambda *_: None, lambda *_: None)
    truth._partition("orders-0", was, now)
    with pytest.raises(Anomaly, match="were dropped"):
        truth._partition("orders-0", was, replace(now, partition_epoch=7))
    with pytest.raises(Anomaly, match="has ended with"):
        truth._partition("orders-0", was, replace(was, partition_epoch=7, adding=(), removing=()))


def test_which_changes_of_voters_are_survived():
    async def scenario():
        async with SimulatedCluster() as cluster:
            electorate = cluster.electorate
            asked = [electorate.survives(), electorate.survives(removed=1), electorate.survives(lost=1)]
            asked.append(electorate.survives(removed=1, lost=1))
            assert asked == [True, True, True, True]
            assert not electorate.survives(removed=2, lost=1)
            cluster.nodes[1].fragile = True
            assert not electorate.survives(removed=2)
            assert electorate.survives(removed=1)
            electorate.removing[2] += 1  # nobody knows what became of it
            assert not electorate.survives()
            cluster.nodes[1].fragile = False
            assert electorate.survives() and electorate.survives(removed=3)
            assert not electorate.survives(lost=1)
            electorate.removing[3] += 1
            assert not electorate.survives(removed=1)
            electorate.removing.clear()
            new = cluster.add_broker(controller=True)
            await cluster.nodes[new].ready()
            assert electorate.is_out(new)
            await change(cluster, new, add=True)
            assert not electorate.is_out(new)
            cluster.nodes[1].fragile = True
            assert electorate.survives(removed=2)

    run(scenario, 0)
