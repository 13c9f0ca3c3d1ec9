"""Data directories that are not what they were: wiped, copied, of another cluster (RELIABILITY.md row 15, 2.7)."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from ottla.cluster import prepare
from ottla.cluster.traffic import Traffic
from tests.failover.cluster import NODES, PATIENCE_S, Cluster, eventually
from tests.failover.intruder import other_ports, run_like
from tests.failover.replicas import check_replicas, end_offset

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def watch_isr(cluster: Cluster, topic: str, node: int) -> None:
    """Wait until `node` is in the ISR, and see each time that it is: then it has everything that was committed before.

    What was committed is asked first and the disk is read last, so whatever moves in between cannot excuse a gap.
    """
    others = [other for other in NODES if other != node]

    async def probe() -> bool:
        (committed,) = await cluster.high_watermarks(topic, 1)
        view = await cluster.view(others[0], topic)
        if view is None or node not in view.partitions[0].isr:
            return False
        end = end_offset(cluster.data(node), topic, 0)
        assert end >= committed, f"node {node} is in the ISR with {end} of {committed} records"
        return True

    await eventually(probe, f"node {node} is in the ISR of {topic}", interval=0.005)


async def wipe_under_load(cluster: Cluster, topic: str, victim: int) -> None:
    """Kill a node, remove all that it had, start it, while others write enough that catching up takes a while."""
    leader = next(node for node in NODES if node != victim)
    await cluster.create(topic, leaders=(leader,), segment_bytes=str(1 << 20))
    async with Traffic(cluster.bootstrap(), topic, 1, interval=0.001, value_size=20_000) as traffic:
        await traffic.acknowledged_count(300, within=PATIENCE_S)
        await cluster.kill(victim)
        cluster.wipe(victim)
        written = len(traffic.ledger.partitions[0].acknowledged)
        await traffic.acknowledged_count(written + 50, within=PATIENCE_S)
        starting = asyncio.create_task(cluster.start(victim))
        await watch_isr(cluster, topic, victim)
        await starting
        await cluster.in_sync(topic)
        await traffic.stop_writing(within=PATIENCE_S)
        assert not traffic.failed
    await check_replicas(cluster, topic, traffic.ledger)


async def test_wiped_follower(cluster: Cluster) -> None:
    controller = await cluster.active_controller()
    await wipe_under_load(cluster, "wipe-follower", next(node for node in NODES if node != controller))


async def test_wiped_controller(cluster: Cluster) -> None:
    """A voter that forgets its votes and its log, and was the leader of the quorum."""
    await wipe_under_load(cluster, "wipe-controller", await cluster.active_controller())


async def test_wiped_node_can_lead_afterwards(cluster: Cluster) -> None:
    """It is as good as any other: with one more node down, it is needed for the quorum and for the ISR."""
    topic = "wipe-then-lead"
    await cluster.create(topic, leaders=(1,))
    async with Traffic(cluster.bootstrap(), topic, 1, interval=0.004) as traffic:
        await traffic.acknowledged_count(30, within=PATIENCE_S)
        await cluster.kill(2)
        cluster.wipe(2)
        await cluster.start(2)
        await cluster.in_sync(topic)
        await cluster.kill(1)
        assert await cluster.replaced(topic, 1) == 2
        written = len(traffic.ledger.partitions[0].acknowledged)
        await traffic.acknowledged_count(written + 30, within=PATIENCE_S)
        await cluster.start(1)
        await cluster.in_sync(topic)
        await traffic.stop_writing(within=PATIENCE_S)
        assert not traffic.failed
    await check_replicas(cluster, topic, traffic.ledger)


async def test_copied_directory_at_other_addresses(cluster: Cluster, tmp_path: Path) -> None:
    """Node 2 lives, and a copy of it wants to join: it is told so and ends; node 2 and the cluster go on."""
    topic = "copied"
    await cluster.create(topic, leaders=(2,))
    async with Traffic(cluster.bootstrap(), topic, 1, interval=0.004) as traffic:
        await traffic.acknowledged_count(30, within=PATIENCE_S)
        before = await cluster.led(topic)
        copy = tmp_path / "copy"
        shutil.copytree(cluster.data(2), copy)
        ended = await run_like(cluster.layout.node(2), tmp_path, {"log.dirs": str(copy), **other_ports()})
        assert ended.refused_with("node 2 is already running as another process"), ended
        written = len(traffic.ledger.partitions[0].acknowledged)
        await traffic.acknowledged_count(written + 30, within=PATIENCE_S)
        assert await cluster.led(topic) == before
        await traffic.stop_writing(within=PATIENCE_S)
        assert not traffic.failed
    await check_replicas(cluster, topic, traffic.ledger)


async def test_copied_directory_at_the_same_addresses(cluster: Cluster, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(cluster.data(2), copy)
    ended = await run_like(cluster.layout.node(2), tmp_path, {"log.dirs": str(copy)})
    assert ended.refused_with("address already in use"), ended


async def test_directory_of_another_cluster(cluster: Cluster, tmp_path: Path) -> None:
    other = prepare(tmp_path / "other", nodes=3, base_port=30_000)
    copy = tmp_path / "copy"
    shutil.copytree(cluster.data(1), copy)
    ended = await run_like(other.node(1), tmp_path, {"log.dirs": str(copy), **other_ports()})
    assert ended.refused_with(f"belongs to cluster {cluster.layout.cluster_id}"), ended


async def test_another_cluster(cluster: Cluster, tmp_path: Path) -> None:
    """With our addresses and our secret, but of another cluster."""
    await cluster.kill(3)
    changes = {"cluster.id": "another-cluster", "log.dirs": str(tmp_path / "data")}
    ended = await run_like(cluster.layout.node(3), tmp_path, changes)
    assert ended.refused_with("cluster another-cluster"), ended


async def test_another_secret(cluster: Cluster, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not the secret of this cluster")
    await cluster.kill(3)
    changes = {"ottla.cluster.secret.file": str(secret), "log.dirs": str(tmp_path / "data")}
    ended = await run_like(cluster.layout.node(3), tmp_path, changes)
    assert ended.refused_with("secret"), ended
