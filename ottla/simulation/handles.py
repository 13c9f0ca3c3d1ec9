"""asyncio's handles without what a simulation has no use for (debug mode, tracebacks of where they were made).

A simulated second makes thousands of them, so they set no more fields than are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any


class SimulatedHandle(asyncio.Handle):
    """What call_soon returns."""

    __slots__ = ()

    def __init__(  # not that of the base class, on purpose
        self, callback: Callable[..., object], args: tuple[Any, ...], loop: asyncio.AbstractEventLoop, context: Context
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = context
        self._cancelled = False

    def __repr__(self) -> str:
        return f"<Handle {self._callback!r}>"

    def cancel(self) -> None:
        self._cancelled = True
        self._callback = self._args = None  # type: ignore[assignment]


class SimulatedTimer(asyncio.TimerHandle):
    """What call_at returns. `_scheduled` while it is among the timers of the loop."""

    __slots__ = ()

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context,
    ) -> None:
        self._when = when
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = context
        self._cancelled = self._scheduled = False

    def __repr__(self) -> str:
        return f"<Timer {self._when:.6f} {self._callback!r}>"

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            self._callback = self._args = None  # type: ignore[assignment]
            if self._scheduled:
                self._loop.cancelled += 1  # type: ignore[attr-defined]
