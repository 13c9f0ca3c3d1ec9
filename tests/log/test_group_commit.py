"""One fsync for many waiters; errors and truncations reach those they concern."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ottla.log import DiskError, GroupCommit, LogConfig, LogOffline, ModelledDisk, PartitionLog, Truncated
from tests.log.batches import batch, lead


class Gate:
    """Holds every sync of a modelled disk until opened; counts them."""

    def __init__(self, disk: ModelledDisk) -> None:
        self.syncs = 0
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        disk.on_operation = self

    def __call__(self, operation: str, path: str) -> None:
        if operation == "sync" and path.endswith(".log"):
            self.syncs += 1
            self.entered.release()
            assert self.open.wait(10)


@pytest.fixture
def log(disk: ModelledDisk) -> PartitionLog:
    return PartitionLog.open(disk, "data/t-0", LogConfig(), clean=False, now_ms=0)


async def entered(gate: Gate) -> None:
    assert await asyncio.get_running_loop().run_in_executor(None, gate.entered.acquire, True, 10)


async def test_waiters_that_come_during_a_sync_share_the_next(disk: ModelledDisk, log: PartitionLog) -> None:
    gate, commits = Gate(disk), GroupCommit()
    lead(log, batch())
    first = commits.synced(log, 1)
    await entered(gate)
    rest = []
    for at in range(50):
        lead(log, batch())
        rest.append(commits.synced(log, at + 2))
    assert not first.done()
    gate.open.set()
    await asyncio.gather(first, *rest)
    assert log.recovery_point == 51
    assert gate.syncs == 2
    assert commits.synced(log, 51).done()


async def test_an_error_reaches_every_waiter_and_nothing_is_retried(disk: ModelledDisk, log: PartitionLog) -> None:
    commits = GroupCommit()
    lead(log, batch())
    disk.fail_next("sync")
    waiters = [commits.synced(log, 1) for _ in range(3)]
    for waiter in waiters:
        with pytest.raises(DiskError):
            await waiter
    with pytest.raises(LogOffline):
        await commits.synced(log, 1)
    assert log.recovery_point == 0


async def test_a_truncation_during_a_sync_promises_nothing_above_it(disk: ModelledDisk, log: PartitionLog) -> None:
    gate, commits = Gate(disk), GroupCommit()
    for _ in range(4):
        lead(log, batch())
    low, high = commits.synced(log, 2), commits.synced(log, 4)
    await entered(gate)
    disk.on_operation = None
    log.truncate_to(2)
    gate.open.set()
    await low
    with pytest.raises(Truncated):
        await high
    assert log.recovery_point == 2


async def test_a_waiter_that_gave_up_disturbs_nobody(disk: ModelledDisk, log: PartitionLog) -> None:
    gate, commits = Gate(disk), GroupCommit()
    lead(log, batch())
    gone, stays = commits.synced(log, 1), commits.synced(log, 1)
    await entered(gate)
    gone.cancel()
    gate.open.set()
    await stays


async def test_rolling_retention_and_closing_during_a_sync(disk: ModelledDisk) -> None:
    log = PartitionLog.open(disk, "data/u-0", LogConfig(segment_bytes=1), clean=False, now_ms=0)
    gate, commits = Gate(disk), GroupCommit()
    for _ in range(3):
        lead(log, batch())
    waiter = commits.synced(log, 3)
    await entered(gate)
    log.advance_log_start(2)
    assert log.delete_old_segments(0, 3) == 2
    gate.open.set()
    await waiter
    assert log.recovery_point == 3
    assert await commits.run_blocking(lambda: 5) == 5
    gate.open.clear()
    lead(log, batch())
    waiter = commits.synced(log, 4)
    while gate.entered.acquire(blocking=False):
        pass
    await entered(gate)
    log.abandon()
    gate.open.set()
    with pytest.raises(LogOffline):
        await waiter
