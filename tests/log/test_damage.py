"""Bytes that change at rest, and syncs that fail: nothing of it is served, cut off or relied on."""

import random

import pytest

from ottla.log import CorruptFile, DiskError, LogConfig, ModelledDisk, PartitionLog
from ottla.records import CorruptBatch
from tests.log.batches import batch, lead, read_all

DIRECTORY = "data/t-0"
CONFIG = LogConfig(segment_bytes=400, index_interval_bytes=100)


def opened(disk: ModelledDisk, *, clean: bool = True, recovery_point: int = 0) -> PartitionLog:
    return PartitionLog.open(
        disk,
        DIRECTORY,
        CONFIG,
        clean=clean,
        recovery_point=recovery_point,
        required_end=recovery_point,
        now_ms=1000,
    )


def filled(disk: ModelledDisk, count: int = 12) -> PartitionLog:
    log = opened(disk, clean=False)
    for at in range(count):
        lead(log, batch([b"%d" % at * 20]))
    return log


@pytest.mark.parametrize("segment", [0, -1])
def test_a_bit_flipped_anywhere_is_never_served(segment: int) -> None:
    disk = ModelledDisk(random.Random(1))
    log = filled(disk)
    whole, end = read_all(log), log.log_end_offset
    path = log.segments[segment].path(".log")
    log.close(1000)
    for position in range(len(disk.read(path))):
        bit = position % 8
        disk.flip_bit(path, position, bit)
        try:
            found = opened(disk, recovery_point=end)
            try:
                assert read_all(found) == whole, position
            except (CorruptBatch, CorruptFile):
                pass
            finally:
                found.abandon()
        except CorruptFile:
            pass
        disk.flip_bit(path, position, bit)
    assert read_all(opened(disk, recovery_point=end)) == whole, "and nothing was cut"


def test_a_damaged_index_alone_costs_nothing() -> None:
    disk = ModelledDisk(random.Random(1))
    log = filled(disk)
    whole = read_all(log)
    path = log.segments[0].path(".index")
    log.close(1000)
    for position in range(len(disk.read(path))):
        for bit in range(8):
            disk.flip_bit(path, position, bit)
            found = opened(disk, recovery_point=12)
            assert all(found.read(at, 150, up_to=12) in whole for at in range(12))
            assert read_all(found) == whole
            found.abandon()
            disk.flip_bit(path, position, bit)


def test_a_condemned_log_is_not_opened_again() -> None:
    disk = ModelledDisk(random.Random(1))
    log = filled(disk)
    log.flush()
    log.condemn("a bit has flipped")
    assert log.failure is not None
    disk.crash()
    with pytest.raises(CorruptFile, match="a bit has flipped"):
        opened(disk, clean=False)


def test_what_a_failed_sync_left_is_written_again_before_it_is_relied_on() -> None:
    """The kernel shows what it could not write, and would report the next sync of it as a success."""
    disk = ModelledDisk(random.Random(1))
    log = filled(disk)
    whole = read_all(log)
    disk.fail_next("sync", path_contains=".log")
    with pytest.raises(DiskError):
        log.flush()
    disk.kill()
    log = opened(disk, clean=False)
    assert read_all(log) == whole
    log.flush()
    disk.crash()
    assert read_all(opened(disk, clean=False)) == whole


def test_an_epoch_that_changed_below_the_recovery_point_is_damage() -> None:
    """No checksum covers it."""
    disk = ModelledDisk(random.Random(1))
    log = filled(disk, 2)
    log.flush()
    disk.kill()
    disk.flip_bit(f"{DIRECTORY}/{0:020d}.log", len(disk.read(f"{DIRECTORY}/{0:020d}.log")) // 2 + 15, 6)
    with pytest.raises(CorruptFile, match="sound only up to offset 1"):
        opened(disk, clean=False, recovery_point=2)
