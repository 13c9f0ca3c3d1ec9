"""DescribeLogDirs: sizes, lags and the room that is left (KIP-113, KIP-827)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.replication import following
from ottla.log import DiskError, ModelledDisk, OsDisk
from tests.broker.world import World, batch


async def describe(world: World, topics: Any = None, version: int = 5) -> Any:
    (found,) = (await world.call(35, version, {"topics": topics})).results
    return found


def rows(found: Any) -> dict[tuple[str, int], tuple[int, int, bool]]:
    return {
        (topic.name, row.partition_index): (row.partition_size, row.offset_lag, row.is_future_key)
        for topic in found.topics
        for row in topic.partitions
    }


@pytest.mark.parametrize("version", range(1, 6))
async def test_everything_that_is_here(world: World, version: int) -> None:
    world.add_topic("a", 2)
    world.add_topic("elsewhere", replicas=(2, 3), leader=2)
    await world.produce("a", batch(3), index=1)
    found = await describe(world, version=version)
    assert found.error_code is ErrorCode.none
    assert Path(found.log_dir) == Path("data").absolute()
    assert rows(found) == {("a", 0): (0, 0, False), ("a", 1): (len(batch(3)), 0, False)}
    if version >= 4:
        assert found.total_bytes >= found.usable_bytes > 0
    if version >= 5:
        assert not found.is_cordoned
        world.set_config("broker", "1", cordoned_log_dirs="*")
        assert (await describe(world)).is_cordoned


async def test_only_what_was_asked_for(world: World) -> None:
    world.add_topic("a", 2)
    world.add_topic("b")
    wanted = [{"topic": "a", "partitions": [1, 1, 7]}, {"topic": "no", "partitions": [0]}]
    assert set(rows(await describe(world, wanted))) == {("a", 1)}
    assert rows(await describe(world, [])) == {}


async def test_a_follower_lags_by_what_its_leader_has_committed(world: World) -> None:
    (partition,) = world.add_topic("t", replicas=(2, 1), leader=2)
    assert rows(await describe(world))["t", 0][1] == 0
    following.adopt(partition, 7, 0)
    assert rows(await describe(world))["t", 0][1] == 7


async def test_a_directory_that_cannot_be_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: str) -> Any:
        raise DiskError(5, "input/output error", path)

    world.add_topic("t")
    monkeypatch.setattr(world.disk, "volume", broken)
    found = await describe(world)
    assert (found.error_code, found.log_dir, found.topics) == (ErrorCode.kafka_storage_error, "data", ())


async def test_a_replica_can_only_stay_where_it_is(world: World) -> None:
    """AlterReplicaLogDirs with one directory."""
    world.add_topic("t", 2)
    here = str(Path("data").absolute())

    async def moved(path: str, topic: str = "t") -> ErrorCode:
        wanted = {"path": path, "topics": [{"name": topic, "partitions": [1]}]}
        answer = await world.call(34, 2, {"dirs": [wanted]})
        error: ErrorCode = answer.results[0].partitions[0].error_code
        return error

    assert await moved(here) is ErrorCode.none
    assert await moved(here + "/") is ErrorCode.none
    assert await moved("/elsewhere") is ErrorCode.log_dir_not_found
    assert await moved(here, "unknown") is ErrorCode.replica_not_available


def test_the_room_on_a_disk(tmp_path: Path) -> None:
    found = OsDisk().volume(str(tmp_path))
    assert found.path == str(tmp_path)
    assert found.total_bytes >= found.usable_bytes > 0
    with pytest.raises(DiskError):
        OsDisk().volume(str(tmp_path / "missing"))
    disk = ModelledDisk(random.Random(1), capacity=100)
    disk.mkdir("d")
    disk.open("d/f", create=True).append([b"x" * 30])
    assert disk.volume("d") == ("d", 100, 70)
    disk.capacity = None
    assert disk.volume("d") == ("d", -1, -1)
