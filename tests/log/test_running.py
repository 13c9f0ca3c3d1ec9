"""Whether only a process died, or the machine with its page cache."""

import asyncio
import contextlib
import random
from uuid import UUID

import pytest

from ottla.log import Crashed, DiskError, GroupCommit, LogConfig, LogManager, ModelledDisk
from ottla.log.checkpoints import Running
from tests.log.batches import batch, lead


async def opened(disk: ModelledDisk) -> LogManager:
    return await LogManager.open(
        disk, "data", lambda _topic: LogConfig(), clock=lambda: 1000, rng=random.Random(1), commits=GroupCommit()
    )


@pytest.mark.parametrize(
    ("synced", "how", "kept"),
    [
        (False, "kill", True),
        (False, "crash", False),
        (False, "wipe", False),
        (True, "kill", True),
        (True, "crash", True),
        (True, "wipe", False),
    ],
)
def test_a_killed_process_has_lost_nothing_and_a_machine_without_power_may_have_unless_it_synced(
    synced: bool, how: str, kept: bool
) -> None:
    async def scenario() -> None:
        disk = ModelledDisk(random.Random(1))
        manager = await opened(disk)
        assert not manager.kept_everything
        await manager.note_running(7, synced=synced)
        getattr(disk, how)()
        found = await opened(disk)
        assert not found.was_clean
        assert (found.kept_everything, found.last_broker_epoch) == (kept, 7 if kept else -1)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("ended", "found"), [("close", 7), ("kill", 7), ("crash", -1), ("wipe", -1)], ids=lambda value: str(value)
)
def test_a_process_that_never_was_registered_leaves_what_the_one_before_had_left(ended: str, found: int) -> None:
    """It has answered for nothing: what it found is still there, or still missing."""

    async def scenario() -> None:
        disk = ModelledDisk(random.Random(1))
        manager = await opened(disk)
        await manager.note_running(7, synced=False)
        if ended == "close":
            await manager.close(7)
        else:
            getattr(disk, ended)()
        for _ in range(2):
            assert await (await opened(disk)).close()
        disk.crash()
        manager = await opened(disk)
        assert (manager.was_clean, manager.last_broker_epoch) == (True, found)

    asyncio.run(scenario())


@pytest.mark.parametrize("ends", [("crash",), ("kill",), ("kill", "crash"), ("crash", "crash", "kill")])
def test_what_was_stopped_cleanly_is_there_until_a_process_is_registered(ends: tuple[str, ...]) -> None:
    """The power comes back and goes again before there is a controller to register with."""

    async def scenario() -> None:
        disk = ModelledDisk(random.Random(1))
        await (await opened(disk)).close(7)
        for end in ends:
            await opened(disk)
            getattr(disk, end)()
        manager = await opened(disk)
        assert (manager.was_clean, manager.kept_everything, manager.last_broker_epoch) == (False, True, 7)
        await manager.note_running(8, synced=False)
        disk.crash()
        assert not (await opened(disk)).kept_everything

    asyncio.run(scenario())


def test_a_registration_that_cannot_be_noted_ends_what_the_note_before_promises() -> None:
    async def scenario() -> None:
        disk = ModelledDisk(random.Random(1))
        await (await opened(disk)).close(7)
        manager = await opened(disk)
        disk.fail_next("append", times=0)
        with pytest.raises(DiskError):
            await manager.note_running(8, synced=False)
        disk.mend()
        disk.kill()
        assert not (await opened(disk)).kept_everything

    asyncio.run(scenario())


def test_a_full_disk_is_opened_after_a_clean_stop_and_has_room_for_the_next_note() -> None:
    async def scenario() -> None:
        disk = ModelledDisk(random.Random(1))
        manager = await opened(disk)
        await manager.note_running(7, synced=False)
        await manager.close(7)
        disk.capacity = disk.used()
        manager = await opened(disk)
        assert (manager.was_clean, manager.kept_everything, manager.last_broker_epoch) == (True, True, 7)
        await manager.note_running(8, synced=False)
        disk.kill()
        manager = await opened(disk)
        assert (manager.kept_everything, manager.last_broker_epoch) == (True, 8)

    asyncio.run(scenario())


@pytest.mark.parametrize("at", range(10))
def test_the_mark_of_a_clean_stop_does_not_come_back(at: int) -> None:
    """Whoever took it may have died before that was durable, and the power goes under the next one."""

    async def scenario(power: int) -> None:
        disk = ModelledDisk(random.Random(power))
        await (await opened(disk)).close(7)
        disk.crash_at = disk.operations + 1 + at
        with contextlib.suppress(Crashed):
            await opened(disk)
        disk.kill()
        await opened(disk)
        disk.crash()
        assert not (await opened(disk)).was_clean

    for power in range(10):
        asyncio.run(scenario(power))


def test_a_note_that_nobody_can_read_promises_nothing() -> None:
    assert Running.decode(b"{") == Running.decode(b"[]") == Running()


def test_a_log_that_was_taken_away_while_nobody_ran_is_missed_also_by_the_next_process() -> None:
    """As by somebody who wants a replica to be fetched anew. An empty one is not missed."""

    async def scenario(missing: str) -> bool:
        disk = ModelledDisk(random.Random(1))
        manager = await opened(disk)
        for topic, number in (("full", 1), ("also", 2), ("empty", 3)):
            log = manager.create_log(topic, UUID(int=number), 0, LogConfig())
            if topic != "empty":
                lead(log, batch())
        await manager.close(7)
        disk.remove_tree(f"data/{missing}-0")
        kept = (await opened(disk)).kept_everything
        disk.kill()
        assert (await opened(disk)).kept_everything is kept
        return kept

    assert not asyncio.run(scenario("full"))
    assert asyncio.run(scenario("empty"))


@pytest.mark.parametrize(
    ("synced", "torn", "kept"),
    [(False, True, False), (False, False, False), (True, False, False), (True, True, True)],
)
def test_what_was_cut_is_remembered_also_by_a_process_that_had_nothing_to_cut_any_more(
    synced: bool, torn: bool, kept: bool
) -> None:
    """The first process that finds the end is killed before it can tell the controller. A write that was not over was
    not answered for where everything is synced first."""

    async def scenario() -> None:
        disk = ModelledDisk(random.Random(1))
        manager = await opened(disk)
        await manager.note_running(7, synced=synced)
        log = manager.create_log("orders", UUID(int=1), 0, LogConfig())
        lead(log, batch())
        lead(log, batch())
        disk.kill()
        path = "data/orders-0/00000000000000000000.log"
        file = disk.open(path)
        size = file.size() // 2
        if torn:
            file.truncate(2 * size - 1)
        else:
            file.pwrite(size, file.pread(0, size))
        file.close()
        assert (await opened(disk)).kept_everything is kept
        disk.kill()
        again = await opened(disk)
        found = again.get("orders", 0)
        assert found is not None and found.recovered.cut_bytes == 0
        assert again.kept_everything is kept

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(10))
def test_who_begins_to_sync_makes_durable_what_was_answered_for_before(seed: int) -> None:
    async def scenario() -> None:
        disk = ModelledDisk(random.Random(seed))
        manager = await opened(disk)
        await manager.note_running(7, synced=False)
        lead(manager.create_log("orders", UUID(int=1), 0, LogConfig()), batch())
        disk.kill()
        manager = await opened(disk)
        assert manager.kept_everything
        await manager.note_running(8, synced=True)
        disk.crash()
        found = await opened(disk)
        log = found.get("orders", 0)
        assert found.kept_everything and log is not None and log.log_end_offset == 1

    asyncio.run(scenario())
