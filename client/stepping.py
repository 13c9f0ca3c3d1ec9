"""What acts in the background when it is woken, or when the time has come that it named itself. It needs no task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context


class Stepper:
    """Calls `step` in a callback of its own after each `wake`, and at the loop time that it returned last (None: only
    when woken; sometimes it is called before that time).

    An exception of `step` goes to `failed`, and no further step is made.
    """

    def __init__(self, step: Callable[[], float | None], failed: Callable[[BaseException], None]) -> None:
        self._step = step
        self._failed = failed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context: Context | None = None
        self._woken = False
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0

    @property
    def running(self) -> bool:
        return self._loop is not None

    def start(self) -> None:
        """Make the first step soon, and all of them in the present context."""
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._woken = False
        self.wake()

    def stop(self) -> None:
        self._loop = None
        self._cancel_timer()

    def wake(self) -> None:
        """Make a step soon. Does nothing before `start`."""
        if self._loop is not None and not self._woken:
            self._woken = True
            self._loop.call_soon(self._woken_up, context=self._context)

    def step_now(self) -> None:
        """Make a step at once: for a caller that is at the end of a callback of its own."""
        loop = self._loop
        if loop is None:
            return
        try:
            at = self._step()
        except Exception as error:  # noqa: BLE001  handed on
            self.stop()
            self._failed(error)
            return
        if self._loop is not loop:  # `step` has stopped it
            return
        if at is None:
            if self._timer is not None:
                self._cancel_timer()
        elif self._timer is None or at < self._timer_at:
            # A timer that is too early is left alone: to set it anew in each step costs more than one step too many.
            self._cancel_timer()
            self._timer, self._timer_at = loop.call_at(at, self._due, context=self._context), at

    def _woken_up(self) -> None:
        if self._woken:
            self._woken = False
            self.step_now()

    def _due(self) -> None:
        self._timer = None
        self.step_now()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
