"""Requests that wait: acknowledgements in order of offset, long polls woken by bytes."""

from __future__ import annotations

import asyncio

from kio.schema.errors import ErrorCode

from ottla.broker.replication import WAKE, FetchWait, ProduceWait
from ottla.broker.replication.fetch_wait import NEWS, NEWS_WITHIN_S, Watchers
from ottla.broker.replication.lag_clock import LagClock
from ottla.broker.replication.produce_wait import AckQueue
from tests.replication.waiting import errors_of, over


async def test_a_request_is_answered_when_its_last_partition_is() -> None:
    loop = asyncio.get_running_loop()
    first, second, wait = AckQueue(), AckQueue(), ProduceWait(loop)
    first.push(10, wait, 0)
    second.push(5, wait, 1)
    answer = errors_of(wait, 60)
    first.release(9)
    second.release(5)
    assert not answer.done()
    first.release(12)
    assert await answer == {} and not first.waiters and not second.waiters


async def test_failures_are_by_slot_and_a_late_commit_changes_nothing() -> None:
    loop = asyncio.get_running_loop()
    lost, stuck, wait = AckQueue(), AckQueue(), ProduceWait(loop)
    lost.push(1, wait, 7)
    stuck.push(1, wait, 8)
    answer = errors_of(wait, 60)
    lost.fail(ErrorCode.not_leader_or_follower)
    wait.expire()
    expected = {7: ErrorCode.not_leader_or_follower, 8: ErrorCode.request_timed_out}
    assert await answer == expected
    stuck.release(1)
    assert wait.errors == expected


async def test_the_timeout_comes_by_itself() -> None:
    queue, wait = AckQueue(), ProduceWait(asyncio.get_running_loop())
    queue.push(1, wait, 0)
    assert await errors_of(wait, 0.01) == {0: ErrorCode.request_timed_out}


async def test_waits_that_timed_out_do_not_pile_up_and_a_retry_keeps_the_order() -> None:
    loop = asyncio.get_running_loop()
    queue = AckQueue()
    for offset in range(1, 100):
        wait = ProduceWait(loop)
        queue.push(offset, wait, 0)
        wait.expire()
    assert len(queue.waiters) == 1
    newer, retried = ProduceWait(loop), ProduceWait(loop)
    queue.push(200, newer, 0)
    queue.push(150, retried, 0)
    queue.release(199)
    assert not retried.done
    queue.release(200)
    assert newer.done and retried.done


async def test_a_long_poll_counts_bytes_and_stops_watching() -> None:
    loop = asyncio.get_running_loop()
    watchers, wait = Watchers(), FetchWait(loop, 100, loop.time() + 60)
    wait.hold(watchers.add(wait.gained, follower=False))
    watchers.appended(5, 60)
    watchers.appended(9, 60)
    watchers.committed(5, 5)
    assert not wait.over
    watchers.committed(9, 9)
    assert wait.over
    heard: list[int] = []
    stop = watchers.add(heard.append, follower=True)
    watchers.committed(10, 10)
    watchers.appended(11, 7)
    watchers.changed()
    stop()
    watchers.changed()
    assert heard == [NEWS, 7, WAKE]


async def test_news_of_the_high_watermark_wait_for_data_but_not_for_long() -> None:
    loop = asyncio.get_running_loop()
    watchers = Watchers()
    with_data, alone = FetchWait(loop, 1, loop.time() + 60), FetchWait(loop, 1, loop.time() + 60)
    for wait in (with_data, alone):
        wait.hold(watchers.add(wait.gained, follower=True))
    began = loop.time()
    watchers.committed(1, 1)
    assert not with_data.over and not alone.over
    with_data.gained(10)
    assert with_data.over
    for high_watermark in range(2, 5):  # later news do not put off the telling of the first
        await asyncio.sleep(NEWS_WITHIN_S / 4)
        watchers.committed(high_watermark, high_watermark)
    await over(alone)
    assert loop.time() - began >= NEWS_WITHIN_S * 0.9
    soon = FetchWait(loop, 1, loop.time() + NEWS_WITHIN_S / 100)
    soon.news()
    await over(soon)
    assert loop.time() - began < 60


async def test_a_long_poll_ends_at_its_deadline() -> None:
    loop = asyncio.get_running_loop()
    await over(FetchWait(loop, 1, loop.time() + 0.01))


class StalledLoop(asyncio.SelectorEventLoop):
    """A loop whose clock a test moves."""

    at = 0.0

    def time(self) -> float:
        return self.at


def test_lag_time_stands_still_while_the_leader_is_stalled() -> None:
    """KAFKA-8733: a slow disk (or a pause) of the leader must not make its followers lag."""
    loop = StalledLoop()
    clock = LagClock(loop, 1.0)
    clock.start()
    loop.at = 0.5
    assert clock.now() == 0.5
    loop.at = 41.0  # nothing ran for forty seconds
    assert clock.now() == 1.0
    clock._tick()
    assert clock.now() == 1.0
    loop.at = 41.5
    assert clock.now() == 1.5
    clock.stop()
    loop.close()
