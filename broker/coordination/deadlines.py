"""One heap for all deadlines of a coordinator, and one timer for its top. Nothing is polled; a heartbeat moves nothing.

A key has at most one entry that counts: its earliest deadline as it was last told. When that comes the key is
looked at, and says when to come again; deadlines that moved away meanwhile cost that one look.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Hashable
from itertools import count

SPARE = 1000
"""As many times that do not count any more are kept, or as many as do count, if those are more."""


class Deadlines:
    """Calls `due(key)` not long after the earliest time that was given for the key (loop time, s), once."""

    def __init__(self, due: Callable[[Hashable], None]) -> None:
        self._due = due
        # The heap has no keys: one that is forgotten may be large, and its time far away.
        self._heap: list[tuple[float, int]] = []
        self._keys: dict[int, Hashable] = {}
        self._armed: dict[Hashable, tuple[float, int]] = {}
        self._order = count()
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0

    def __len__(self) -> int:
        return len(self._heap)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._armed

    def wake(self, key: Hashable, at: float) -> None:
        armed = self._armed.get(key)
        if armed is not None and armed[0] <= at:
            return
        self.forget(key)
        order = next(self._order)
        self._armed[key], self._keys[order] = (at, order), key
        heapq.heappush(self._heap, (at, order))
        self._arm()

    def forget(self, key: Hashable) -> None:
        """There is nothing to look at any more."""
        armed = self._armed.pop(key, None)
        if armed is None:
            return
        del self._keys[armed[1]]
        if len(self._heap) > 2 * len(self._keys) + SPARE:
            self._heap = [entry for entry in self._heap if entry[1] in self._keys]
            heapq.heapify(self._heap)

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
                _, order = heapq.heappop(self._heap)
                if order in self._keys:
                    key = self._keys.pop(order)
                    del self._armed[key]
                    self._due(key)
        finally:
            self._arm()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._heap.clear()
        self._keys.clear()
        self._armed.clear()
