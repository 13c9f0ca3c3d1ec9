"""Cleanings that fail: what is left of them, when they are tried again, and what the cleaner says of them."""

from __future__ import annotations

import asyncio
import errno
import random
from itertools import pairwise
from uuid import UUID

import pytest

from ottla.log import DiskError, DiskFull, LogConfig, LogManager, ModelledDisk
from ottla.log.cleaning import LogCleaner, clean_log
from tests.log.batches import lead
from tests.log.compacting import CONFIG, Inline, contents, filled, open_log, pairs

FULL = DiskFull(errno.ENOSPC, "full")


class World:
    """One data directory with a compacted log, and its cleaner."""

    def __init__(self) -> None:
        self.disk, self.commits = ModelledDisk(random.Random(3)), Inline()

    async def open(self) -> None:
        self.manager = await LogManager.open(
            self.disk, "data", lambda _: CONFIG, clock=lambda: 1000, rng=random.Random(0), commits=self.commits
        )
        self.cleaner = LogCleaner(self.manager, self.commits)

    def filled(self, topic="t"):
        log = self.manager.create_log(topic, UUID(int=1), 0, CONFIG)
        for number in range(40):
            lead(log, pairs((b"k", b"%d" % number)))
        log.roll(0)
        return log

    async def round(self):
        return await self.cleaner.clean(lambda _topic, _partition: 1000)

    def leftovers(self):
        return [path for path in self.disk.files() if path.endswith((".cleaned", ".swap"))]


@pytest.fixture
async def world():
    world = World()
    await world.open()
    return world


async def test_a_log_that_cannot_be_cleaned_is_tried_again_ever_more_rarely_and_holds_up_no_other(world):
    broken, other = world.filled("broken"), world.filled("other")
    world.disk.fail_next("open", path_contains="broken-0/00000000000000000000.log.cleaned", times=0)
    assert await world.round() == 1
    assert len(contents(other)) == 1 and len(contents(broken)) == 40
    attempts, rounds = [], 0

    def note(_operation, path):
        if path.endswith(".cleaned"):
            attempts.append(rounds)

    world.disk.on_operation = note
    for _ in range(200):
        rounds += 1
        assert await world.round() == 0
        assert world.cleaner.status.uncleanable == 1
    assert [after - before for before, after in pairwise(attempts)] == [3, 5, 9, 17, 33, 65, 65]
    assert world.cleaner.status.max_dirty_ratio == 1.0
    world.disk.mend()
    while not await world.round():
        pass
    assert len(contents(broken)) == 1
    await world.round()
    assert world.cleaner.status == (0, 0.0)


async def test_a_full_disk_costs_neither_records_nor_room_and_passes(world):
    log = world.filled()
    log.flush()
    before = contents(log)
    for room in (0, 10, 40, 60):
        world.cleaner = LogCleaner(world.manager, world.commits)
        world.disk.capacity = world.disk.used() + room
        used = world.disk.used()
        assert await world.round() == 0
        assert world.cleaner.status.uncleanable == 1
        assert contents(log) == before and log.failure is None
        # The mark that offsets may be missing may have got its few bytes.
        assert not world.leftovers() and world.disk.used() - used < 30
    world.disk.capacity = None
    await world.round()
    assert await world.round() == 1
    assert [record.value for record in contents(log)] == [b"39"] and world.cleaner.status.uncleanable == 0


@pytest.mark.parametrize("step", range(60))
async def test_a_disk_that_is_full_at_any_moment_leaves_a_log_that_serves(world, step):
    """Whatever is under way then, all last values are there, and the next try with room cleans.

    Giving a segment the name of the one that it replaces takes no room.
    """
    log = world.filled()
    log.flush()
    seen = 0

    def count(operation, path):
        nonlocal seen
        if not path.endswith(".swap") and operation in ("open", "append", "truncate", "rename", "write_atomic"):
            seen += 1
            if seen > step:
                raise FULL

    world.disk.on_operation = count
    await world.round()
    world.disk.on_operation = None
    assert log.failure is None
    assert contents(log)[-1].value == b"39"
    for _ in range(3):
        await world.round()
    assert [record.value for record in contents(log)] == [b"39"] and not world.leftovers()
    log.abandon()
    world.disk.crash()
    again = open_log(world.disk, recovery_point=log.recovery_point) if log.directory == "data/t-0" else log
    assert [record.value for record in contents(again)] == [b"39"]


async def test_damage_is_found_and_nothing_of_it_is_written_anew(world):
    log = world.filled()
    log.flush()
    world.disk.flip_bit(log.segments[1].path(".log"), 70)
    assert await world.round() == 0
    assert world.cleaner.status.uncleanable == 1 and not world.leftovers() and log.failure is None


async def test_a_log_that_is_gone_or_not_compacted_any_more_is_no_trouble(world):
    for end in ("deleted", "policy"):
        log = world.filled(end)
        world.disk.fail_next("open", path_contains=".cleaned", times=1)
        await world.round()
        assert world.cleaner.status.uncleanable == 1
        if end == "deleted":
            world.manager.delete_log(end, 0)
        else:
            log.config = LogConfig(segment_bytes=400)
        await world.round()
        assert world.cleaner.status.uncleanable == 0


async def test_what_cannot_be_remembered_is_only_done_twice(world):
    world.filled()
    world.disk.fail_next("write_atomic", FULL, path_contains="cleaner-offset-checkpoint")
    world.disk.fail_next("open", FULL, path_contains="cleaner-offset-checkpoint")
    assert await world.round() == 1
    assert await world.round() == 0
    assert world.cleaner.status.uncleanable == 0


def test_a_disk_error_in_the_middle_of_a_swap_takes_the_log_offline():
    log = filled([(b"k", b"%d" % number) for number in range(20)])
    log.flush()
    cleaning = log.begin_cleaning(0, 20, 1000)
    log._disk.fail_next("rename", DiskError(errno.EIO, "broken"))
    with pytest.raises(DiskError):
        asyncio.run(clean_log(log, cleaning, Inline(), 1 << 20))
    assert log.failure is not None
