"""What is left of a log whose segments are gone: nobody may learn less of its epochs from it than before."""

from __future__ import annotations

import contextlib
import random

import pytest

from ottla.log import Crashed, DiskError, LogConfig, ModelledDisk, PartitionLog
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


@pytest.mark.parametrize("damage", ["none", "lost", "torn"])
def test_what_producers_have_written_is_known_when_it_is_gone_and_so_is_the_power(damage: str) -> None:
    """Else a batch whose answer was lost would be taken again. `damage`: what a crash has done to snapshots before."""
    for seed in range(30):
        disk = ModelledDisk(random.Random(seed))
        log = opened(disk)
        for sequence in range(10):
            lead(log, batch((b"x" * 50,), producer_id=7, producer_epoch=0, base_sequence=sequence), 1)
        log.flush()
        if damage != "none":
            log.roll(0)
            for path in [path for path in disk.files() if path.endswith(".snapshot")]:
                disk.remove(path)
                if damage == "torn":
                    disk.open(path, create=True).append((b"torn",))
        assert log.delete_old_segments(EXPIRED, log.log_end_offset, defer=True)
        log.purge()
        log.abandon()
        disk.crash()
        again = opened(disk, recovery_point=10)
        assert again.log_start_offset == 10
        assert again.producers.entries[7].batches[-1].last_sequence == 9


def test_a_process_that_finds_a_snapshot_does_not_trust_a_sync_that_has_failed() -> None:
    disk = ModelledDisk(random.Random(1))
    log = opened(disk)
    for sequence in range(10):
        lead(log, batch((b"x" * 50,), producer_id=7, producer_epoch=0, base_sequence=sequence), 1)
    log.flush()
    log.delete_old_segments(EXPIRED, log.log_end_offset, defer=True)
    disk.fail_next("sync", path_contains=".snapshot")
    with pytest.raises(DiskError):
        log.purge()
    log.abandon()
    disk.kill()
    second = opened(disk, recovery_point=10)
    second.delete_old_segments(EXPIRED, second.log_end_offset, defer=True)
    second.purge()
    second.abandon()
    disk.crash()
    assert opened(disk, recovery_point=10).producers.entries[7].batches[-1].last_sequence == 9
