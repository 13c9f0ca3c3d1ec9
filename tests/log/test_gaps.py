"""Logs in which offsets are missing, because they were compacted or copied from one that was: how they are told from
logs that have lost something."""

from __future__ import annotations

import contextlib
import errno
import random

import pytest

from ottla.log import Crashed, DiskError, DiskFull, LogConfig, ModelledDisk, OffsetsOutOfOrder
from ottla.log.damage import COMPACTED_FILE
from ottla.records import iter_headers, read_header
from tests.log.batches import batch, lead, read_all
from tests.log.compacting import clean, contents, filled, open_log, pairs

KEEPING = LogConfig(segment_bytes=400, index_interval_bytes=90, retention_ms=-1)


def compacted():
    """The batches of a log that has gaps."""
    leader = filled([(b"k%d" % (number % 2), b"%d" % number) for number in range(40)])
    clean(leader)
    lead(leader, pairs((b"z", b"end")))
    data = read_all(leader)
    return leader, [data[position : position + header.size] for position, header in iter_headers(data)]


def follow(log, batches):
    for each in batches:
        log.append_as_follower(each, gaps=True)


def test_a_follower_takes_gaps_whatever_the_policy_is_now_and_knows_them_after_a_crash():
    leader, batches = compacted()
    disk = ModelledDisk(random.Random(1))
    follower = open_log(disk, KEEPING)
    follow(follower, batches)
    point = follower.flush()
    follower.abandon()
    disk.crash()
    again = open_log(disk, KEEPING, recovery_point=point)
    assert contents(again) == contents(leader) and again.log_end_offset == leader.log_end_offset


def test_a_crash_while_a_follower_copies_gaps_cuts_nothing_that_was_synced():
    leader, batches = compacted()
    copied = contents(leader)
    for crash_at in range(1, 60):
        disk = ModelledDisk(random.Random(crash_at))
        follower = open_log(disk, KEEPING)
        durable = 0
        disk.crash_at = disk.operations + crash_at
        with contextlib.suppress(Crashed):
            for each in batches:
                follow(follower, [each])
                durable = follower.flush()
        disk.crash_at = None
        follower.abandon()
        disk.crash()
        again = open_log(disk, KEEPING, recovery_point=durable)
        found = contents(again)
        assert again.log_end_offset >= durable and found == copied[: len(found)]
        assert [record.offset for record in copied if record.offset < durable] == [
            record.offset for record in found if record.offset < durable
        ]
        follow(again, [each for each in batches if read_header(each).base_offset >= again.log_end_offset])
        assert contents(again) == copied


@pytest.mark.parametrize("operation", ["append", "sync", "sync_dir"])
@pytest.mark.parametrize("error", [DiskFull(errno.ENOSPC, "full"), DiskError(errno.EIO, "broken")])
def test_without_the_mark_there_is_no_gap(operation, error):
    disk = ModelledDisk(random.Random(1))
    log = open_log(disk, KEEPING)
    log.append_as_follower(batch(base_offset=0, leader_epoch=0))
    late = batch(base_offset=7, leader_epoch=0)
    disk.fail_next(operation, error, path_contains="" if operation == "sync_dir" else COMPACTED_FILE)
    with pytest.raises(DiskError):
        log.append_as_follower(late, gaps=True)
    assert log.log_end_offset == 1
    if isinstance(error, DiskFull):
        assert log.failure is None
        log.append_as_follower(late, gaps=True)
        assert log.log_end_offset == 8
    else:
        assert log.failure is not None


def killed_at_its_sync(operation, path):
    if operation == "sync" and path.endswith(COMPACTED_FILE):
        raise Crashed(path)


@pytest.mark.parametrize("ended", ["its sync failed", "killed before its sync"])
def test_a_mark_that_the_process_before_did_not_sync_is_synced_before_the_next_gap(ended):
    """It reads it from the page cache, which a loss of power takes."""
    for seed in range(20):
        disk = ModelledDisk(random.Random(seed))
        log = open_log(disk, KEEPING)
        log.append_as_follower(batch(base_offset=0, leader_epoch=0))
        log.flush()
        late = batch(base_offset=7, leader_epoch=0)
        if ended == "its sync failed":
            disk.fail_next("sync", DiskError(errno.EIO, "broken"), path_contains=COMPACTED_FILE)
            with pytest.raises(DiskError):
                log.append_as_follower(late, gaps=True)
        else:
            disk.on_operation = killed_at_its_sync
            with pytest.raises(Crashed):
                log.append_as_follower(late, gaps=True)
            disk.on_operation = None
        log.abandon()
        disk.kill()
        second = open_log(disk, KEEPING, recovery_point=1)
        assert disk.exists(f"{second.directory}/{COMPACTED_FILE}") and second.log_end_offset == 1
        second.append_as_follower(late, gaps=True)
        second.flush()
        second.abandon()
        disk.crash()
        assert open_log(disk, KEEPING, recovery_point=1).log_end_offset == 8


def test_who_does_not_expect_a_gap_gets_none():
    log = open_log(ModelledDisk(random.Random(1)), KEEPING)
    with pytest.raises(OffsetsOutOfOrder):
        log.append_as_follower(batch(base_offset=7, leader_epoch=0))
    log.append_as_follower(batch(base_offset=7, leader_epoch=0), gaps=True)
    with pytest.raises(OffsetsOutOfOrder):
        log.append_as_follower(batch(base_offset=9, leader_epoch=0))
    for base in (0, 6, 7):
        with pytest.raises(OffsetsOutOfOrder):
            log.append_as_follower(batch(base_offset=base, leader_epoch=0), gaps=True)


@pytest.mark.parametrize("recovery_point", [0, 41])
def test_a_segment_that_has_lost_its_tail_is_no_gap(recovery_point):
    """Power is lost before a closed segment is synced: its last pages are gone, and the next segment is there."""
    disk = ModelledDisk(random.Random(1))
    log = filled([(b"k%d" % (number % 2), b"%d" % number) for number in range(40)], disk)
    clean(log)
    for number in range(12):
        lead(log, pairs((b"n%d" % number, b"new")))
    path, following = log.segments[-3].path(".log"), log.segments[-2].base_offset
    kept = [position for position, _ in iter_headers(disk.read(path))][-1]
    log.abandon()
    disk.kill()
    file = disk.open(path)
    file.truncate(kept)
    file.close()
    again = open_log(disk, recovery_point=recovery_point)
    assert again.log_end_offset == following - 1
    assert again.recovered.cut_bytes > 0
