"""Compaction: what survives it, what it never touches, and that a crash at any operation leaves a whole log."""

from __future__ import annotations

import asyncio
import contextlib
import random
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.log import Crashed, LogConfig, LogManager, ModelledDisk
from ottla.log.cleaner import CleaningAborted
from ottla.log.cleaning import CLEANER_OFFSETS_FILE, LogCleaner, clean_log
from ottla.records import Record, encode_batch, read_header
from tests.log.batches import lead
from tests.log.compacting import (
    CONFIG,
    DIRECTORY,
    RETENTION,
    Inline,
    clean,
    contents,
    filled,
    open_log,
    pairs,
)


class Cutting(Inline):
    """Truncates the log after one of the steps of a cleaning."""

    def __init__(self, log, step):
        super().__init__()
        self.log, self.step, self.steps = log, step, 0

    async def run_blocking(self, function):
        self.steps += 1
        result = function()
        if self.steps == self.step:
            self.log.truncate_to(5)
        return result


def test_the_last_record_of_a_key_stays_where_it_was():
    log = filled([(b"k%d" % (number % 3), b"%d" % number) for number in range(30)])
    size = log.size
    assert clean(log) == 30
    assert [(record.offset, record.key, record.value) for record in contents(log)] == [
        (27, b"k0", b"27"),
        (28, b"k1", b"28"),
        (29, b"k2", b"29"),
    ]
    assert log.size < size and log.log_end_offset == 30 and log.log_start_offset == 0
    assert read_header(log.read(3, 1, up_to=30)).last_offset >= 3


def test_neither_the_active_segment_nor_what_is_above_the_high_watermark_is_touched():
    log = filled([(b"k", b"%d" % number) for number in range(20)])
    lead(log, pairs((b"k", b"active")))
    before = {each.base_offset: each.size for each in log.segments}
    boundary = log.segments[2].base_offset
    clean(log, high_watermark=boundary + 1)
    after = {each.base_offset: each.size for each in log.segments}
    assert {base: size for base, size in after.items() if base >= boundary} == {
        base: size for base, size in before.items() if base >= boundary
    }
    assert [record.offset for record in contents(log) if record.offset >= boundary] == list(range(boundary, 21))


def test_a_tombstone_outlives_its_first_cleaning_by_delete_retention_ms():
    log = filled([(b"a", b"1"), (b"b", b"1"), (b"a", None)])
    clean(log, now_ms=5000)
    assert [(record.offset, record.value, record.timestamp) for record in contents(log)] == [
        (1, b"1", 1000),
        (2, None, 1000),
    ]
    clean(log, now_ms=5000 + RETENTION - 1)
    assert [record.offset for record in contents(log)] == [1, 2]
    clean(log, now_ms=5000 + RETENTION)
    assert [record.offset for record in contents(log)] == [1]
    assert log.log_end_offset == 3


def test_the_last_sequence_of_a_live_producer_stays_as_an_empty_batch():
    disk = ModelledDisk(random.Random(0))
    log = open_log(disk)
    lead(log, pairs((b"k", b"1"), producer_id=7, sequence=0))
    lead(log, pairs((b"k", b"2"), producer_id=7, sequence=1))
    lead(log, pairs((b"k", b"3")))
    log.roll(0)
    clean(log)
    assert [record.value for record in contents(log)] == [b"3"]
    log.abandon()
    disk.kill()
    for name in disk.listdir(DIRECTORY):
        if name.endswith(".snapshot"):
            disk.remove(f"{DIRECTORY}/{name}")
    again = open_log(disk)
    assert again.producers.entries[7].batches[-1].last_sequence == 1


def test_what_is_too_young_waits():
    config = LogConfig(segment_bytes=400, cleanup_policy="compact", min_compaction_lag_ms=500)
    log = filled([(b"k", b"1"), (b"k", b"2")], config=config)
    assert clean(log, now_ms=1400) is None
    assert clean(log, now_ms=1600) == 2


def test_a_small_map_takes_several_rounds():
    log = filled([(b"k%d" % (number % 10), b"%d" % number) for number in range(60)])
    end, rounds = 0, 0
    while (done := clean(log, max_bytes=4 * 200, first_dirty=end)) is not None and done != end:
        end, rounds = done, rounds + 1
    assert end == 60 and rounds > 3
    assert [record.offset for record in contents(log)] == list(range(50, 60))


def test_a_truncation_aborts_a_cleaning_at_any_of_its_steps():
    for step in range(12):
        log = filled([(b"k", b"%d" % number) for number in range(20)])
        log.flush()
        commits = Cutting(log, step + 1)
        cleaning = log.begin_cleaning(0, 20, 1000)
        try:
            asyncio.run(clean_log(log, cleaning, commits, 1 << 20))
        except CleaningAborted:
            assert log.log_end_offset <= 5
        offsets = [record.offset for record in contents(log)]
        if commits.steps > step:
            assert all(offset < 5 for offset in offsets)
        lead(log, pairs((b"k", b"new")))
        assert not [name for name in log._disk.listdir(DIRECTORY) if name.endswith(".swap")]
        log.flush()
        reopened_from = log.recovery_point
        log.abandon()
        log._disk.kill()
        again = open_log(log._disk, recovery_point=reopened_from)
        assert contents(again)[-1].value == b"new"


def test_epochs_begin_where_they_began_after_their_first_batches_are_gone():
    disk = ModelledDisk(random.Random(2))
    log = open_log(disk)
    for number in range(30):
        lead(log, pairs((b"k", b"%d" % number)), epoch=number // 10)
    log.roll(0)
    log.flush()
    clean(log)
    ends = [log.end_offset_for_epoch(epoch) for epoch in range(3)]
    log.abandon()
    disk.kill()
    again = open_log(disk)
    assert [again.end_offset_for_epoch(epoch) for epoch in range(2, 3)] == ends[2:]
    assert again.epoch_for_offset(29) == 2


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), crash_after=st.integers(0, 60))
def test_a_crash_at_any_operation_leaves_the_last_value_of_every_key(seed, crash_after):
    rng = random.Random(seed)
    disk = ModelledDisk(random.Random(seed + 1))
    log = open_log(disk)
    written: list[tuple[int, bytes, bytes | None]] = []
    recovery_point = 0

    def note():
        nonlocal recovery_point
        recovery_point = log.recovery_point

    now_ms, horizons = 1000, {}
    for _ in range(rng.randint(1, 4)):
        log.on_recovery_point_lowered = note
        for _ in range(rng.randint(5, 30)):
            items = [
                (b"k%d" % rng.randrange(6), None if rng.random() < 0.2 else b"%d" % rng.randrange(10**6))
                for _ in range(rng.randint(1, 3))
            ]
            base = lead(log, pairs(*items), epoch=len(horizons))
            written += [(base + at, *item) for at, item in enumerate(items)]
        log.flush()
        note()
        bound = rng.choice([log.log_end_offset, rng.randrange(log.log_end_offset + 1)])
        untouched = {record.offset for record in contents(log) if record.offset >= bound}
        now_ms += rng.choice([1, RETENTION, 3 * RETENTION])
        disk.crash_at = disk.operations + 1 + crash_after if rng.random() < 0.7 else None
        crashed = True
        with contextlib.suppress(Crashed):
            clean(log, now_ms, bound, max_bytes=rng.choice([1 << 20, 600]))
            crashed = False
        disk.crash_at = None
        if crashed or rng.random() < 0.5:
            log.abandon()
            disk.crash()
            log = open_log(disk, recovery_point=recovery_point)
        records = contents(log)
        by_offset = {record.offset: (record.key, record.value) for record in records}
        assert all(by_offset[offset] == (key, value) for offset, key, value in written if offset in by_offset)
        assert set(by_offset) <= {offset for offset, _, _ in written}
        assert untouched <= set(by_offset)
        assert log.log_end_offset == written[-1][0] + 1
        last = {key: (offset, value) for offset, key, value in written}
        for key, (offset, value) in last.items():
            assert offset in by_offset or value is None, key
        # A key that is gone is not back: whatever is left of it is its last record.
        for key, (offset, value) in last.items():
            if value is None and offset not in by_offset:
                assert not [record for record in records if record.key == key]
        horizons[len(horizons)] = now_ms


async def test_the_cleaner_takes_the_logs_that_are_due_and_remembers_how_far_it_was():
    disk, commits = ModelledDisk(random.Random(3)), Inline()
    manager = await LogManager.open(
        disk, "data", lambda _topic: CONFIG, clock=lambda: 1000, rng=random.Random(0), commits=commits
    )
    for topic, policy in (("kept", "delete"), ("compacted", "compact")):
        config = LogConfig(segment_bytes=400, cleanup_policy=policy)
        log = manager.create_log(topic, UUID(int=1), 0, config)
        for number in range(40):
            lead(log, pairs((b"k", b"%d" % number)))
    cleaner = LogCleaner(manager, commits)
    assert await cleaner.clean(lambda _topic, _partition: 40) == 1
    assert await cleaner.clean(lambda _topic, _partition: 40) == 0
    kept, compacted = manager.get("kept", 0), manager.get("compacted", 0)
    assert kept is not None and compacted is not None
    assert len(contents(kept)) == 40 and len(contents(compacted)) < 10
    end = compacted.segments[-1].base_offset
    assert f"compacted 0 {end}\n".encode() in disk.read(f"data/{CLEANER_OFFSETS_FILE}")
    assert read_header(compacted.read(0, 1, up_to=40)).last_offset < 40
    again = LogCleaner(manager, commits)
    assert await again.clean(lambda _topic, _partition: 40) == 0


async def test_a_checkpoint_of_an_older_log_of_this_name_and_of_records_cut_off_does_not_count():
    disk, commits = ModelledDisk(random.Random(3)), Inline()
    manager = await LogManager.open(
        disk, "data", lambda _topic: CONFIG, clock=lambda: 1000, rng=random.Random(0), commits=commits
    )
    cleaner = LogCleaner(manager, commits)
    log = manager.create_log("t", UUID(int=1), 0, CONFIG)
    for round_ in range(3):
        for number in range(40):
            lead(log, pairs((b"k", b"%d" % number)))
        log.roll(0)
        assert await cleaner.clean(lambda _topic, _partition: 40) == 1
        assert [record.offset for record in contents(log)] == [39]
        if round_ == 0:
            manager.delete_log("t", 0)
            log = manager.create_log("t", UUID(int=2), 0, CONFIG)
        else:
            log.truncate_fully_and_start_at(0)


async def test_what_is_dirty_for_too_long_is_cleaned_however_little_it_is():
    disk, commits, clock = ModelledDisk(random.Random(3)), Inline(), [1000]
    manager = await LogManager.open(
        disk, "data", lambda _topic: CONFIG, clock=lambda: clock[0], rng=random.Random(0), commits=commits
    )
    config = LogConfig(
        segment_bytes=400, cleanup_policy="compact", min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=5000
    )
    log = manager.create_log("t", UUID(int=1), 0, config)
    for number in range(20):
        lead(log, pairs((b"k", b"%d" % number)))
    cleaner = LogCleaner(manager, commits)
    for clock[0], done in ((6000, 0), (6001, 1), (7000, 0)):
        assert await cleaner.clean(lambda _topic, _partition: 20) == done


@pytest.mark.parametrize("codec", range(5))
def test_every_codec(codec):
    log = open_log(ModelledDisk(random.Random(0)))
    for number in range(10):
        records = [Record(0, 1000, b"k%d" % at, b"%d" % number * 20) for at in range(3)]
        lead(log, encode_batch(records, compression=codec))
    log.roll(0)
    clean(log)
    assert [record.offset for record in contents(log)] == [27, 28, 29]
