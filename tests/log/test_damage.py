"""Bytes that change at rest, and syncs that fail: nothing of it is served, cut off or relied on."""

import random

import pytest

from ottla.log import CorruptFile, DiskError, LogConfig, ModelledDisk, PartitionLog, partition_log
from ottla.records import CorruptBatch, verify_batch
from tests.log.batches import batch, headers, lead, read_all

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


ONE_SEGMENT = LogConfig(index_interval_bytes=100)
FIRST = f"{DIRECTORY}/{0:020d}.log"


def written_here(count: int = 12) -> tuple[ModelledDisk, PartitionLog]:
    """One segment, all of it written by the process that reads it."""
    disk = ModelledDisk(random.Random(1))
    log = PartitionLog.open(disk, DIRECTORY, ONE_SEGMENT, clean=False, now_ms=1000)
    for at in range(count):
        lead(log, batch([b"%d" % at * 20]))
    return disk, log


def cool_down(log: PartitionLog) -> None:
    log.cool()
    log.cool()


def test_what_this_process_wrote_itself_is_not_served_once_it_has_changed() -> None:
    """However long the process runs on. No checksum covers the offset and the epoch in front of a batch."""
    disk, log = written_here()
    whole = read_all(log)
    cool_down(log)
    for position in range(len(whole)):
        disk.flip_bit(FIRST, position, position % 8)
        with pytest.raises((CorruptBatch, CorruptFile)):
            read_all(log)
        with pytest.raises((CorruptBatch, CorruptFile)):
            read_all(log, 200)
        disk.flip_bit(FIRST, position, position % 8)
        assert read_all(log) == whole and read_all(log, 200) == whole, "nothing of it is kept in mind"


def test_what_was_written_lately_is_checked_only_on_demand() -> None:
    disk, log = written_here()
    log.cool()
    disk.flip_bit(FIRST, len(disk.read(FIRST)) - 1)
    found = log.read(11, 1000, up_to=12)
    with pytest.raises(CorruptBatch):
        verify_batch(found)
    with pytest.raises(CorruptBatch):
        log.read(11, 1000, up_to=12, checked=True)
    log.cool()
    with pytest.raises(CorruptBatch):
        log.read(11, 1000, up_to=12)


def test_whoever_reads_at_the_end_costs_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after the log was cut, and written on from there."""
    _, log = written_here()
    checks: list[int] = []
    monkeypatch.setattr(partition_log, "check_batches", lambda _, offset, *__, **___: checks.append(offset))

    def write_and_read() -> None:
        end = log.log_end_offset
        lead(log, batch())
        assert headers(log.read(end, 1000, up_to=end + 1))[0].base_offset == end

    for _ in range(5):
        write_and_read()
        log.cool()
    log.truncate_to(5)
    write_and_read()
    log.truncate_fully_and_start_at(40)
    write_and_read()
    assert not checks
    log.cool()
    log.cool()
    log.read(40, 1000, up_to=41)
    assert checks == [40]


def test_what_follows_a_damaged_batch_can_still_be_read() -> None:
    """Nobody else may have it. A new index would end where the length of that batch leads nowhere."""
    disk, log = written_here()
    whole = read_all(log)
    cool_down(log)
    disk.flip_bit(FIRST, len(log.read(0, 1, up_to=12)) * 2 + 8, 7)
    for offset in (2, 3):
        with pytest.raises((CorruptBatch, CorruptFile)):
            log.read(offset, 1000, up_to=12)
    rest = b"".join(log.read(at, 1, up_to=12) for at in (10, 11))
    assert whole.endswith(rest)
    assert [header.base_offset for header in headers(rest)] == [10, 11]
