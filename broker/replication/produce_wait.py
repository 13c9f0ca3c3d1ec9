"""Produce requests that wait for the high watermark (acks=all) or for a sync (acks=1 with flush "synced").

One `ProduceWait` stands for a whole request, one `AckQueue` for each partition. Registering and settling cost O(1) a
partition; there is no Task and no scan, however many requests are in flight.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from kio.schema.errors import ErrorCode

SWEEP_AT = 1024


class ProduceWait:
    """The partitions of one request that are not acknowledged yet.

    Slots are the caller's own numbers for them. `errors` has the slots that failed; a slot that is neither waited for
    nor in `errors` is acknowledged.
    """

    __slots__ = ("_loop", "_then", "_timer", "errors", "slots")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.slots: set[int] = set()
        self._then: Callable[[Mapping[int, ErrorCode]], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.errors: dict[int, ErrorCode] = {}

    @property
    def done(self) -> bool:
        """Nothing to wait for (any more): `errors` is final."""
        return not self.slots

    def expect(self, slot: int) -> None:
        self.slots.add(slot)

    def settle(self, slot: int, error: ErrorCode) -> None:
        """The partition's outcome. Late ones, after the timeout, change nothing."""
        if slot not in self.slots:
            return
        self.slots.remove(slot)
        if error is not ErrorCode.none:
            self.errors[slot] = error
        if not self.slots:
            self._finish()

    def start(self, timeout_s: float, then: Callable[[Mapping[int, ErrorCode]], None]) -> None:
        """Begin to wait, once every partition is registered; REQUEST_TIMED_OUT for what is left after `timeout_s`.

        `then` is called with `errors` when no slot is left, from a callback of its own: not in the middle of what has
        settled the last one.
        """
        self._then = then
        if not self.slots:
            self._finish()
        else:
            self._timer = self._loop.call_later(timeout_s, self.expire)

    def expire(self) -> None:
        for slot in tuple(self.slots):
            self.settle(slot, ErrorCode.request_timed_out)

    def cancel(self) -> None:
        """The client has gone: forget everything, and call nothing any more."""
        self.slots.clear()
        self._then = None
        self._finish()

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._then is not None:
            self._loop.call_soon(self._ended)

    def _ended(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(self.errors)


class AckQueue:
    """The waiters of one partition in one leader epoch, by the offset they need, which only grows."""

    __slots__ = ("_sweep_at", "waiters")

    def __init__(self) -> None:
        self._sweep_at = SWEEP_AT
        self.waiters: deque[tuple[int, ProduceWait, int]] = deque()

    def push(self, end_offset: int, wait: ProduceWait, slot: int) -> None:
        """Settle `slot` once everything below `end_offset` is safe.

        A retried batch is lower than what came after it; it then waits for the last of those, to keep the order.
        Waits that ended meanwhile (timeout) leave from the front, and now and then from anywhere, so that they cannot
        pile up behind a stuck replica, nor behind one request that waits for longer.
        """
        waiters = self.waiters
        if len(waiters) >= self._sweep_at:
            self.waiters = waiters = deque(row for row in waiters if not row[1].done)
            self._sweep_at = max(SWEEP_AT, 2 * len(waiters))
        while waiters and not waiters[0][1].slots:
            waiters.popleft()
        if waiters and waiters[-1][0] > end_offset:
            end_offset = waiters[-1][0]
        wait.slots.add(slot)
        waiters.append((end_offset, wait, slot))

    def release(self, offset: int) -> None:
        """Everything below `offset` is safe."""
        waiters = self.waiters
        while waiters and waiters[0][0] <= offset:
            _, wait, slot = waiters.popleft()
            wait.settle(slot, ErrorCode.none)

    def fail(self, error: ErrorCode) -> None:
        waiters, self.waiters = self.waiters, deque()
        for _, wait, slot in waiters:
            wait.settle(slot, error)
