"""At every point where the power can go, what was promised is there afterwards, and the log opens."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.log import Crashed, LogConfig, ModelledDisk, PartitionLog
from ottla.records import verify_batch
from tests.log.batches import batch, headers, lead, read_all

DIRECTORY = "data/t-0"
CONFIG = LogConfig(segment_bytes=420, index_interval_bytes=90, retention_ms=-1)


class Story:
    """Drives one log and keeps, in a plain list, what it must hold: one entry per batch, and how far is promised.

    `saved_recovery_point` and `saved_start` stand for the checkpoints beside the log, lowered when the log says so.
    """

    def __init__(self, disk: ModelledDisk, seed: int) -> None:
        self.disk = disk
        self.rng = random.Random(seed)
        self.batches: list[tuple[int, bytes]] = []  # (base offset, stored bytes)
        self.promised = 0
        self.epoch = 0
        self.saved_recovery_point = 0
        self.saved_start = 0
        self.cutting: int | None = None
        self.log = self.open(clean=False)

    def open(self, *, clean: bool) -> PartitionLog:
        self.log = PartitionLog.open(
            self.disk,
            DIRECTORY,
            CONFIG,
            clean=clean,
            recovery_point=self.saved_recovery_point,
            log_start_offset=self.saved_start,
            now_ms=0,
        )
        self.log.on_recovery_point_lowered = self.save
        return self.log

    def save(self) -> None:
        self.saved_recovery_point = self.log.recovery_point

    def append(self) -> None:
        data = batch([b"%06d" % self.rng.randrange(10**6)] * self.rng.randint(1, 3), producer_id=-1)
        base = lead(self.log, data, self.epoch)
        self.batches.append((base, self.log.read(base, 1, up_to=base + 1)))

    def flush(self) -> None:
        self.promised = self.log.flush()
        self.save()

    def elect(self) -> None:
        self.epoch += 1
        self.log.assign_epoch(self.epoch)

    def truncate(self) -> None:
        at = self.rng.randint(self.log.log_start_offset, self.log.log_end_offset)
        self.cutting = at
        self.promised = min(self.promised, at)
        self.log.truncate_to(at)
        self.cutting = None
        self.batches = [(base, data) for base, data in self.batches if headers(data)[0].last_offset < at]
        self.promised = min(self.promised, self.log.log_end_offset)

    def retire(self) -> None:
        self.log.advance_log_start(self.rng.randint(self.log.log_start_offset, self.promised))
        self.log.delete_old_segments(0, self.log.log_end_offset)

    def reopen(self) -> None:
        self.log.close(0)
        self.promised = self.log.log_end_offset
        self.open(clean=True)
        assert self.log.recovered.scanned_from is None
        assert self.log.log_end_offset == self.promised

    def die(self) -> None:
        """Only the process: the page cache lives on, and the next one opens what it shows."""
        power_goes_at = self.disk.crash_at
        self.disk.kill()
        self.disk.crash_at = power_goes_at
        self.open(clean=False)
        assert self.log.log_end_offset == (headers(self.batches[-1][1])[0].next_offset if self.batches else 0)

    def run(self, steps: int, *, deaths: bool = False) -> None:
        actions: list[Callable[[], None]] = [self.flush, self.elect, self.truncate, self.retire, self.reopen]
        if deaths:
            actions.append(self.die)
        for _ in range(steps):
            if self.rng.random() < 0.6:
                self.append()
            else:
                self.rng.choice(actions)()

    def check(self) -> None:
        """The log holds a prefix of what was written that reaches as far as was promised, and only sound batches."""
        data = read_all(self.log)
        stored, position = [], 0
        for header in headers(data):
            verify_batch(data, position)
            stored.append((header.base_offset, data[position : position + header.size]))
            position += header.size
        assert position == len(data)
        written = [entry for entry in self.batches if headers(entry[1])[0].last_offset >= self.log.log_start_offset]
        torn = stored[len(written) :]
        assert stored == (written + torn)[: len(stored)]
        # A batch whose append was cut short may be there whole, but nothing beyond it.
        assert len(torn) <= 1
        assert self.log.log_end_offset >= self.promised
        assert self.log.log_start_offset <= self.promised
        assert not self.log.recovered.below_recovery_point
        epochs: list[tuple[int, int]] = []
        for header in headers(data):
            assert self.log.epoch_for_offset(header.base_offset) == header.leader_epoch
            if not epochs or epochs[-1][0] != header.leader_epoch:
                epochs.append((header.leader_epoch, header.base_offset))
        assert len(self.log.epochs) == len({epoch for epoch, _ in self.log.epochs})


def crash_and_check(
    seed: int, steps: int, at: int, power: int, recovery_crash: int | None = None, *, deaths: bool = False
) -> bool:
    """Whether the crash point was reached. `power` seeds what survives of the unsynced. `deaths`: the process dies now
    and then on the way."""
    disk = ModelledDisk(random.Random(power))
    disk.crash_at = at
    story: Story | None = None
    try:
        story = Story.__new__(Story)
        story.__init__(disk, seed)  # type: ignore[misc]
        story.run(steps, deaths=deaths)
        reached = False
    except Crashed:
        reached = True
    disk.crash()
    if recovery_crash is not None:
        disk.operations = 0
        disk.crash_at = recovery_crash
        try:
            story.open(clean=False)
        except Crashed:
            disk.crash()
        disk.crash_at = None
    story.open(clean=False)
    if story.cutting is None:
        story.check()
    story_continues(story)
    return reached


def story_continues(story: Story) -> None:
    """After recovery the log takes new records, and they survive like any others."""
    before = read_all(story.log)
    story.epoch = max(story.epoch, story.log.last_epoch) + 1
    base = lead(story.log, batch([b"after"]), story.epoch)
    story.log.flush()
    story.save()
    story.disk.crash()
    story.open(clean=False)
    assert story.log.log_end_offset == base + 1
    assert read_all(story.log).startswith(before)
    assert story.log.last_epoch == story.epoch


@pytest.mark.parametrize("seed", range(6))
def test_every_crash_point(seed: int) -> None:
    at = 1
    while crash_and_check(seed, 40, at, power=at):
        at += 1
    assert at > 60


@pytest.mark.parametrize("seed", range(6))
def test_every_crash_point_when_the_process_has_died_before(seed: int) -> None:
    at = 1
    while crash_and_check(seed, 40, at, power=at, deaths=True):
        at += 1
    assert at > 60


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 250), st.integers(0, 10**6), st.none() | st.integers(1, 12), st.booleans())
def test_random_stories_crash_points_and_losses(
    seed: int, at: int, power: int, recovery_crash: int | None, deaths: bool
) -> None:
    crash_and_check(seed, 60, at, power, recovery_crash, deaths=deaths)


def test_the_new_segments_name_is_durable_before_retention_removes_the_old() -> None:
    crash_and_check(211100, 109, 100, 309154, 3)


def test_a_crash_in_recovery_at_every_point() -> None:
    for at in range(20, 120, 7):
        for recovery_crash in range(1, 10):
            crash_and_check(3, 40, at, power=at, recovery_crash=recovery_crash)


@pytest.mark.parametrize("power", range(20))
def test_the_first_segments_name_is_durable_before_there_is_a_second(power: int) -> None:
    """A log without its front would look like one after retention. Also when the process died before any flush."""
    disk = ModelledDisk(random.Random(power))
    story = Story(disk, seed=1)
    story.append()
    story.die()
    while len(story.log.segments) < 2:
        story.append()
    disk.crash()
    story.open(clean=False)
    story.check()
