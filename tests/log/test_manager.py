"""One data directory: opened, used, closed, killed."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from uuid import UUID

import pytest

from ottla.log import (
    Crashed,
    DiskError,
    DiskLocked,
    GroupCommit,
    InconsistentTopicId,
    LogConfig,
    LogError,
    LogManager,
    ModelledDisk,
)
from ottla.log.checkpoints import HIGH_WATERMARK_FILE, decode_offsets
from tests.log.batches import batch, headers, lead, read_all

ONE, TWO = UUID(int=1), UUID(int=2)
CONFIG = LogConfig(segment_bytes=300, file_delete_delay_ms=1000)
MARKER = "data/.kafka_cleanshutdown"


class World:
    def __init__(self, disk: ModelledDisk) -> None:
        self.disk = disk
        self.now = 0
        self.commits = GroupCommit()

    async def open(self) -> LogManager:
        return await LogManager.open(
            self.disk,
            "data",
            lambda topic: CONFIG,
            clock=lambda: self.now,
            rng=random.Random(0),
            commits=self.commits,
        )


@pytest.fixture
def world(disk: ModelledDisk) -> World:
    return World(disk)


async def test_a_clean_stop_is_known_and_the_marker_goes_first(world: World) -> None:
    manager = await world.open()
    assert not manager.was_clean
    log = manager.create_log("t", ONE, 3, CONFIG)
    for _ in range(10):
        lead(log, batch([b"x" * 50]))
    manager.write_high_watermarks({("t", 3): (log, 7)})
    assert await manager.close(broker_epoch=42)
    world.disk.crash()
    assert world.disk.read("data/recovery-point-offset-checkpoint").startswith(b"0\n2\nt 3 10\n")
    manager = await world.open()
    assert (manager.was_clean, manager.last_broker_epoch) == (True, 42)
    assert not world.disk.exists(MARKER)
    again = manager.get("t", 3)
    assert again is not None
    assert again.log_end_offset == 10 and again.recovered.scanned_from is None
    assert manager.topic_id("t", 3) == ONE
    assert manager.high_watermarks == {("t", 3): 7}
    with pytest.raises(DiskLocked):
        await world.open()


async def test_a_crash_at_every_point_of_recovery_is_unclean_again(world: World) -> None:
    """KAFKA-10471."""
    manager = await world.open()
    log = manager.create_log("t", ONE, 0, CONFIG)
    for _ in range(6):
        lead(log, batch([b"x" * 50]))
    expected = read_all(log)
    assert await manager.close()
    removed = 9  # the operation that makes the removal of the mark durable
    world.disk.crash_at = world.disk.operations + removed
    with pytest.raises(Crashed):
        await world.open()
    world.disk.crash()
    for at in range(1, 20):
        world.disk.operations, world.disk.crash_at = 0, at
        try:
            manager = await world.open()
            lead(manager.create_log("t", ONE, 0, CONFIG), batch([b"unsynced"]))
            manager.abandon()
        except Crashed:
            pass
        world.disk.crash()
        if at > removed:
            assert not world.disk.exists(MARKER)
    manager = await world.open()
    assert not manager.was_clean
    reopened = manager.get("t", 0)
    assert reopened is not None and read_all(reopened).startswith(expected)


async def test_an_older_namesake_is_never_taken_for_the_topic(world: World) -> None:
    manager = await world.open()
    lead(manager.create_log("t", ONE, 0, CONFIG), batch())
    assert manager.create_log("t", ONE, 0, CONFIG).log_end_offset == 1
    with pytest.raises(InconsistentTopicId):
        manager.create_log("t", TWO, 0, CONFIG)
    manager.delete_log("t", 0)
    assert manager.get("t", 0) is None and manager.topic_id("t", 0) is None
    assert manager.create_log("t", TWO, 0, CONFIG).log_end_offset == 0
    await manager.close()
    world.disk.remove("data/t-0/partition.metadata")
    manager = await world.open()
    assert manager.topic_id("t", 0) is None
    assert manager.create_log("t", ONE, 0, CONFIG).log_end_offset == 0
    lead(manager.create_log("t", ONE, 0, CONFIG), batch())
    await manager.close()
    world.disk.remove("data/t-0/partition.metadata")
    manager = await world.open()
    with pytest.raises(InconsistentTopicId):
        manager.create_log("t", ONE, 0, CONFIG)


async def test_deleted_logs_go_after_their_delay_or_at_the_next_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, passed = asyncio.get_running_loop(), 0.0
    began = loop.time()
    monkeypatch.setattr(loop, "time", lambda: began + passed)
    manager = await world.open()
    for partition in range(2):
        lead(manager.create_log("a.topic-1", ONE, partition, CONFIG), batch())
    manager.delete_log("a.topic-1", 0)
    (doomed,) = [name for name in world.disk.listdir("data") if name.endswith("-delete")]
    assert doomed.startswith("a.topic-1-0.")
    await manager.removal_pass()
    assert doomed in world.disk.listdir("data")
    world.now, passed = -3_600_000, 1.0  # somebody has set the wall clock back
    await manager.removal_pass()
    assert doomed not in world.disk.listdir("data")
    manager.delete_log("a.topic-1", 1)
    manager.delete_log("unheard-of", 1)
    await manager.close()
    manager = await world.open()
    assert len(manager) == 0
    await manager.removal_pass()
    assert not [name for name in world.disk.listdir("data") if name.startswith("a.topic-1")]


async def test_a_checkpoint_asked_for_before_gives_a_namesake_nothing(world: World) -> None:
    manager = await world.open()
    old, other = (manager.create_log(topic, ONE, 0, CONFIG) for topic in ("t", "u"))
    manager.delete_log("t", 0)
    manager.create_log("t", TWO, 0, CONFIG)
    manager.write_high_watermarks({("t", 0): (old, 7), ("u", 0): (other, 5)})
    assert decode_offsets(world.disk.read(f"data/{HIGH_WATERMARK_FILE}"), "marks") == {("u", 0): 5}


async def test_a_log_set_aside_keeps_its_files_and_is_no_log_any_more(world: World) -> None:
    manager = await world.open()
    held = manager.create_log("a.topic-1", ONE, 0, CONFIG)
    lead(held, batch())
    manager.set_aside("a.topic-1", 0)
    manager.set_aside("unheard-of", 1)
    assert manager.get("a.topic-1", 0) is None and manager.topic_id("a.topic-1", 0) is None
    assert manager.create_log("a.topic-1", TWO, 0, CONFIG).log_end_offset == 0
    await manager.retention_pass(lambda topic, partition: 0)
    await manager.close()
    manager = await world.open()
    assert len(manager) == 1
    (stray,) = [name for name in world.disk.listdir("data") if name.endswith("-stray")]
    assert stray.startswith("a.topic-1-0.")
    assert world.disk.read(f"data/{stray}/{0:020}.log")


async def test_a_lowered_recovery_point_is_on_disk_before_the_next_append(world: World) -> None:
    manager = await world.open()
    log = manager.create_log("t", ONE, 0, CONFIG)
    for _ in range(8):
        lead(log, batch([b"x" * 50]))
    await manager.flush_pass()
    assert world.disk.read("data/recovery-point-offset-checkpoint").startswith(b"0\n2\nt 0 8\n")
    log.truncate_to(2)
    assert world.disk.read("data/recovery-point-offset-checkpoint").startswith(b"0\n2\nt 0 2\n")
    lead(log, batch([b"y"]))
    world.disk.crash()
    manager = await world.open()
    reopened = manager.get("t", 0)
    assert reopened is not None and reopened.log_end_offset in (2, 3)


async def test_log_start_and_retention(world: World) -> None:
    manager = await world.open()
    log = manager.create_log("t", ONE, 0, CONFIG)
    for _ in range(8):
        lead(log, batch([b"x" * 50]))
    log.advance_log_start(3)
    manager.checkpoint()
    assert world.disk.read("data/log-start-offset-checkpoint").startswith(b"0\n2\nt 0 3\n")
    assert await manager.retention_pass(lambda topic, partition: 8) > 0
    assert headers(read_all(log))[0].base_offset <= 3 == log.log_start_offset
    await manager.close()
    manager = await world.open()
    reopened = manager.get("t", 0)
    assert reopened is not None and reopened.log_start_offset == 3


async def test_one_bad_log_does_not_stop_the_others(world: World) -> None:
    manager = await world.open()
    for partition in range(3):
        lead(manager.create_log("t", ONE, partition, CONFIG), batch())
    await manager.close()
    file = world.disk.open("data/t-1/partition.metadata")
    file.truncate(5)
    world.disk.fail_next("pread", path_contains="t-2")
    manager = await world.open()
    assert [key for key, _ in manager] == [("t", 0)]
    assert set(manager.offline) == {("t", 1), ("t", 2)}
    with pytest.raises(LogError):
        manager.create_log("t", ONE, 1, CONFIG)
    assert not await manager.close()
    assert not world.disk.exists(MARKER)


async def test_a_log_that_cannot_be_closed_cleanly_leaves_no_marker(world: World) -> None:
    manager = await world.open()
    lead(manager.create_log("t", ONE, 0, CONFIG), batch())
    world.disk.fail_next("sync", path_contains=".log")
    assert not await manager.close()
    assert not world.disk.exists(MARKER)
    manager = await world.open()
    assert not manager.was_clean
    world.disk.fail_next("append", path_contains="partition.metadata")
    with pytest.raises(DiskError):
        manager.create_log("u", ONE, 0, CONFIG)


async def test_a_log_that_was_found_without_a_topic_id_takes_on_the_config_of_its_topic(world: World) -> None:
    """At the start nobody knows yet how its topic is configured."""
    manager = await world.open()
    manager.create_log("t", ONE, 0, CONFIG)
    manager.abandon()
    world.disk.kill()
    world.disk.remove("data/t-0/partition.metadata")
    manager = await world.open()
    found = manager.get("t", 0)
    assert found is not None and found.config.flush == "os"
    synced = dataclasses.replace(CONFIG, flush="synced")
    assert manager.create_log("t", ONE, 0, synced) is found
    assert found.config == synced


async def test_a_topic_id_that_could_not_be_synced_is_written_anew_by_the_next_process(world: World) -> None:
    """After a failed sync the next one succeeds, and says nothing."""
    manager = await world.open()
    manager.create_log("t", ONE, 0, CONFIG)
    world.disk.fail_next("sync", path_contains="partition.metadata")
    with pytest.raises(DiskError):
        manager.settle()
    manager.abandon()
    world.disk.kill()
    manager = await world.open()
    log = manager.create_log("t", ONE, 0, CONFIG)
    lead(log, batch())
    log.flush()
    world.disk.crash()
    manager = await world.open()
    assert manager.topic_id("t", 0) == ONE
    assert manager.create_log("t", ONE, 0, CONFIG).log_end_offset == 1


async def test_a_full_disk_is_flushed_after_a_kill(world: World) -> None:
    manager = await world.open()
    log = manager.create_log("t", ONE, 0, CONFIG)
    lead(log, batch())
    log.flush()
    lead(log, batch())
    manager.abandon()
    world.disk.kill()
    world.disk.capacity = world.disk.used()
    manager = await world.open()
    found = manager.get("t", 0)
    assert found is not None and found.flush() == 2


@pytest.mark.parametrize("ended", ["closed", "killed"])
async def test_who_has_records_of_an_unknown_topic_has_not_kept_everything(world: World, ended: str) -> None:
    manager = await world.open()
    await manager.note_running(7, synced=True)
    lead(manager.create_log("t", ONE, 0, CONFIG), batch())
    await manager.close(7)
    if ended == "killed":
        manager = await world.open()
        await manager.note_running(8, synced=True)
        manager.abandon()
        world.disk.kill()
    world.disk.remove("data/t-0/partition.metadata")
    for _ in range(2):
        manager = await world.open()
        assert not manager.kept_everything
        manager.abandon()
        world.disk.kill()


@pytest.mark.parametrize("seed", range(10))
async def test_what_is_synced_stays_though_its_directory_is_of_a_process_that_was_killed(seed: int) -> None:
    """The new process finds the directory, which may be in the page cache only."""
    world = World(ModelledDisk(random.Random(seed)))
    manager = await world.open()
    manager.create_log("t", ONE, 0, CONFIG)
    manager.abandon()
    world.disk.kill()
    manager = await world.open()
    log = manager.create_log("t", ONE, 0, CONFIG)
    lead(log, batch())
    log.flush()
    expected = read_all(log)
    manager.abandon()
    world.disk.crash()
    manager = await world.open()
    found = manager.get("t", 0)
    assert found is not None and read_all(found) == expected
    assert manager.topic_id("t", 0) == ONE


async def test_foreign_directories_and_torn_checkpoints_are_left_alone(world: World) -> None:
    manager = await world.open()
    lead(manager.create_log("t", ONE, 0, CONFIG), batch())
    for name in ("__cluster_metadata-0", "lost+found", "not a log-0"):
        world.disk.mkdir(f"data/{name}")
    await manager.close()
    for name in ("recovery-point-offset-checkpoint", "log-start-offset-checkpoint", "replication-offset-checkpoint"):
        world.disk.write_atomic(f"data/{name}", b"0\n5\n")
    manager = await world.open()
    assert [key for key, _ in manager] == [("t", 0)]
    assert manager.high_watermarks == {}
    assert world.disk.exists("data/lost+found")


async def test_making_a_log_does_not_wait_for_the_disk(world: World) -> None:
    """A topic of a thousand partitions is made on the event loop."""
    manager = await world.open()
    waited: list[str] = []
    world.disk.on_operation = lambda name, path: waited.append(path) if name.startswith("sync") else None
    for partition in range(20):
        manager.create_log("t", ONE, partition, CONFIG)
    assert not waited
    manager.settle()
    assert {"data", "data/t-7", "data/t-7/partition.metadata"} <= set(waited)
    world.disk.on_operation = None
    world.disk.crash()
    manager = await world.open()
    assert {manager.topic_id("t", partition) for partition in range(20)} == {ONE}


@pytest.mark.parametrize("seed", range(8))
async def test_what_is_acknowledged_on_a_new_log_survives_with_its_topic_id(seed: int) -> None:
    world = World(ModelledDisk(random.Random(seed)))
    manager = await world.open()
    log = manager.create_log("t", ONE, 0, CONFIG)
    lead(log, batch([b"kept"]))
    log.flush()
    world.disk.crash()
    manager = await world.open()
    again = manager.get("t", 0)
    assert again is not None
    assert (again.log_end_offset, manager.topic_id("t", 0)) == (1, ONE)


@pytest.mark.parametrize("seed", range(8))
async def test_a_new_log_that_the_power_took_can_be_made_again(seed: int) -> None:
    world = World(ModelledDisk(random.Random(seed)))
    manager = await world.open()
    manager.create_log("t", ONE, 0, CONFIG)
    world.disk.crash()
    manager = await world.open()
    assert manager.topic_id("t", 0) in (None, ONE)
    assert manager.create_log("t", ONE, 0, CONFIG).log_end_offset == 0
