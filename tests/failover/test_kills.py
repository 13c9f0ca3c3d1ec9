"""kill -9 under load: leader, follower, controller, two nodes in turn, all at once (RELIABILITY.md section 3, row 1).

Afterwards every acknowledged record is on the disk of every node, at its offset and in the order of sending.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ottla.cluster.traffic import Traffic
from tests.failover.cluster import PATIENCE_S, Cluster
from tests.failover.replicas import check_epochs, check_replicas

pytestmark = pytest.mark.asyncio(loop_scope="module")

PARTITIONS = 3
STEADY = 30


@asynccontextmanager
async def load(cluster: Cluster, topic: str) -> AsyncIterator[Traffic]:
    """Traffic on a new topic whose segments are small; at the end everything is read and checked on all disks."""
    await cluster.create(topic, leaders=(1, 2, 3), segment_bytes=str(16 * 1024))
    async with Traffic(cluster.bootstrap(), topic, PARTITIONS, interval=0.004) as traffic:
        await traffic.start_reading()
        await steady(traffic)
        yield traffic
        await cluster.in_sync(topic)
        await steady(traffic)
        await traffic.stop_writing(within=PATIENCE_S)
        assert not traffic.failed
        await traffic.read_everything(within=PATIENCE_S)
        verdict = traffic.ledger.verdict()
        assert verdict.clean, verdict
    await check_replicas(cluster, topic, traffic.ledger)


async def steady(traffic: Traffic) -> None:
    """Some more records on every partition."""
    written = max(len(part.acknowledged) for part in traffic.ledger.partitions)
    await traffic.acknowledged_count(written + STEADY, within=PATIENCE_S)


async def resumed(traffic: Traffic, since: float, what: str) -> None:
    """Every partition takes writes again; tells how long it did not, from the kill at `since` (loop time) on."""
    await steady(traffic)
    gap = traffic.ledger.longest_gap(since - 0.05, since + PATIENCE_S)
    print(f"{what}: {gap * 1000:.0f} ms without writes")  # noqa: T201  shown with a failure, and by pytest -s


async def outage(cluster: Cluster, traffic: Traffic, victim: int, what: str) -> None:
    """Kill one node, go on without it, start it again."""
    began = asyncio.get_running_loop().time()
    await cluster.kill(victim)
    await resumed(traffic, began, what)
    await cluster.start(victim)


async def test_leader(cluster: Cluster) -> None:
    async with load(cluster, "kill-leader") as traffic:
        controller = await cluster.active_controller()
        victim = next(node for node in (1, 2, 3) if node != controller)
        await outage(cluster, traffic, victim, "a leader killed")


async def test_follower(cluster: Cluster) -> None:
    """Killed while another node leads everything: writers must not even notice an election."""
    topic = "kill-follower"
    await cluster.create(topic, leaders=(1, 1, 1))
    before = await cluster.led(topic)
    async with Traffic(cluster.bootstrap(), topic, PARTITIONS, interval=0.004) as traffic:
        await steady(traffic)
        await outage(cluster, traffic, 2, "a follower killed")
        after = await cluster.in_sync(topic)
        assert [part.leader_epoch for part in after.partitions] == [part.leader_epoch for part in before.partitions]
        await steady(traffic)
        await traffic.stop_writing(within=PATIENCE_S)
        assert not traffic.failed
    await check_replicas(cluster, topic, traffic.ledger)


async def test_controller(cluster: Cluster) -> None:
    """The active controller, which leads a partition too."""
    async with load(cluster, "kill-controller") as traffic:
        await outage(cluster, traffic, await cluster.active_controller(), "the controller killed")


async def test_two_in_turn(cluster: Cluster) -> None:
    """The second one dies as soon as the first is back and in sync: leadership must have moved on to those who can."""
    async with load(cluster, "kill-two") as traffic:
        first = await cluster.leader("kill-two", 0)
        await outage(cluster, traffic, first, "the first killed")
        await cluster.in_sync("kill-two")
        second = await cluster.leader("kill-two", 0)
        assert second != first
        await outage(cluster, traffic, second, "the second killed")


async def test_two_in_turn_without_a_pause(cluster: Cluster) -> None:
    """The second dies while the first has started but may not be in sync yet: it must not lead before it is."""
    async with load(cluster, "kill-hastily") as traffic:
        for _ in range(2):
            first = await cluster.leader("kill-hastily", 0)
            await cluster.kill(first)
            second = await cluster.replaced("kill-hastily", first)
            await cluster.start(first)
            began = asyncio.get_running_loop().time()
            await cluster.kill(second)
            await cluster.start(second)
            await resumed(traffic, began, "the second killed")


async def test_all_at_once(cluster: Cluster) -> None:
    async with load(cluster, "kill-all") as traffic:
        began = asyncio.get_running_loop().time()
        await cluster.kill(1, 2, 3)
        await cluster.start(1, 2, 3)
        await resumed(traffic, began, "all killed, restart included")


async def test_all_at_once_and_back_one_by_one(cluster: Cluster) -> None:
    """Leaders may only come from the last ISR, in whatever order the nodes come back."""
    async with load(cluster, "kill-all-slowly") as traffic:
        await cluster.kill(1)
        await cluster.replaced("kill-all-slowly", 1)
        await steady(traffic)
        began = asyncio.get_running_loop().time()
        await cluster.kill(2, 3)
        # Node 1, which lacks the last records, is first; it is ready only once there is a quorum.
        await cluster.start(1, 3)
        await cluster.start(2)
        await resumed(traffic, began, "all killed, restart included")


async def test_leader_epochs_after_all_of_that(cluster: Cluster) -> None:
    await check_epochs(cluster)
