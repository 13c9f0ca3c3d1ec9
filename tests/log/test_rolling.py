"""segment.jitter.ms and preallocate: when a segment is closed, and the room that is set aside for one."""

from __future__ import annotations

import itertools
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from ottla.log import DiskFull, LogConfig, ModelledDisk, OsDisk, PartitionLog
from tests.log.batches import batch, lead

SIZE = len(batch([b"x"]))


def make(disk: ModelledDisk | OsDisk, config: LogConfig, directory: str = "data/t-0") -> PartitionLog:
    return PartitionLog.open(disk, directory, config, clean=False, now_ms=0)


def ages_at_which_segments_closed(log: PartitionLog, until_ms: int) -> list[int]:
    """One record every ms: the time that each closed segment was open for."""
    for at in range(until_ms):
        lead(log, batch([b"x"], timestamp=at))
    bases = [segment.base_offset for segment in log.segments]
    return [after - before for before, after in itertools.pairwise(bases)]


class TestJitter:
    CONFIG = LogConfig(segment_ms=100, segment_jitter_ms=40)

    def test_every_segment_has_its_own(self, disk: ModelledDisk) -> None:
        log = make(disk, self.CONFIG)
        log.jitter_with(random.Random(1))
        ages = ages_at_which_segments_closed(log, 2000)
        assert all(60 < age <= 101 for age in ages)
        assert len(set(ages)) > 5

    def test_logs_do_not_roll_together(self, disk: ModelledDisk) -> None:
        rng, seen = random.Random(1), []
        for name in ("a", "b"):
            log = make(disk, self.CONFIG, f"data/{name}-0")
            log.jitter_with(rng)
            seen.append(ages_at_which_segments_closed(log, 500))
        assert seen[0] != seen[1]

    def test_none_is_the_default(self, disk: ModelledDisk) -> None:
        log = make(disk, LogConfig(segment_ms=100))
        log.jitter_with(random.Random(1))
        assert set(ages_at_which_segments_closed(log, 500)) == {101}

    def test_it_changes_with_the_topics_config_and_is_never_more_than_the_whole(self, disk: ModelledDisk) -> None:
        log = make(disk, LogConfig(segment_ms=100))
        log.jitter_with(random.Random(1))
        log.config = replace(log.config, segment_jitter_ms=10**9)
        ages = ages_at_which_segments_closed(log, 1000)
        assert all(0 < age <= 101 for age in ages)
        assert min(ages) < 50


class TestPreallocation:
    def test_room_is_set_aside_and_given_back(self, tmp_path: Path) -> None:
        """The file never looks larger than what is in it."""
        log = make(OsDisk(), LogConfig(segment_bytes=1 << 20, preallocate=True), str(tmp_path / "t-0"))
        lead(log, batch([b"x"]))
        path = tmp_path / "t-0" / f"{0:020d}.log"
        assert os.stat(path).st_size == SIZE
        assert os.stat(path).st_blocks * 512 >= 1 << 20
        log.roll(0)
        following = tmp_path / "t-0" / f"{1:020d}.log"
        assert os.stat(path).st_blocks * 512 < 1 << 16
        assert os.stat(following).st_blocks * 512 >= 1 << 20
        log.close(0)
        assert os.stat(following).st_blocks * 512 < 1 << 16

    def test_nothing_is_by_default(self, tmp_path: Path) -> None:
        log = make(OsDisk(), LogConfig(segment_bytes=1 << 20), str(tmp_path / "t-0"))
        lead(log, batch([b"x"]))
        assert os.stat(tmp_path / "t-0" / f"{0:020d}.log").st_blocks * 512 < 1 << 16

    def test_others_cannot_take_the_room_away(self, disk: ModelledDisk) -> None:
        log = make(disk, LogConfig(segment_bytes=SIZE * 10, preallocate=True))
        disk.capacity = disk.used()
        with pytest.raises(DiskFull):
            disk.open("other", create=True).append([b"x"])
        for _ in range(10):
            lead(log, batch([b"x"]))
        with pytest.raises(DiskFull):
            lead(log, batch([b"x"]))

    def test_without_room_for_all_of_it_records_are_taken_as_long_as_they_fit(self, disk: ModelledDisk) -> None:
        disk.capacity = 10_000
        log = make(disk, LogConfig(segment_bytes=1 << 20, preallocate=True))
        assert lead(log, batch([b"x"])) == 0

    def test_what_is_set_aside_survives_a_restart_as_nothing(self, disk: ModelledDisk) -> None:
        config = LogConfig(segment_bytes=1000, preallocate=True)
        log = make(disk, config)
        lead(log, batch([b"x"]))
        log.flush()
        disk.crash()
        again = make(disk, config)
        assert again.log_end_offset == 1
        assert lead(again, batch([b"x"])) == 1
