"""Replicas that come and go while clients write: real brokers, connections and files (KIP-455)."""

from __future__ import annotations

import os
from pathlib import Path

from kio.schema.errors import ErrorCode

from ottla.controller import AlterPartitionReassignments, Reassignment
from tests.replication.live import LiveNode, Metadata, cluster, until


def reassign(metadata: Metadata, replicas: tuple[int, ...] | None, topic: str = "t") -> ErrorCode:
    wish = Reassignment(topic=topic, partition=0, replicas=replicas)
    return ErrorCode(metadata.decide(AlterPartitionReassignments(partitions=(wish,))).partitions[0].error)


def replicas(metadata: Metadata) -> tuple[int, ...]:
    return metadata.image.topics["t"].partitions[0].replicas


def directories(node: LiveNode) -> list[str]:
    """Of the partition's log: the last part of a name that is not its own."""
    names = sorted(name for name in os.listdir(node.directory) if name.startswith("t-0"))
    return [name.rsplit("-", 1)[1] if name != "t-0" else name for name in names]


async def test_all_replicas_move_and_nothing_is_lost(tmp_path: Path) -> None:
    async with cluster(tmp_path, 5) as (metadata, nodes):
        metadata.create("t", 1, 2, 3, min_insync_replicas="2")
        for number in range(20):
            await nodes[1].produce(b"%d" % number)
        before = nodes[1].bytes_of()
        assert reassign(metadata, (4, 5)) is ErrorCode.none
        await until(lambda: replicas(metadata) == (4, 5))
        assert metadata.leader() == 4 and metadata.isr() == {4, 5}
        assert nodes[4].bytes_of() == nodes[5].bytes_of() == before
        await nodes[4].produce(b"after")
        for old in (1, 2, 3):
            assert nodes[old].replicas.partition("t", 0) is ErrorCode.not_leader_or_follower
            assert directories(nodes[old]) == ["delete"]


async def test_a_leader_that_stays_acknowledges_all_that_is_written_meanwhile(tmp_path: Path) -> None:
    async with cluster(tmp_path, 4) as (metadata, nodes):
        metadata.create("t", 1, 2, 3, min_insync_replicas="2")
        for target in ((1, 2, 4), (1, 3, 4), (1, 2, 3), (1, 2, 3, 4), (1, 2)):
            assert reassign(metadata, target) is ErrorCode.none
            await nodes[1].produce(b"x")
            await until(lambda target=target: replicas(metadata) == target)  # type: ignore[misc]
        await nodes[1].produce(b"y")
        assert nodes[1].partition().high_watermark == 6
        assert nodes[1].bytes_of() == nodes[2].bytes_of()


async def test_a_replica_that_is_wanted_again_begins_with_nothing_of_its_old_log(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (metadata, nodes):
        metadata.create("t", 1, 2, 3)
        await nodes[1].produce(b"a")
        assert reassign(metadata, (1, 2)) is ErrorCode.none
        await nodes[1].produce(b"b")
        assert reassign(metadata, (1, 2, 3)) is ErrorCode.none
        await until(lambda: metadata.isr() == {1, 2, 3})
        assert nodes[3].bytes_of() == nodes[1].bytes_of()
        assert directories(nodes[3]) == ["t-0", "delete"]


async def test_what_moved_away_while_a_broker_was_down_goes_and_what_nobody_knows_stays(tmp_path: Path) -> None:
    async with cluster(tmp_path, 4) as (metadata, nodes):
        metadata.create("t", 1, 2, 3)
        metadata.create("u", 3)
        await nodes[1].produce(b"a")
        await nodes[3].stop()
        metadata.fence(3)
        assert reassign(metadata, (1, 2, 4)) is ErrorCode.none
        await until(lambda: replicas(metadata) == (1, 2, 4))
        metadata.delete("u")
        assert directories(nodes[3]) == ["t-0"]
        await nodes[3].start()
        assert directories(nodes[3]) == ["delete"]
        assert any(name.startswith("u-0") and name.endswith("-stray") for name in os.listdir(nodes[3].directory))


async def spoiled(metadata: Metadata, nodes: dict[int, LiveNode]) -> LiveNode:
    """A node that is down, and whose log of t-0 cannot be opened any more."""
    metadata.create("t", 1, 2, 3)
    await nodes[1].produce(b"a")
    await nodes[3].stop()
    metadata.fence(3)
    (path,) = (Path(nodes[3].directory) / "t-0").glob("*.log")
    path.unlink()
    path.mkdir()
    return nodes[3]


async def test_what_moved_away_while_a_broker_was_down_goes_though_it_cannot_be_opened(tmp_path: Path) -> None:
    async with cluster(tmp_path, 4) as (metadata, nodes):
        node = await spoiled(metadata, nodes)
        assert reassign(metadata, (1, 2, 4)) is ErrorCode.none
        await until(lambda: replicas(metadata) == (1, 2, 4))
        await node.start()
        assert directories(node) == ["delete"]
        assert reassign(metadata, (1, 2, 3)) is ErrorCode.none
        await until(lambda: replicas(metadata) == (1, 2, 3))
        assert node.bytes_of() == nodes[1].bytes_of()


async def test_a_replica_that_could_not_be_opened_goes_when_it_is_moved_away(tmp_path: Path) -> None:
    async with cluster(tmp_path, 4) as (metadata, nodes):
        node = await spoiled(metadata, nodes)
        await node.start()
        assert directories(node) == ["t-0"]
        assert node.replicas.partition("t", 0) is ErrorCode.kafka_storage_error
        assert reassign(metadata, (1, 2, 4)) is ErrorCode.none
        await until(lambda: replicas(metadata) == (1, 2, 4))
        await until(lambda: directories(node) == ["delete"])


async def test_cancelled_replicas_are_dropped(tmp_path: Path) -> None:
    async with cluster(tmp_path, 4) as (metadata, nodes):
        metadata.create("t", 1, 2, 3)
        await nodes[4].stop()
        metadata.fence(4)
        assert reassign(metadata, (1, 2, 4)) is ErrorCode.none
        await nodes[4].start()
        await nodes[1].produce(b"a")
        if reassign(metadata, None) is ErrorCode.none:
            assert replicas(metadata) == (1, 2, 3)
            await until(lambda: directories(nodes[4]) in ([], ["delete"]))
        await nodes[1].produce(b"b")
