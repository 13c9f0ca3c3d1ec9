"""Opening what is damaged: torn tails, flipped bits, lost or torn index, epoch and snapshot files."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from ottla.log import CorruptFile, LogConfig, ModelledDisk, PartitionLog
from ottla.log.producers import Duplicate
from ottla.log.reader import locate
from ottla.records import read_header
from tests.log.batches import batch, headers, lead, read_all

DIRECTORY = "data/t-0"
CONFIG = LogConfig(segment_bytes=500, index_interval_bytes=100)
LAST = f"{DIRECTORY}/{0:020d}"


def reopen(
    disk: ModelledDisk, *, clean: bool = False, recovery_point: int = 0, config: LogConfig = CONFIG
) -> PartitionLog:
    return PartitionLog.open(disk, DIRECTORY, config, clean=clean, recovery_point=recovery_point, now_ms=0)


def filled(disk: ModelledDisk, count: int = 12, config: LogConfig = CONFIG) -> PartitionLog:
    log = PartitionLog.open(disk, DIRECTORY, config, clean=False, now_ms=0)
    for at in range(count):
        data = batch([b"%03d" % at] * 2, timestamp=at, producer_id=9, producer_epoch=0, base_sequence=at * 2)
        lead(log, data, epoch=at // 5)
    return log


def overwrite(disk: ModelledDisk, path: str, data: bytes) -> None:
    file = disk.open(path, create=True)
    file.truncate(0)
    file.append((data,))
    file.sync()


@pytest.mark.parametrize("zeroes", [False, True])
def test_a_tail_torn_at_every_byte_is_cut_at_the_last_whole_batch(disk: ModelledDisk, zeroes: bool) -> None:
    log = filled(disk, 3, LogConfig())
    whole = read_all(log)
    log.close(0)
    size = len(whole) // 3
    for cut in range(len(whole)):
        torn = whole[:cut] + bytes(len(whole) - cut if zeroes else 0)
        overwrite(disk, f"{LAST}.log", torn)
        sound = next((at for at in (3, 2, 1) if torn[: at * size] == whole[: at * size]), 0)
        log = reopen(disk)
        assert read_all(log) == whole[: sound * size]
        assert log.log_end_offset == sound * 2
        assert log.recovered.cut_bytes == len(torn) - sound * size
        assert lead(log, batch(), epoch=9) == log.log_end_offset - 1
        log.abandon()


def test_every_flipped_bit_that_a_checksum_covers_is_flipped_back(disk: ModelledDisk) -> None:
    """The offset and the leader epoch are outside the CRC, as in Kafka. An offset that does not follow ends the log, an
    epoch that still ascends cannot be told apart."""
    log = filled(disk, 3, LogConfig())
    whole = read_all(log)
    log.close(0)
    size = len(whole) // 3
    for position in range(len(whole)):
        for bit in (0, 7):
            overwrite(disk, f"{LAST}.log", whole)
            disk.flip_bit(f"{LAST}.log", position, bit)
            log = reopen(disk)
            kept = read_all(log)
            if position % size < 8:
                assert kept == whole[: position // size * size]
            elif not 12 <= position % size < 16:
                assert kept == whole and disk.read(f"{LAST}.log") == whole
            log.abandon()


@pytest.mark.parametrize(
    ("damage", "torn"),
    [
        (lambda data: data[:-1], True),
        (lambda data: data[:-30] + bytes(30), True),
        (lambda data: data[: len(data) // 3 * 2] + bytes(len(data) // 3), True),
        (lambda data: data[: len(data) // 3 * 2] + b"\0" * 7, True),
        (lambda data: data[: len(data) // 3 * 2] + data[: len(data) // 3], False),  # whole, of another offset
        (lambda data: data[: len(data) // 3 * 2] + data[: len(data) // 3 - 1] + b"\1", False),  # and a bit has flipped
    ],
)
def test_a_write_that_was_not_over_is_told_from_what_was_once_whole(
    disk: ModelledDisk, damage: Callable[[bytes], bytes], torn: bool
) -> None:
    log = filled(disk, 3, LogConfig())
    whole = read_all(log)
    log.close(0)
    overwrite(disk, f"{LAST}.log", damage(whole))
    told = []
    log = PartitionLog.open(disk, DIRECTORY, CONFIG, clean=False, now_ms=0, before_cut=told.append)
    assert read_all(log) == whole[: len(whole) // 3 * 2]
    assert told == [torn]


def test_a_log_without_the_end_of_a_segment_is_torn(disk: ModelledDisk) -> None:
    log = filled(disk)
    first = log.segments[-2]
    log.abandon()
    disk.open(first.path(".log")).truncate(0)
    told = []
    PartitionLog.open(disk, DIRECTORY, CONFIG, clean=False, now_ms=0, before_cut=told.append)
    assert told == [True]


def test_a_flipped_bit_below_the_recovery_point_is_reported(disk: ModelledDisk) -> None:
    log = filled(disk)
    assert log.flush() == 24
    active = log.segments[-1]
    log.abandon()
    for bit in range(2):
        disk.flip_bit(active.path(".log"), 80, bit)
    log = reopen(disk, recovery_point=24)
    assert log.recovered.below_recovery_point
    assert log.recovered.scanned_from == active.base_offset
    assert log.log_end_offset == active.base_offset


def test_a_last_batch_that_rots_after_a_clean_stop_does_not_move_the_end_of_the_log(disk: ModelledDisk) -> None:
    """Its offset and its number of offsets say where the log ends, and that is relied on before anybody reads it."""
    log = filled(disk, config=LogConfig())
    last = log.segments[-1].size // 12 * 11
    log.close(0)
    whole = disk.read(f"{LAST}.log")
    for position in (*range(last, last + 8), *range(last + 23, last + 27)):
        for bit in range(8):
            disk.flip_bit(f"{LAST}.log", position, bit)
            if position < last + 8:
                with pytest.raises(CorruptFile):
                    PartitionLog.open(disk, DIRECTORY, CONFIG, clean=True, recovery_point=24, now_ms=0, required_end=24)
                disk.flip_bit(f"{LAST}.log", position, bit)
            else:  # the checksum covers it
                reopened = PartitionLog.open(
                    disk, DIRECTORY, CONFIG, clean=True, recovery_point=24, now_ms=0, required_end=24
                )
                assert reopened.log_end_offset == 24
                reopened.abandon()
            assert disk.read(f"{LAST}.log") == whole
    log = PartitionLog.open(disk, DIRECTORY, CONFIG, clean=True, recovery_point=24, now_ms=0, required_end=24)
    assert log.recovered.scanned_from is None


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
def test_indexes_are_rebuilt_when_lost_torn_or_rotten(suffix: str, clean: bool) -> None:
    rng = random.Random(4)
    for damage in range(120):
        disk = ModelledDisk(rng)
        log = filled(disk, config=LogConfig(segment_bytes=500, index_interval_bytes=0))
        expected = read_all(log)
        log.close(0)
        for segment in log.segments:
            path = segment.path(suffix)
            if damage == 0:
                disk.remove(path)
            elif not disk.read(path):
                continue
            elif damage % 3 == 0:
                overwrite(disk, path, disk.read(path)[: rng.randrange(len(disk.read(path)))])
            elif damage % 3 == 1:
                overwrite(disk, path, bytes(rng.randrange(40)))
            elif suffix == ".index" or not clean:
                disk.flip_bit(path, bit=rng.randrange(8))
        log = reopen(disk, clean=clean, recovery_point=24, config=log.config)
        assert read_all(log) == expected
        for offset in range(24):
            assert headers(log.read(offset, 1, up_to=24))[0].base_offset == offset // 2 * 2
            segment = next(s for s in log.segments if s.base_offset <= offset < s.next_offset)
            assert read_header(segment.file.pread(locate(segment, offset), 61)).base_offset == offset // 2 * 2


@pytest.mark.parametrize("clean", [False, True])
def test_a_torn_epoch_checkpoint_is_made_anew(clean: bool) -> None:
    """KAFKA-16541. A checkpoint that is sound but too old is noticed by the last batch."""
    disk = ModelledDisk(random.Random(0))
    log = filled(disk)
    epochs = log.epochs
    log.close(0)
    path = f"{DIRECTORY}/leader-epoch-checkpoint"
    whole = disk.read(path)
    assert whole == b"0\n3\n0 0\n1 10\n2 20\n"
    for damaged in [whole[:cut] for cut in range(len(whole))] + [b"0\n1\n0 0\n", bytes(len(whole)), whole + b"x"]:
        overwrite(disk, path, damaged)
        log = reopen(disk, clean=clean, recovery_point=0 if damaged.startswith(b"0\n1") else 24)
        assert log.epochs == epochs, damaged
        assert log.last_epoch == 2
        log.close(0)
    disk.remove(path)
    assert reopen(disk, clean=clean, recovery_point=24).epochs == epochs


def test_elections_without_writes_leave_no_conflicting_epochs(disk: ModelledDisk) -> None:
    """KAFKA-10706."""
    log = filled(disk)
    for epoch in range(3, 50):
        log.assign_epoch(epoch)
    assert log.epochs == ((0, 0), (1, 10), (2, 20), (49, 24))
    assert log.end_offset_for_epoch(30) == (2, 24)
    assert log.end_offset_for_epoch(49) == (49, 24)
    log.close(0)
    log = reopen(disk, clean=True)
    assert log.epochs == ((0, 0), (1, 10), (2, 20))
    log.append_as_follower(batch([b"x"], base_offset=24, leader_epoch=30))
    assert log.epochs[-1] == (30, 24)


def test_producers_survive_with_their_five_batch_window(disk: ModelledDisk) -> None:
    for damage in (None, b"", b"x" * 80):
        log = filled(disk) if damage is None else reopen(disk, clean=True)
        known = dict(log.producers.entries)
        log.close(0)
        for name in disk.listdir(DIRECTORY):
            if damage is not None and name.endswith(".snapshot"):
                overwrite(disk, f"{DIRECTORY}/{name}", damage)
        for clean in (True, False):
            log = reopen(disk, clean=clean, recovery_point=24)
            assert dict(log.producers.entries) == known
            again = batch([b"r"] * 2, producer_id=9, producer_epoch=0, base_sequence=14)
            assert log.producers.check(read_header(again)) == Duplicate(14, 15, 8)
            log.close(0)


def test_truncation_takes_producers_back(disk: ModelledDisk) -> None:
    log = filled(disk)
    log.truncate_to(9)
    assert log.log_end_offset == 8
    assert log.producers.entries[9].batches[-1].last_sequence == 7
    assert len(log.producers.entries[9].batches) == 4
    log.truncate_to(0)
    assert not log.producers.entries


def test_what_a_crash_in_deletion_left_is_swept_away(disk: ModelledDisk) -> None:
    log = filled(disk)
    expected = read_all(log)
    log.close(0)
    for name in ("x.log.deleted", "leader-epoch-checkpoint.tmp", f"{999:020d}.index", f"{999:020d}.timeindex"):
        overwrite(disk, f"{DIRECTORY}/{name}", b"junk")
    log = reopen(disk, clean=True)
    assert read_all(log) == expected
    assert not [name for name in disk.listdir(DIRECTORY) if "999" in name or name.endswith((".deleted", ".tmp"))]


def test_a_log_that_ends_below_its_start_begins_there(disk: ModelledDisk) -> None:
    filled(disk, 2).close(0)
    log = PartitionLog.open(disk, DIRECTORY, CONFIG, clean=False, log_start_offset=50, now_ms=0)
    assert (log.log_start_offset, log.log_end_offset) == (50, 50)


def test_a_scan_stops_at_a_gap_and_at_an_epoch_that_goes_back(disk: ModelledDisk) -> None:
    """What a power loss can bring back of removed files must not be joined to what came after."""
    sound = batch([b"a"], base_offset=0, leader_epoch=5)
    for name, follows in {
        "gap": batch([b"b"], base_offset=2, leader_epoch=5),
        "overlap": batch([b"b"], base_offset=0, leader_epoch=5),
        "epoch": batch([b"b"], base_offset=1, leader_epoch=4),
    }.items():
        for own_segment in (False, True):
            directory = f"data/{name}{own_segment}-0"
            disk.mkdir(directory)
            base = read_header(follows).base_offset
            if own_segment and base == 0:
                continue
            overwrite(disk, f"{directory}/{0:020d}.log", sound if own_segment else sound + follows)
            if own_segment:
                overwrite(disk, f"{directory}/{base:020d}.log", follows)
            log = PartitionLog.open(disk, directory, CONFIG, clean=False, now_ms=0)
            assert read_all(log) == sound, name
            assert log.recovered.cut_bytes == len(follows)
            assert (log.log_end_offset, log.last_epoch, log.epochs) == (1, 5, ((5, 0),))


def test_time_lookups_hold_after_losing_power_right_after_a_flush() -> None:
    """Segments below the recovery point are not scanned, so a flush must have made their indexes durable too."""
    for seed in range(40):
        disk = ModelledDisk(random.Random(seed))
        log = filled(disk, config=LogConfig(segment_bytes=500, index_interval_bytes=0))
        point = log.flush()
        disk.crash()
        log = reopen(disk, recovery_point=point, config=log.config)
        found = [log.offset_for_timestamp(timestamp, up_to=24) for timestamp in range(13)]
        assert [row and row[:2] for row in found] == [(0, 0), (1, 1), *((2 * at + 1, at + 1) for at in range(1, 12))]
        assert log.max_timestamp_offset() == (23, 12, 2)
