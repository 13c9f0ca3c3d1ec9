"""Power is lost at every disk operation of stories with transactions: what is left of the log says of every
transaction in it what the log said before, and none is open that has its marker."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.log import Crashed, ModelledDisk
from tests.log.batches import lead
from tests.log.transactional import ABORT, COMMIT, DIRECTORY, Story, marker, open_log, records


def lose_power_at(seed: int, steps: int, at: int, power: int, *, again_at: int | None = None) -> bool:
    """Whether the operation was reached. `power` seeds what survives of what was not synced; `again_at`: power is lost
    again at that operation of the recovery."""
    disk = ModelledDisk(random.Random(power))
    story = Story(disk, seed)
    story.rare.remove(story.crash)
    disk.operations, disk.crash_at = 0, at
    try:
        story.run(steps, check=False)
        reached = False
    except Crashed:
        reached = True
    disk.crash_at = None
    if again_at is not None:
        disk.crash()
        disk.operations, disk.crash_at = 0, again_at
        try:
            story.open(clean=False)
        except Crashed:
            disk.crash_at = None
    disk.crash_at = None
    story.crash()
    for _ in range(5):
        story.check()
    story.run(15)
    return reached


@pytest.mark.parametrize("seed", range(5))
def test_every_operation(seed: int) -> None:
    at = 1
    while lose_power_at(seed, 90, at, power=at):
        at += 1
    assert at > 60, "the story hardly touches the disk"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 300), st.integers(0, 10**6), st.none() | st.integers(1, 20))
def test_random_stories_operations_and_losses(seed: int, at: int, power: int, again_at: int | None) -> None:
    lose_power_at(seed, 80, at, power, again_at=again_at)


@pytest.mark.parametrize("at", range(1, 12))
def test_a_segment_that_comes_back_from_retention_still_knows_what_was_aborted(at: int) -> None:
    for power in range(20):
        disk = ModelledDisk(random.Random(power))
        log = open_log(disk)
        for sequence in range(3):
            lead(log, records(b"v", producer_id=1, sequence=sequence))
            lead(log, marker(ABORT, 1))
            log.roll(0)
        recovery_point = log.flush()
        log.advance_log_start(4)
        disk.operations, disk.crash_at = 0, at
        with contextlib.suppress(Crashed):
            log.delete_old_segments(0, 6)
        disk.crash()
        log = open_log(disk, recovery_point=recovery_point)
        start = log.log_start_offset
        assert log.aborted_transactions(start, 6) == [(1, first) for first in range(start, 6, 2)]


def test_the_index_of_a_segment_that_was_synced_before_it_was_rolled() -> None:
    """Its last byte was durable then, and its index nowhere but in memory: the names of its files may be gone."""
    disk = ModelledDisk(random.Random(0))
    log = open_log(disk)
    lead(log, records(b"v", producer_id=1))
    lead(log, marker(ABORT, 1))
    recovery_point = log.flush()
    log.roll(0)
    log.abandon()
    disk.kill()
    for suffix in (".txnindex", ".txnindex.crc32c"):
        disk.remove(f"{DIRECTORY}/{0:020d}{suffix}")
    log = open_log(disk, recovery_point=recovery_point)
    assert log.aborted_transactions(0, 2) == [(1, 0)]
    log.close(0)
    assert open_log(disk, clean=True).aborted_transactions(0, 2) == [(1, 0)]


@pytest.mark.parametrize("power", range(20))
def test_an_older_index_of_the_segment_does_not_come_back(power: int) -> None:
    """It was durable once, and fits its checksum; then the segment was cut, filled and synced again, and only then
    rolled."""
    disk = ModelledDisk(random.Random(power))
    log = open_log(disk)
    lead(log, records(b"v", producer_id=1))
    lead(log, marker(ABORT, 1))
    log.roll(0)
    lead(log, records(b"v", producer_id=9, transactional=False))
    log.flush()
    log.truncate_to(1)
    lead(log, marker(COMMIT, 1))
    lead(log, records(b"v", producer_id=2))
    lead(log, marker(ABORT, 2))
    log.flush()
    log.roll(0)
    lead(log, records(b"v", producer_id=9, transactional=False))
    recovery_point = log.flush()
    log.abandon()
    disk.crash()
    assert open_log(disk, recovery_point=recovery_point).aborted_transactions(0, 4) == [(2, 2)]


@pytest.mark.parametrize("start", [0, 2])
def test_a_snapshot_that_outlived_its_log_is_no_producers_past(start: int) -> None:
    disk = ModelledDisk(random.Random(0))
    log = open_log(disk)
    lead(log, records(b"v", producer_id=1))
    lead(log, records(b"w", producer_id=1, sequence=1))
    log.close(0)
    disk.remove(f"{DIRECTORY}/{0:020d}.log")
    log = open_log(disk, start=start)
    lead(log, records(b"v", producer_id=3))
    lead(log, records(b"w", producer_id=3, sequence=1))
    lead(log, records(b"x", producer_id=3, sequence=2))
    log.truncate_to(start + 2)
    assert set(log.producers.entries) == {3}
