"""Row 11: EIO on write and on sync, of each class of file. The replica goes offline, leadership moves."""

import contextlib

import pytest

from ottla.client import NewTopic
from ottla.client.errors import TopicAlreadyExistsError
from ottla.cluster.traffic import Traffic
from ottla.simulation import SimulatedCluster, controller, follower_of, leader_of
from tests.simulation.matrix.harness import ended, survives, takes_writes

LEADER, FOLLOWER = leader_of("orders"), follower_of("orders")

NAMES = {LEADER: "leader", FOLLOWER: "follower", controller: "controller"}


@pytest.mark.parametrize("who", [LEADER, FOLLOWER], ids=["leader", "follower"])
@pytest.mark.parametrize("flush", ["os", "synced"])
@pytest.mark.parametrize("on", ["append", "sync"])
def test_a_log_that_fails_ends_the_node(who, flush: str, on: str):
    async def story(cluster: SimulatedCluster, traffic: Traffic) -> None:
        victim = cluster.disk_errors(who, on=on, path_contains="orders-0/0")
        await takes_writes(cluster, traffic)
        await ended(cluster, victim)
        await takes_writes(cluster, traffic)
        cluster.disk_mended(victim)
        cluster.start(victim)

    assert survives(story, ottla_flush=flush) > 100


@pytest.mark.parametrize(
    ("who", "on", "where"),
    [
        (controller, "append", "__cluster_metadata"),
        (FOLLOWER, "append", "__cluster_metadata"),
        (controller, "sync", "__cluster_metadata"),
        (LEADER, "sync", "__cluster_metadata"),
        (LEADER, "rename", "quorum-state"),
        (controller, "sync_dir", "__cluster_metadata"),
        (LEADER, "append", "-checkpoint"),
        (FOLLOWER, "rename", "-checkpoint"),
        (LEADER, "append", ".index"),
        (FOLLOWER, "sync", ".index"),
        (LEADER, "append", ".snapshot"),
        (LEADER, "sync_dir", "orders-0"),
    ],
    ids=lambda value: value if isinstance(value, str) else NAMES[value],
)
def test_one_error_in_each_class_of_file(who, on: str, where: str):
    """Whatever fails, once: the node goes on or ends, and the others take writes meanwhile."""

    async def story(cluster: SimulatedCluster, traffic: Traffic) -> None:
        victim = cluster.disk_errors(who, on=on, path_contains=where, times=1)
        await cluster.advance(2)
        async with cluster.admin() as admin:
            with contextlib.suppress(TopicAlreadyExistsError):  # the answer was lost with the controller
                await admin.create_topics([NewTopic("others", 1, 3)])
        await takes_writes(cluster, traffic)
        await cluster.advance(2)
        cluster.disk_mended(victim)
        if await cluster.nodes[victim].stopping():
            cluster.start(victim)

    assert survives(story) > 100
