"""cleanup.policy=compact,delete: one log is cleaned, and loses its old segments by time and by size as well."""

from __future__ import annotations

import dataclasses
import random
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.log import LogConfig, LogManager, ModelledDisk
from ottla.log.cleaning import LogCleaner
from tests.log.batches import lead
from tests.log.compacting import CONFIG, DIRECTORY, Inline, clean, contents, open_log, pairs

BOTH = dataclasses.replace(CONFIG, cleanup_policy="compact,delete", retention_ms=10_000)


def write(log, number, key, timestamp):
    lead(log, pairs((key, b"%d" % number), timestamp=timestamp))


def offsets(log):
    return [record.offset for record in contents(log)]


def test_what_is_older_than_the_retention_goes_though_it_is_the_last_of_its_key():
    log = open_log(ModelledDisk(random.Random(0)), BOTH)
    for number in range(20):
        write(log, number, b"old%d" % number, timestamp=1000 + number)
    for number in range(20, 40):
        write(log, number, b"k%d" % (number % 2), timestamp=50_000 + number)
    log.roll(0)
    clean(log)
    # A cleaned segment is as old as the youngest record that is left in it.
    assert offsets(log) == [*range(20), 38, 39]
    log.delete_old_segments(59_000, log.log_end_offset)
    kept = offsets(log)
    assert kept[-2:] == [38, 39] and 0 < log.log_start_offset <= 20
    assert kept == [offset for offset in [*range(20), 38, 39] if offset >= log.log_start_offset]
    log.delete_old_segments(70_000, log.log_end_offset)
    assert offsets(log) == [] and log.log_start_offset == log.log_end_offset == 40


def test_the_size_that_counts_is_that_of_what_cleaning_has_left():
    log = open_log(ModelledDisk(random.Random(0)), dataclasses.replace(BOTH, retention_ms=-1))
    for number in range(60):
        write(log, number, b"k%d" % (number % 12), timestamp=1000)
    log.roll(0)
    size = log.size
    clean(log)
    cleaned = log.size
    assert cleaned < size / 3
    log.config = dataclasses.replace(log.config, retention_bytes=cleaned)
    assert log.delete_old_segments(1000, log.log_end_offset) == 0
    log.config = dataclasses.replace(log.config, retention_bytes=cleaned - log.segments[0].size)
    assert log.delete_old_segments(1000, log.log_end_offset) == 1
    assert offsets(log) == [offset for offset in range(48, 60) if offset >= log.log_start_offset]


def test_retention_waits_while_a_cleaning_is_under_way_and_a_cleaning_while_files_are_to_go():
    log = open_log(ModelledDisk(random.Random(0)), BOTH)
    for number in range(30):
        write(log, number, b"k%d" % (number % 2), timestamp=1000)
    log.roll(0)
    log.flush()
    cleaning = log.begin_cleaning(0, 30, 1000)
    log.start_cleaning(cleaning)
    assert log.delete_old_segments(100_000, 30) == 0
    log.end_cleaning(done=False)
    assert log.delete_old_segments(100_000, 30, defer=True) > 0
    assert log.begin_cleaning(0, 30, 1000) is None
    log.purge()


@pytest.mark.parametrize("policy", ["compact,delete", "delete,compact"])
async def test_the_cleaner_and_retention_take_turns(policy):
    disk, commits, clock = ModelledDisk(random.Random(3)), Inline(), [1000]
    manager = await LogManager.open(
        disk, "data", lambda _: CONFIG, clock=lambda: clock[0], rng=random.Random(0), commits=commits
    )
    config = LogConfig(
        segment_bytes=400, cleanup_policy=policy, retention_ms=5_000, min_cleanable_dirty_ratio=0.1, segment_ms=2_000
    )
    log, cleaner = manager.create_log("t", UUID(int=1), 0, config), LogCleaner(manager, commits)
    cleaned = deleted = 0
    for number in range(300):
        clock[0] = 1000 + number * 100
        write(log, number, b"k%d" % (number % 3) if number % 4 else b"once%d" % number, timestamp=clock[0])
        if number % 10 == 9:
            cleaned += await cleaner.clean(lambda _topic, _partition: log.log_end_offset)
            deleted += await manager.retention_pass(lambda _topic, _partition: log.log_end_offset)
    assert cleaned > 5 and deleted > 5
    assert offsets(log)[-3:] == [297, 298, 299] and log.size < 3000
    assert log.log_start_offset > 0 and cleaner.status.uncleanable == 0


@settings(max_examples=80)
@given(seed=st.integers(0, 2**32))
def test_last_values_that_are_young_enough_stay_through_both_and_through_crashes(seed):
    rng = random.Random(seed)
    disk = ModelledDisk(random.Random(seed + 1))
    log = open_log(disk, BOTH)
    written: list[tuple[int, bytes, int]] = []
    now_ms = 1000
    for _ in range(rng.randint(2, 8)):
        for _ in range(rng.randint(3, 20)):
            now_ms += rng.randrange(400)
            key = b"k%d" % rng.randrange(5)
            written.append((log.log_end_offset, key, now_ms))
            write(log, len(written), key, now_ms)
        match rng.randrange(4):
            case 0:
                log.roll(now_ms)
                clean(log, now_ms)
            case 1:
                log.flush()
                log.delete_old_segments(now_ms, log.log_end_offset)
            case 2:
                point = log.flush()
                start = log.log_start_offset
                log.abandon()
                disk.crash()
                log = open_log(disk, BOTH, recovery_point=point)
                log.advance_log_start(start)
            case _:
                now_ms += rng.choice([0, 4_000, 12_000])
        found = set(offsets(log))
        for key in {key for _, key, _ in written}:
            offset, at = [(offset, at) for offset, other, at in written if other == key][-1]
            assert offset in found or now_ms - at > BOTH.retention_ms, key
        assert log.directory == DIRECTORY and log.log_end_offset == len(written)
