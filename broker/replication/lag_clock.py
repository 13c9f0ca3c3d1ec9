"""The time in which followers may lag: it stands still while this process cannot serve them."""

from __future__ import annotations

import asyncio


class LagClock:
    """Loop time, less the time that the loop was stalled (slow disk, SIGSTOP, a long computation).

    A follower that could not be answered did not lag. Without this a slow disk of the *leader* drops its healthy
    followers from the ISR, and the partition then dies with the leader (KAFKA-8733). A tick that comes late
    tells how long nothing was served; stalls shorter than a tick do not matter, as `tick_s` is far below the lag time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, tick_s: float) -> None:
        self._loop = loop
        self._tick_s = tick_s
        self._stalled = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """Seconds. A stall that goes on, or that no tick has noticed yet, is left out as well."""
        now = self._loop.time()
        if self._timer is None:
            return now - self._stalled
        return (now if now < self._due else self._due) - self._stalled

    def start(self) -> None:
        self._due = self._loop.time() + self._tick_s
        self._timer = self._loop.call_at(self._due, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._stalled += max(0.0, self._loop.time() - self._due)
        self.start()
