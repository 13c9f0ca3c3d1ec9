"""What is so on the event loop that nodes run on, and not on asyncio's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from pathlib import Path

import pytest
import uvloop

from ottla.broker.coordination import Deadlines
from ottla.broker.replication import FetchWait

ROOT = Path(__file__).parents[2]


def on_uvloop(story: Callable[[asyncio.AbstractEventLoop], None]) -> None:
    """Run it, and what it leaves behind until that has had its turn; whatever goes wrong in a callback is raised."""
    loop = uvloop.new_event_loop()
    wrong: list[BaseException] = []
    loop.set_exception_handler(lambda _, context: wrong.append(context["exception"]))
    try:

        async def run() -> None:
            story(loop)
            for _ in range(5):
                await asyncio.sleep(0)

        loop.run_until_complete(run())
    finally:
        loop.close()
    if wrong:
        raise wrong[0]


def test_deadlines_that_are_due_already() -> None:
    """There is no timer for less than half a millisecond: it is a handle that does not know its time."""
    due: list[Hashable] = []
    deadlines = Deadlines(due.append)

    def story(loop: asyncio.AbstractEventLoop) -> None:
        for at, key in ((1.0, "soon"), (0.0, "now"), (-1.0, "late"), (0.0, "now, too")):
            deadlines.wake(key, loop.time() + at)

    on_uvloop(story)
    assert sorted(map(str, due)) == ["late", "now", "now, too"]


def test_a_long_poll_that_is_over_hears_news() -> None:
    ended: list[bool] = []

    def story(loop: asyncio.AbstractEventLoop) -> None:
        wait = FetchWait(loop, 1, loop.time(), news_within=0.0)
        wait.then(lambda: ended.append(True))
        wait.news()

    on_uvloop(story)
    assert ended == [True]


@pytest.mark.parametrize("package", ["ottla", "broker", "controller", "client"])
def test_no_timer_is_asked_for_its_time(package: str) -> None:
    asked = [str(path) for path in (ROOT / package).rglob("*.py") if ".when()" in path.read_text()]
    assert not asked
