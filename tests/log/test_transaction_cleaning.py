"""Compaction of logs with transactions: what was aborted goes, a marker stays as long as it says something, and a
producer never has a transaction open that nobody will end."""

from __future__ import annotations

import contextlib
import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.log import Crashed, LogConfig, ModelledDisk, PartitionLog
from ottla.records import iter_headers
from tests.log.batches import lead, read_all
from tests.log.compacting import RETENTION, clean, pairs
from tests.log.transactional import ABORT, COMMIT, DIRECTORY, committed, marker, open_log, records

CONFIG = LogConfig(
    segment_bytes=400,
    index_interval_bytes=90,
    retention_ms=-1,
    cleanup_policy="compact",
    delete_retention_ms=RETENTION,
    min_cleanable_dirty_ratio=0.0,
)


def opened(disk: ModelledDisk | None = None, config: LogConfig = CONFIG) -> PartitionLog:
    return open_log(disk or ModelledDisk(random.Random(0)), config=config)


def seen(log: PartitionLog) -> list[tuple[int, bytes | None]]:
    return committed(log, log.log_start_offset, log.log_end_offset, 100_000)


def markers(log: PartitionLog) -> list[tuple[int, int, bool]]:
    """`(producer id, offset, whether its record is still there)`"""
    return [
        (header.producer_id, header.base_offset, header.count > 0)
        for _, header in iter_headers(read_all(log))
        if header.is_control
    ]


def test_an_aborted_record_neither_stays_nor_replaces_another() -> None:
    log = opened()
    lead(log, records(b"old", producer_id=1))
    lead(log, marker(COMMIT, 1))
    lead(log, records(b"taken back", producer_id=2))
    lead(log, marker(ABORT, 2))
    lead(log, records(b"of another key", producer_id=-1, key=b"other", sequence=-1, transactional=False))
    log.roll(0)
    assert clean(log) == 5
    assert seen(log) == [(0, b"old"), (4, b"of another key")]
    # The last batch of a live producer stays, empty, so that its next one is no gap.
    assert [header.base_offset for _, header in iter_headers(read_all(log)) if not header.count] == [2]


def test_nothing_above_the_first_open_transaction_or_an_unreplicated_marker_is_touched() -> None:
    log = opened()
    for number in range(5):
        lead(log, records(b"%d" % number, producer_id=-1, sequence=-1, transactional=False))
    log.roll(0)
    lead(log, records(b"open", producer_id=1))
    lead(log, records(b"later", producer_id=-1, sequence=-1, transactional=False))
    log.roll(0)
    assert clean(log) == 5
    lead(log, marker(COMMIT, 1))
    lead(log, records(b"active", producer_id=-1, sequence=-1, transactional=False))
    log.roll(0)
    assert clean(log, high_watermark=7, first_dirty=5) is None
    assert clean(log, high_watermark=9, first_dirty=5) == 9
    assert seen(log) == [(8, b"active")]


def test_a_marker_outlives_its_transaction_by_delete_retention_ms() -> None:
    log = opened()
    lead(log, records(b"1", producer_id=1))
    lead(log, marker(COMMIT, 1))
    for number in range(2, 6):
        lead(log, records(b"%d" % number, producer_id=2, sequence=number - 2, transactional=False))
    lead(log, records(b"9", producer_id=1, sequence=1, transactional=False))
    log.roll(0)
    clean(log, now_ms=5000)
    assert markers(log) == [(1, 1, True)], "this pass has met records of the transaction"
    clean(log, now_ms=6000)
    assert markers(log) == [(1, 1, True)], "it gets its delete horizon"
    clean(log, now_ms=6000 + RETENTION - 1)
    assert markers(log) == [(1, 1, True)]
    clean(log, now_ms=6000 + RETENTION)
    assert markers(log) == []
    assert log.log_end_offset == 7 and seen(log) == [(6, b"9")]


def test_the_last_marker_of_a_producer_that_has_nothing_else_stays_as_an_empty_batch_that_fences() -> None:
    disk = ModelledDisk(random.Random(0))
    log = opened(disk)
    lead(log, marker(ABORT, 1, epoch=4, coordinator_epoch=2))
    for number in range(6):
        lead(log, records(b"%d" % number, producer_id=-1, sequence=-1, transactional=False))
    log.roll(0)
    for now_ms in (5000, 5000 + RETENTION):
        clean(log, now_ms=now_ms)
    assert markers(log) == [(1, 0, False)]
    log.abandon()
    disk.kill()
    for name in disk.listdir(DIRECTORY):
        if name.endswith(".snapshot"):
            disk.remove(f"{DIRECTORY}/{name}")
    assert opened(disk).producers.entries[1].epoch == 4


def test_a_snapshot_with_a_transaction_whose_marker_was_cleaned_away_is_not_used() -> None:
    disk = ModelledDisk(random.Random(0))
    log = opened(disk)
    lead(log, records(b"1", producer_id=1))
    for number in range(4):  # the first segment stays full, and so remains a segment of its own
        lead(log, pairs((b"only%d" % number, b"v" * 30)))
    log.roll(0)
    start = log.log_end_offset
    lead(log, marker(ABORT, 1))
    lead(log, records(b"2", producer_id=1, sequence=1, transactional=False))
    for number in range(4):
        lead(log, pairs((b"once%d" % number, b"v" * 30)))
    log.roll(0)
    for now_ms in (5000, 5001, 5001 + RETENTION):
        clean(log, now_ms=now_ms)
    assert markers(log) == [] and start in [segment.base_offset for segment in log.segments]
    log.abandon()
    disk.kill()
    again = open_log(disk, config=CONFIG, recovery_point=start + 1)
    assert again.recovered.scanned_from == start
    assert again.producers.entries[1].current_txn_first_offset == -1
    assert again.first_unstable_offset(again.log_end_offset) is None


def test_a_producer_commits_after_it_has_aborted() -> None:
    log = opened()
    lead(log, pairs((b"k", b"old")))
    lead(log, records(b"taken back", producer_id=1))
    lead(log, marker(ABORT, 1))
    log.roll(0)
    assert clean(log) == 3
    lead(log, records(b"kept", producer_id=1, sequence=1))
    lead(log, marker(COMMIT, 1))
    log.roll(0)
    assert clean(log, first_dirty=3) == 5
    assert seen(log) == [(3, b"kept")]


def test_rows_of_the_index_stay_as_long_as_their_markers_say_something() -> None:
    log = opened()
    lead(log, records(b"1", producer_id=1))
    lead(log, marker(ABORT, 1))
    lead(log, pairs((b"k", b"2")))
    log.roll(0)
    lead(log, records(b"3", producer_id=1, sequence=1, transactional=False))
    assert log.aborted_transactions(0, 3) == [(1, 0)]
    clean(log, now_ms=5000)
    assert log.aborted_transactions(0, 3) == [(1, 0)]
    clean(log, now_ms=5001)
    assert log.aborted_transactions(0, 3) == []


class Cleaned:
    """A compacted log, and the last committed value of every key in plain dicts."""

    def __init__(self, seed: int, config: LogConfig = CONFIG) -> None:
        self.rng = random.Random(seed)
        self.disk = ModelledDisk(random.Random(seed + 1))
        self.log = opened(self.disk, config)
        self.recovery_point = 0
        self.now_ms = 1000
        self.offered: list[tuple[int, int, bytes, bytes | None]] = []  # producer, offset, key, value
        self.open: dict[int, list[int]] = {}
        self.committed: dict[int, tuple[bytes, bytes | None]] = {}
        self.sequences: dict[int, int] = {}
        self.note()

    def note(self) -> None:
        self.log.on_recovery_point_lowered = self.note
        self.recovery_point = self.log.recovery_point

    def write(self) -> None:
        producer_id = self.rng.randrange(4)
        key, value = b"k%d" % self.rng.randrange(5), b"%d" % self.rng.randrange(10**6)
        transactional = producer_id in self.open or self.rng.random() < 0.7
        sequence = self.sequences.get(producer_id, 0)
        base = lead(
            self.log,
            records(value, producer_id=producer_id, sequence=sequence, transactional=transactional, key=key),
        )
        self.sequences[producer_id] = sequence + 1
        self.offered.append((producer_id, base, key, value))
        if transactional:
            self.open.setdefault(producer_id, []).append(len(self.offered) - 1)
        else:
            self.committed[base] = (key, value)

    def end(self) -> None:
        producer_id, commit = self.rng.randrange(4), self.rng.random() < 0.5
        lead(self.log, marker(commit, producer_id, timestamp=self.now_ms))
        for at in self.open.pop(producer_id, []):
            if commit:
                _, base, key, value = self.offered[at]
                self.committed[base] = (key, value)

    def check(self) -> None:
        end = self.log.log_end_offset
        unstable = min((self.offered[rows[0]][1] for rows in self.open.values()), default=end)
        assert self.log.first_unstable_offset(end) == (unstable if self.open else None)
        given = dict(seen(self.log))
        expected = {offset: value for offset, (_, value) in self.committed.items() if offset < unstable}
        assert given.items() <= expected.items()
        last: dict[bytes, int] = {}
        for offset in sorted(expected):
            last[self.committed[offset][0]] = offset
        assert set(last.values()) <= given.keys()
        entries = self.log.producers.entries
        assert {id for id, each in entries.items() if each.current_txn_first_offset >= 0} == set(self.open)
        for producer_id, sequence in self.sequences.items():
            assert entries[producer_id].batches[-1].last_sequence == sequence - 1


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), crash_after=st.integers(0, 60))
def test_a_crash_at_any_operation_of_cleanings_leaves_what_was_committed_and_nothing_else(
    seed: int, crash_after: int
) -> None:
    each = Cleaned(seed)
    rng = each.rng
    for _ in range(rng.randint(2, 5)):
        for _ in range(rng.randint(5, 30)):
            each.write() if rng.random() < 0.7 else each.end()
        each.log.flush()
        each.note()
        each.now_ms += rng.choice([1, RETENTION, 3 * RETENTION])
        each.disk.operations = 0
        each.disk.crash_at = 1 + crash_after if rng.random() < 0.5 else None
        crashed = True
        bound = rng.choice([each.log.log_end_offset, rng.randrange(each.log.log_end_offset + 1)])
        with contextlib.suppress(Crashed):
            clean(each.log, each.now_ms, bound, max_bytes=rng.choice([1 << 20, 600]))
            crashed = False
        each.disk.crash_at = None
        if crashed or rng.random() < 0.4:
            each.log.abandon()
            each.disk.crash()
            # An older recovery point than the log's: the checkpoint is not written every time.
            old = rng.choice([each.recovery_point, rng.randrange(each.recovery_point + 1)])
            each.log = open_log(each.disk, config=CONFIG, recovery_point=old)
            each.note()
        each.check()


def dies_in_its_second_cleaning(seed: int, at: int) -> Cleaned | None:
    """Only the process dies, at that operation: the page cache lives on. None when the cleaning was over by then."""
    each = Cleaned(seed)
    for crash_at, writes in ((None, 40), (at, 15)):
        for _ in range(writes):
            each.write() if each.rng.random() < 0.7 else each.end()
        each.log.flush()
        each.note()
        each.now_ms += 3 * RETENTION
        each.disk.operations, each.disk.crash_at = 0, crash_at
        try:
            clean(each.log, each.now_ms)
        except Crashed:
            each.log.abandon()
            each.disk.kill()
            return each
    return None


# Segments are swapped for one that is made of several only when they have been cleaned before.
@pytest.mark.parametrize("seed", [5, 19])
def test_power_is_lost_while_the_next_process_brings_a_cleaning_to_its_end(seed: int) -> None:
    at, swaps = 1, 0
    while (dead := dies_in_its_second_cleaning(seed, at)) is not None:
        at += 1
        if not any(path.endswith(".swap") for path in dead.disk.files()):
            continue
        swaps += 1
        for power_goes_at in range(1, 9):
            each = dies_in_its_second_cleaning(seed, at - 1)
            assert each is not None
            each.disk.operations, each.disk.crash_at = 0, power_goes_at
            with contextlib.suppress(Crashed):
                open_log(each.disk, config=CONFIG, recovery_point=each.recovery_point).abandon()
            each.disk.crash()
            each.log = open_log(each.disk, config=CONFIG, recovery_point=each.recovery_point)
            each.note()
            each.check()
    assert swaps >= 8


@pytest.mark.parametrize("seed", range(3))
def test_markers_do_not_gather(seed: int) -> None:
    # Each cleaned segment keeps its last batch, whatever it is.
    each = Cleaned(seed, dataclasses.replace(CONFIG, segment_bytes=100_000))
    for _ in range(400):
        each.write() if each.rng.random() < 0.6 else each.end()
    for producer_id in range(4):
        lead(each.log, marker(COMMIT, producer_id))
    each.log.roll(0)
    before = len(markers(each.log))
    for _ in range(4):
        each.now_ms += 2 * RETENTION
        clean(each.log, each.now_ms)
    assert before > 100
    assert (
        len(markers(each.log)) <= 5 + 4
    )  # for the transactions of the last values of the keys, and the last batches of producers
