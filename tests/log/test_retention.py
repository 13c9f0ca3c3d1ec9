"""What is left of a log whose segments are gone: nobody may learn less of its epochs from it than before."""

from __future__ import annotations

import contextlib
import random

import pytest

from ottla.log import Crashed, LogConfig, ModelledDisk, PartitionLog
from tests.log.batches import batch, lead

CONFIG = LogConfig(segment_bytes=200, retention_ms=500)
EXPIRED = 10_000


def opened(disk: ModelledDisk, recovery_point: int = 0) -> PartitionLog:
    return PartitionLog.open(disk, "data/t-0", CONFIG, clean=False, recovery_point=recovery_point, now_ms=0)


def filled(disk: ModelledDisk) -> PartitionLog:
    """Of epoch 1 the disk knows, of the later ones only the batches tell."""
    log = opened(disk)
    for epoch in (1, 3, 4):
        for _ in range(5):
            lead(log, batch((b"x" * 50,)), epoch)
        if epoch == 1:
            log.flush()
    return log


def epochs(log: PartitionLog) -> list[tuple[int, int]]:
    return [log.end_offset_for_epoch(epoch) for epoch in (1, 3, 4)]


@pytest.mark.parametrize("defer", [True, False])
@pytest.mark.parametrize("room", [None, 15])
def test_the_epochs_of_what_is_gone_are_known_to_the_next_process(defer: bool, room: int | None) -> None:
    disk = ModelledDisk(random.Random(1))
    log = filled(disk)
    log.roll(0)
    before = epochs(log)
    if room is not None:
        disk.capacity = disk.used() + room
    assert log.delete_old_segments(EXPIRED, log.log_end_offset, defer=defer) > 5
    log.purge()
    assert disk.used() < 200
    log.abandon()
    disk.kill()
    disk.mend()
    again = opened(disk, recovery_point=5)
    assert (again.log_start_offset, again.log_end_offset, again.last_epoch) == (15, 15, 4)
    assert epochs(again)[2] == before[2]


@pytest.mark.parametrize("room", [None, 15])
def test_the_end_of_a_log_never_belongs_to_an_older_epoch_whenever_the_power_goes(room: int | None) -> None:
    for crash_at in range(1, 40):
        disk = ModelledDisk(random.Random(crash_at))
        log = filled(disk)
        log.flush()
        lead(log, batch((b"x" * 50,)), 6)
        log.roll(0)
        if room is not None:
            disk.capacity = disk.used() + room
        disk.crash_at = disk.operations + crash_at
        with contextlib.suppress(Crashed):
            log.delete_old_segments(EXPIRED, log.log_end_offset)
        log.abandon()
        if crash_at % 2:
            disk.kill()
        else:
            disk.crash()
        disk.mend()
        again = opened(disk, recovery_point=15)
        assert again.last_epoch == (6 if again.log_end_offset == 16 else 4)
