"""The loop of a background task that acts when it is woken, or when the time has come that it named itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def step_when_due(wake: asyncio.Event, step: Callable[[], float | None]) -> None:
    """Call `step` whenever `wake` is set, and at the loop time that it returned last (None: only when woken); for ever.

    An exception of `step` ends the loop.
    """
    loop = asyncio.get_running_loop()
    while True:
        wake.clear()
        wake_at = step()
        timer = None if wake_at is None else loop.call_at(wake_at, wake.set)
        try:
            await wake.wait()
        finally:
            if timer is not None:
                timer.cancel()
