"""Append, read, roll, truncate, look up: against a plain list of batches."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.log import (
    DiskError,
    DiskFull,
    LogConfig,
    LogOffline,
    ModelledDisk,
    OffsetOutOfRange,
    OffsetsOutOfOrder,
    OsDisk,
    PartitionLog,
)
from ottla.records import CorruptBatch, Record, decode_batch, encode_batch, read_header, verify_batch
from tests.log.batches import batch, headers, lead, read_all

SMALL = LogConfig(segment_bytes=600, index_interval_bytes=100)


def make(disk: ModelledDisk | OsDisk, config: LogConfig = SMALL, directory: str = "data/t-0") -> PartitionLog:
    return PartitionLog.open(disk, directory, config, clean=False, now_ms=0)


def test_batches_come_back_stamped_and_sound(tmp_path: Path) -> None:
    log = make(OsDisk(), directory=str(tmp_path / "t-0"))
    for at in range(20):
        assert lead(log, batch([b"a", b"b"], timestamp=at), epoch=at // 10) == at * 2
    data = read_all(log)
    seen = headers(data)
    assert [h.base_offset for h in seen] == list(range(0, 40, 2))
    assert [h.leader_epoch for h in seen] == [0] * 10 + [1] * 10
    position = 0
    for header in seen:
        verify_batch(data, position)
        position += header.size
    assert log.epochs == ((0, 0), (1, 20))
    assert len(log.segments) > 1
    assert sorted(p.name for p in (tmp_path / "t-0").glob("*.log"))[0] == "00000000000000000000.log"


def test_a_fetch_into_the_middle_of_a_batch_returns_the_whole_batch(disk: ModelledDisk) -> None:
    log = make(disk)
    lead(log, batch([b"x"] * 5))
    lead(log, batch([b"y"] * 5))
    assert headers(log.read(7, 1, up_to=10))[0].base_offset == 5
    assert log.read(7, 1, up_to=10, min_one=False) == b""
    assert log.read(10, 100, up_to=10) == b""
    assert headers(log.read(0, 10_000, up_to=5))[-1].base_offset == 0
    for bad in (-1, 11):
        with pytest.raises(OffsetOutOfRange):
            log.read(bad, 100, up_to=10)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 300)), min_size=1, max_size=40),
    interval=st.sampled_from([0, 50, 200, 4096]),
    segment_bytes=st.sampled_from([200, 900, 100_000]),
    data=st.data(),
)
def test_reads_agree_with_a_list(
    sizes: list[tuple[int, int]], interval: int, segment_bytes: int, data: st.DataObject
) -> None:
    disk = ModelledDisk(random.Random(0))
    log = make(disk, LogConfig(segment_bytes=segment_bytes, index_interval_bytes=interval))
    for count, size in sizes:
        lead(log, batch([b"x" * size] * count))
    if data.draw(st.booleans()):
        log.close(0)
        log = PartitionLog.open(disk, "data/t-0", log.config, clean=True, now_ms=0)
    batches = headers(read_all(log))
    assert sum(h.last_offset_delta + 1 for h in batches) == log.log_end_offset == sum(count for count, _ in sizes)
    for _ in range(10):
        offset = data.draw(st.integers(0, log.log_end_offset))
        up_to = data.draw(st.integers(0, log.log_end_offset))
        limit = data.draw(st.integers(0, 3000))
        min_one = data.draw(st.booleans())
        got = headers(log.read(offset, limit, up_to=up_to, min_one=min_one))
        raw = log.read(offset, limit, up_to=up_to, min_one=min_one)
        assert sum(h.size for h in got) == len(raw)
        wanted = [h for h in batches if h.last_offset >= offset and h.base_offset < up_to] if offset < up_to else []
        assert [h.base_offset for h in got] == [h.base_offset for h in wanted][: len(got)]
        if len(raw) > limit:
            assert len(got) == 1 and min_one
        if wanted and min_one:
            assert got


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 100)), min_size=1, max_size=25), seed=st.integers())
def test_a_follower_that_copies_and_truncates_has_the_leaders_bytes(sizes: list[tuple[int, int]], seed: int) -> None:
    rng = random.Random(seed)
    disk = ModelledDisk(random.Random(0))
    leader = make(disk, LogConfig(segment_bytes=700, index_interval_bytes=64), "data/a-0")
    follower = make(disk, LogConfig(segment_bytes=500, index_interval_bytes=0), "data/b-0")
    sequence = 0
    for at, (count, size) in enumerate(sizes):
        values = [b"x" * size] * count
        lead(leader, batch(values, producer_id=5, producer_epoch=0, base_sequence=sequence), epoch=at // 4)
        sequence += count
    while follower.log_end_offset < leader.log_end_offset:
        chunk = leader.read(follower.log_end_offset, rng.randint(1, 2000), up_to=leader.log_end_offset)
        follower.append_as_follower(chunk)
        if rng.random() < 0.2:
            follower.truncate_to(rng.randint(0, follower.log_end_offset))
        if rng.random() < 0.1:
            follower.close(0)
            follower = PartitionLog.open(disk, "data/b-0", follower.config, clean=True, now_ms=0)
    assert read_all(follower) == read_all(leader)
    assert follower.epochs == leader.epochs
    assert follower.last_epoch == leader.last_epoch
    assert follower.producers.entries == leader.producers.entries


def test_a_follower_refuses_what_does_not_continue_its_log(disk: ModelledDisk) -> None:
    log = make(disk)
    log.append_as_follower(batch([b"a"], base_offset=0, leader_epoch=3))
    good = batch([b"b"], base_offset=1, leader_epoch=3)
    for bad in (batch([b"b"], base_offset=2, leader_epoch=3), batch([b"b"], base_offset=1, leader_epoch=2)):
        with pytest.raises(OffsetsOutOfOrder):
            log.append_as_follower(bad)
    with pytest.raises(OffsetsOutOfOrder):
        log.append_as_follower(good + good)
    for cut in range(len(good)):
        with pytest.raises(CorruptBatch):
            log.append_as_follower(good + good[:cut] if cut else b"")
    with pytest.raises(CorruptBatch):
        log.append_as_follower(good[:-1] + bytes([good[-1] ^ 1]))
    assert log.log_end_offset == 1
    log.append_as_follower(good)
    assert log.log_end_offset == 2


def test_a_leader_of_an_older_epoch_may_not_append(disk: ModelledDisk) -> None:
    log = make(disk)
    lead(log, batch(), epoch=4)
    with pytest.raises(OffsetsOutOfOrder):
        lead(log, batch(), epoch=3)
    with pytest.raises(OffsetsOutOfOrder):
        log.assign_epoch(3)


def test_rolls_by_time_of_records_and_by_full_index(disk: ModelledDisk) -> None:
    log = make(disk, LogConfig(segment_ms=1000))
    for timestamp in (0, 900, 1000, 1001, 1500):
        lead(log, batch(timestamp=timestamp))
    assert [s.base_offset for s in log.segments] == [0, 3]
    log = make(disk, LogConfig(index_interval_bytes=0, segment_index_bytes=36), "data/u-0")
    for _ in range(9):
        lead(log, batch(timestamp=7))
    assert [s.base_offset for s in log.segments] == [0, 5]


def test_index_files_have_kafkas_form(disk: ModelledDisk) -> None:
    log = make(disk, LogConfig(segment_bytes=300, index_interval_bytes=0))
    size = len(batch([b"a", b"b"]))
    for at in range(6):
        lead(log, batch([b"a", b"b"], timestamp=100 + at))
    first = log.segments[0]
    entries = list(struct.iter_unpack(">ii", disk.read("data/t-0/00000000000000000000.index")))
    assert first.size // size == len(entries) + 1
    assert entries[0] == (3, size)
    assert struct.unpack_from(">qi", disk.read("data/t-0/00000000000000000000.timeindex")) == (102, 3)


def test_log_append_time_is_set_in_the_header_and_the_crc_holds(disk: ModelledDisk) -> None:
    log = make(disk, LogConfig(message_timestamp_type="LogAppendTime"))
    data = batch([b"a", b"b"], timestamp=5)
    appended = log.append_as_leader(data, read_header(data), 0, 777)
    assert (appended.log_append_time, appended.max_timestamp) == (777, 777)
    stored = log.read(0, 1000, up_to=2)
    assert verify_batch(stored).timestamp_type == 1
    assert [record.timestamp for record in decode_batch(stored)] == [777, 777]
    assert log.offset_for_timestamp(700, up_to=2) == (0, 777, 0)


def test_timestamps_are_found_like_in_a_list(disk: ModelledDisk) -> None:
    rng = random.Random(3)
    log = make(disk, LogConfig(segment_bytes=800, index_interval_bytes=100))
    stamps = []
    for at in range(40):
        start = rng.randrange(500)
        lead(log, batch([b"x"] * 3, timestamp=start), epoch=at // 20)
        stamps += [start, start + 1, start + 2]
    for close in (False, True):
        if close:
            log.close(0)
            log = PartitionLog.open(disk, "data/t-0", log.config, clean=True, now_ms=0)
        for wanted in range(-1, 505, 7):
            expected = next(((o, t) for o, t in enumerate(stamps) if t >= wanted), None)
            found = log.offset_for_timestamp(wanted, up_to=len(stamps))
            assert (found and found[:2]) == expected
        largest = max(stamps)
        assert log.max_timestamp_offset() == (stamps.index(largest), largest, stamps.index(largest) // 60)
    assert log.offset_for_timestamp(0, up_to=0) is None


def test_a_full_disk_leaves_the_log_as_it_was(disk: ModelledDisk) -> None:
    log = make(disk)
    lead(log, batch())
    before = read_all(log)
    disk.capacity = sum(s.size for s in log.segments) + 30
    for _ in range(3):
        with pytest.raises(DiskFull):
            lead(log, batch([b"z" * 50]))
        assert read_all(log) == before
        assert log.segments[0].file.size() == len(before)
    disk.capacity = None
    lead(log, batch([b"z" * 50]))
    assert log.log_end_offset == 2
    log.flush()
    disk.crash()
    assert make(disk).log_end_offset == 2


def test_a_full_disk_while_rolling_leaves_the_log_as_it_was(disk: ModelledDisk) -> None:
    reference = make(disk, directory="data/r-0")
    for _ in range(8):
        lead(reference, batch([b"z" * 50]))
    for room in range(0, 700, 23):
        log = make(disk, directory=f"data/t{room}-0")
        disk.capacity = disk.used() + room
        appended = 0
        with pytest.raises(DiskFull):
            for _ in range(8):
                lead(log, batch([b"z" * 50]))
                appended += 1
        disk.capacity = None
        assert log.log_end_offset == appended
        for _ in range(8 - appended):
            lead(log, batch([b"z" * 50]))
        assert read_all(log) == read_all(reference)


def test_a_failed_sync_is_never_tried_again(disk: ModelledDisk) -> None:
    log = make(disk)
    lead(log, batch())
    disk.fail_next("sync")
    with pytest.raises(DiskError):
        log.flush()
    assert log.recovery_point == 0
    for action in (log.flush, lambda: lead(log, batch()), lambda: log.truncate_to(0), lambda: log.close(0)):
        with pytest.raises(LogOffline):
            action()
    assert log.failure is not None


def test_a_write_error_or_a_cut_that_fails_takes_the_log_offline(disk: ModelledDisk) -> None:
    log = make(disk)
    lead(log, batch())
    disk.fail_next("append", partial=20)
    with pytest.raises(DiskError):
        lead(log, batch())
    with pytest.raises(LogOffline):
        lead(log, batch())
    assert len(headers(read_all(log))) == 1
    other = make(disk, directory="data/o-0")
    disk.fail_next("append", DiskFull(28, "full"), partial=20)
    disk.fail_next("truncate")
    with pytest.raises(DiskFull):
        lead(other, batch())
    with pytest.raises(LogOffline):
        lead(other, batch())


def test_truncating_everything_starts_anew(disk: ModelledDisk) -> None:
    log = make(disk)
    for _ in range(10):
        lead(log, batch([b"x" * 100]), epoch=2)
    log.flush()
    log.truncate_fully_and_start_at(1000)
    assert (log.log_start_offset, log.log_end_offset, log.recovery_point) == (1000, 1000, 1000)
    assert log.epochs == () and log.last_epoch == -1
    lead(log, batch(), epoch=2)
    log.flush()
    disk.crash()
    log = PartitionLog.open(disk, "data/t-0", SMALL, clean=False, recovery_point=1001, log_start_offset=1000, now_ms=0)
    assert (log.log_start_offset, log.log_end_offset) == (1000, 1001)


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=3), min_size=1, max_size=12), st.integers(0, 36))
def test_the_largest_timestamp_is_one_of_a_record_that_is_there(stamps: list[list[int]], start: int) -> None:
    """KIP-734, also when the record that had it was deleted; against a plain list."""
    log = make(ModelledDisk(random.Random(0)), LogConfig(segment_bytes=250))
    plain: list[int] = []
    for batch_stamps in stamps:
        records = [Record(at, stamp, None, b"v", ()) for at, stamp in enumerate(batch_stamps)]
        lead(log, encode_batch(records))
        plain += batch_stamps
    log.advance_log_start(start)
    start = min(start, len(plain))
    left = plain[start:]
    expected = (start + left.index(max(left)), max(left), 0) if left else None
    assert log.max_timestamp_offset() == expected


def test_retention(disk: ModelledDisk) -> None:
    def filled(name: str, config: LogConfig) -> PartitionLog:
        log = make(disk, config, f"data/{name}-0")
        for at in range(10):
            lead(log, batch([b"x" * 100], timestamp=at * 100))
        return log

    by_time = filled("a", LogConfig(segment_bytes=1, retention_ms=500))
    assert by_time.delete_old_segments(1000, high_watermark=3) == 3
    assert by_time.delete_old_segments(1000, high_watermark=10) == 2
    assert by_time.log_start_offset == 5
    assert by_time.epochs == ((0, 5),)
    with pytest.raises(OffsetOutOfRange):
        by_time.read(4, 1, up_to=10)
    assert by_time.delete_old_segments(10_000, high_watermark=10) == 5
    assert (by_time.log_start_offset, by_time.log_end_offset, by_time.size) == (10, 10, 0)
    assert lead(by_time, batch()) == 10

    size = len(batch([b"x" * 100]))
    by_size = filled("b", LogConfig(segment_bytes=1, retention_ms=-1, retention_bytes=size * 4))
    assert by_size.delete_old_segments(0, high_watermark=10, defer=True) == 6
    assert by_size.log_start_offset == 6
    names = disk.listdir("data/b-0")
    by_size.purge()
    assert {n[:20] for n in names} - {n[:20] for n in disk.listdir("data/b-0")} == {f"{at:020d}" for at in range(6)}

    by_start = filled("c", LogConfig(segment_bytes=1, retention_ms=-1))
    by_start.advance_log_start(4)
    assert by_start.delete_old_segments(0, high_watermark=10) == 4
    compacted = filled("d", LogConfig(segment_bytes=1, retention_ms=1, cleanup_policy="compact"))
    assert compacted.delete_old_segments(10_000, high_watermark=10) == 0


def test_few_files_of_old_segments_stay_open(disk: ModelledDisk) -> None:
    log = make(disk, LogConfig(segment_bytes=1))
    for _ in range(30):
        lead(log, batch())
    read_all(log)
    assert sum(segment.is_open for segment in log.segments) < 8
