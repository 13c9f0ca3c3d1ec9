"""One heap for all deadlines of a coordinator, and one timer for its top. Nothing is polled; a heartbeat moves nothing.

A key has at most one entry that counts: its earliest deadline as it was last told. When that comes the key is
looked at, and says when to come again; deadlines that moved away meanwhile cost that one look.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Hashable
from itertools import count


class Deadlines:
    """Calls `due(key)` not long after the earliest time that was given for the key (loop time, s), once."""

    def __init__(self, due: Callable[[Hashable], None]) -> None:
        self._due = due
        self._heap: list[tuple[float, int, Hashable]] = []
        self._armed: dict[Hashable, float] = {}
        self._order = count()
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0

    def __len__(self) -> int:
        return len(self._heap)

    def wake(self, key: Hashable, at: float) -> None:
        armed = self._armed.get(key)
        if armed is not None and armed <= at:
            return
        self._armed[key] = at
        heapq.heappush(self._heap, (at, next(self._order), key))
        self._arm()

    def _arm(self) -> None:
        if not self._heap:
            return
        first = self._heap[0][0]
        if self._timer is not None:
            if self._timer_at <= first:
                return
            self._timer.cancel()
        self._timer, self._timer_at = asyncio.get_running_loop().call_at(first, self._fire), first

    def _fire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        try:
            while self._heap and self._heap[0][0] <= now:
                at, _, key = heapq.heappop(self._heap)
                if self._armed.get(key) == at:
                    del self._armed[key]
                    self._due(key)
        finally:
            self._arm()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._heap.clear()
        self._armed.clear()
