"""Deadlines: one time for each key, and nothing is left of those that were forgotten."""

from __future__ import annotations

import asyncio

from ottla.broker.coordination import Deadlines
from ottla.broker.coordination.deadlines import SPARE


async def test_a_key_is_looked_at_once_at_its_earliest_time() -> None:
    due: list[object] = []
    deadlines, now = Deadlines(due.append), asyncio.get_running_loop().time()
    for key, at in (("b", 0.002), ("a", 9.0), ("a", 0.001), ("a", 5.0), ("gone", 0.0)):
        deadlines.wake(key, now + at)
    deadlines.forget("gone")
    deadlines.forget("never there")
    async with asyncio.timeout(10):
        while len(due) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert due == ["a", "b"] and "a" not in deadlines
    deadlines.close()


async def test_far_times_of_forgotten_keys_take_no_room() -> None:
    deadlines, far = Deadlines(lambda _key: None), asyncio.get_running_loop().time() + 1800
    for number in range(5 * SPARE):
        deadlines.wake(number, far)
        deadlines.wake(number, far - 1)
        deadlines.forget(number)
    assert len(deadlines) <= SPARE
    deadlines.wake("a", far)
    assert "a" in deadlines
    deadlines.close()
