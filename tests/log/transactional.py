"""Logs with transactions: how to write to one, what a consumer of committed records makes of it, and a dumb model."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from ottla.log import LogConfig, ModelledDisk, PartitionLog
from ottla.records import EndMarker, Record, decode_batch, encode_batch, encode_marker, iter_headers, read_header
from tests.log.batches import lead

DIRECTORY = "data/t-0"
CONFIG = LogConfig(segment_bytes=500, index_interval_bytes=90, retention_ms=-1)
COMMIT, ABORT = True, False


def records(
    *values: bytes, producer_id: int, epoch: int = 0, sequence: int = 0, transactional: bool = True, key: bytes = b"k"
) -> bytes:
    rows = [Record(0, 1000, key, value) for value in values]
    return encode_batch(
        rows, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence, transactional=transactional
    )


def marker(commit: bool, producer_id: int, epoch: int = 0, coordinator_epoch: int = 0, timestamp: int = 1000) -> bytes:
    return encode_marker(
        EndMarker(commit, coordinator_epoch), producer_id=producer_id, producer_epoch=epoch, timestamp=timestamp
    )


def open_log(
    disk: ModelledDisk,
    *,
    clean: bool = False,
    recovery_point: int = 0,
    start: int = 0,
    config: LogConfig = CONFIG,
    **more: int,
) -> PartitionLog:
    return PartitionLog.open(
        disk, DIRECTORY, config, clean=clean, recovery_point=recovery_point, log_start_offset=start, now_ms=0, **more
    )


def committed(log: PartitionLog, start: int, high_watermark: int, max_bytes: int) -> list[tuple[int, bytes | None]]:
    """`(offset, value)` of what a consumer of committed records is given from `start` on, by Java's algorithm."""
    unstable = log.first_unstable_offset(high_watermark)
    stable = high_watermark if unstable is None else min(unstable, high_watermark)
    given: list[tuple[int, bytes | None]] = []
    at = start
    while at < stable:
        data = log.read(at, max_bytes, up_to=stable)
        if not data:
            break
        aborted = sorted(log.aborted_in(data, at), key=lambda row: row[1])
        ongoing: set[int] = set()
        for position, header in iter_headers(data):
            while aborted and aborted[0][1] <= header.last_offset:
                ongoing.add(aborted.pop(0)[0])
            if header.is_control:
                if header.count and decode_batch(data, position)[0].key == b"\0\0\0\0":
                    ongoing.discard(header.producer_id)
            elif not (header.is_transactional and header.producer_id in ongoing):
                given += [(each.offset, each.value) for each in decode_batch(data, position) if each.offset >= at]
            following = header.next_offset
        at = following
    return given


@dataclass(slots=True)
class Row:
    """One batch of the model. `commit`: what a marker says."""

    base: int
    last: int
    producer_id: int
    transactional: bool
    marker: bool = False
    commit: bool = True
    values: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Ended:
    """A transaction of the model; `marker` is -1 while it is open. `before_reopening`: the log may have forgotten that
    it had to be replicated first."""

    producer_id: int
    first: int
    marker: int = -1
    commit: bool = True
    before_reopening: bool = False


class Story:
    """Drives a log at random, and keeps everything in plain lists that are searched from end to end."""

    def __init__(self, disk: ModelledDisk, seed: int, config: LogConfig = CONFIG) -> None:
        self.disk = disk
        self.rng = random.Random(seed)
        self.config = config
        self.rows: list[Row] = []
        self.epochs: dict[int, int] = {}
        self.sequences: dict[int, int] = {}
        self.high_watermark = 0
        self.saved_recovery_point = 0
        self.saved_start = 0
        self.forgotten = 0  # markers below are from before the last reopening
        self.forgotten_below = 0  # where the log began when its state was last made anew
        self.number = 0
        self.leader_epoch = 0
        self.rare: list[Callable[[], None]] = [
            self.flush,
            self.truncate,
            self.reopen,
            self.crash,
            self.retire,
            self.die,
        ]
        self.log = open_log(disk, config=config)
        self.log.on_recovery_point_lowered = self.save

    def save(self) -> None:
        self.saved_recovery_point = self.log.recovery_point

    # --- what is so

    def transactions(self, start: int = 0) -> list[Ended]:
        """From the records from `start` on."""
        found: list[Ended] = []
        is_open: dict[int, Ended] = {}
        for row in self.rows:
            if row.marker:
                ended = is_open.pop(row.producer_id, None)
                if ended is not None:
                    ended.marker, ended.commit = row.base, row.commit
                    ended.before_reopening = row.base < self.forgotten
            elif row.transactional and row.producer_id not in is_open and row.last >= start:
                is_open[row.producer_id] = Ended(row.producer_id, row.base)
                found.append(is_open[row.producer_id])
        return found

    def stable(self, *, strict: bool) -> int:
        """Not `strict`: when the log has forgotten what it may forget. That is, with a reopening, what had to be
        replicated yet of transactions that have ended, and what began below the log start."""
        unsettled = [
            each.first
            for each in self.transactions(0 if strict else self.forgotten_below)
            if each.marker < 0 or (each.marker >= self.high_watermark and (strict or not each.before_reopening))
        ]
        return max(min([*unsettled, self.high_watermark]), min(self.log.log_start_offset, self.high_watermark))

    def committed(self, start: int, end: int) -> list[tuple[int, bytes]]:
        aborted = [each for each in self.transactions() if each.marker >= 0 and not each.commit]
        found = []
        for row in self.rows:
            gone = row.transactional and any(
                each.producer_id == row.producer_id and each.first <= row.base < each.marker for each in aborted
            )
            if not row.marker and not gone:
                found += [(row.base + at, value) for at, value in enumerate(row.values) if start <= row.base + at < end]
        return found

    # --- what may happen

    def append(self) -> None:
        producer_id = self.rng.randrange(5)
        is_open = any(each.producer_id == producer_id and each.marker < 0 for each in self.transactions())
        transactional = is_open or self.rng.random() < 0.7
        values = []
        for _ in range(self.rng.randint(1, 3)):
            self.number += 1
            values.append(b"%d" % self.number)
        sequence = self.sequences.get(producer_id, 0)
        epoch = self.epochs.get(producer_id, 0)
        data = records(*values, producer_id=producer_id, epoch=epoch, sequence=sequence, transactional=transactional)
        self.put(data, values)
        self.sequences[producer_id] = sequence + len(values)

    def put(self, data: bytes, values: list[bytes], *, commit: bool = True) -> None:
        header = read_header(data)
        base = self.log.log_end_offset
        self.rows.append(
            Row(
                base,
                base + header.last_offset_delta,
                header.producer_id,
                header.is_transactional,
                header.is_control,
                commit,
                values,
            )
        )
        assert lead(self.log, data, self.leader_epoch) == base

    def end(self) -> None:
        producer_id = self.rng.randrange(5)
        epoch = self.epochs.get(producer_id, 0)
        if self.rng.random() < 0.5:  # transactions v2
            self.epochs[producer_id] = epoch = epoch + 1
            self.sequences[producer_id] = 0
        commit = self.rng.random() < 0.5
        self.put(marker(commit, producer_id, epoch), [], commit=commit)

    def replicate(self) -> None:
        ends = [row.last + 1 for row in self.rows if row.last >= self.high_watermark]
        self.high_watermark = self.rng.choice([self.high_watermark, *ends])

    def truncate(self) -> None:
        at = self.rng.randint(self.high_watermark, self.log.log_end_offset)
        self.log.truncate_to(at)
        self.cut_to(self.log.log_end_offset)
        self.forgotten_below = self.log.log_start_offset

    def cut_to(self, end: int) -> None:
        self.rows = [row for row in self.rows if row.last < end]
        self.leader_epoch += 1
        self.sequences.clear()
        self.epochs.clear()
        for producer_id, entry in self.log.producers.entries.items():
            self.epochs[producer_id] = entry.epoch
            self.sequences[producer_id] = entry.batches[-1].last_sequence + 1 if entry.batches else 0

    def flush(self) -> None:
        self.log.flush()
        self.save()

    def retire(self) -> None:
        self.log.advance_log_start(self.rng.randint(self.log.log_start_offset, self.high_watermark))
        self.log.delete_old_segments(0, self.high_watermark)
        self.saved_start = self.log.log_start_offset

    def reopen(self) -> None:
        self.log.close(0)
        self.open(clean=True)

    def crash(self) -> None:
        """Power is lost: what was not synced may be gone, and nobody had counted on it."""
        self.disk.crash()
        self.open(clean=False)
        self.high_watermark = min(self.high_watermark, self.log.log_end_offset)
        self.cut_to(self.log.log_end_offset)

    def die(self) -> None:
        """Only the process: the page cache lives on, and the next one opens what it shows."""
        end, power_goes_at = self.log.log_end_offset, self.disk.crash_at
        self.disk.kill()
        self.disk.crash_at = power_goes_at
        self.open(clean=False)
        assert self.log.log_end_offset == end

    def open(self, *, clean: bool) -> None:
        self.log.abandon()
        self.log = open_log(
            self.disk,
            clean=clean,
            recovery_point=self.saved_recovery_point,
            start=self.saved_start,
            config=self.config,
        )
        self.log.on_recovery_point_lowered = self.save
        if clean:
            self.saved_recovery_point = self.log.recovery_point
        self.forgotten = self.log.log_end_offset
        self.forgotten_below = self.log.log_start_offset

    def run(self, steps: int, *, check: bool = True) -> None:
        for _ in range(steps):
            chance = self.rng.random()
            if chance < 0.45:
                self.append()
            elif chance < 0.65:
                self.end()
            elif chance < 0.85:
                self.replicate()
            else:
                self.rng.choice(self.rare)()
            if check:
                self.check()

    # --- what has to be so

    def check(self) -> None:
        unstable = self.log.first_unstable_offset(self.high_watermark)
        stable = self.high_watermark if unstable is None else min(unstable, self.high_watermark)
        assert self.stable(strict=True) <= stable <= self.stable(strict=False)
        start = self.rng.randint(self.log.log_start_offset, self.log.log_end_offset)
        given = committed(self.log, start, self.high_watermark, self.rng.choice([1, 150, 100_000]))
        assert given == self.committed(start, stable)
        everything = {each.producer_id: each.first for each in self.transactions() if each.marker < 0}
        at_least = {each.producer_id: each.first for each in self.transactions(self.forgotten_below) if each.marker < 0}
        entries = self.log.producers.entries
        seen = {id: each.current_txn_first_offset for id, each in entries.items() if each.current_txn_first_offset >= 0}
        assert at_least.keys() <= seen.keys() <= everything.keys()
        assert all(everything[id] <= first <= at_least.get(id, first) for id, first in seen.items())
