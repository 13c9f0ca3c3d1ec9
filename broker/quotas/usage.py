"""How much of a quota is used up. Pure; times are seconds of any monotonic clock.

A bucket is filled at the rate of the quota and holds what it gives in ten seconds, which is what Kafka's eleven windows
of a second let through in a burst. What is taken may make it negative: the wait is the time until it is not.
"""

from __future__ import annotations

from typing import Final

BURST_S: Final = 10.0
MAX_THROTTLE_S: Final = 11.0
"""Nobody waits for longer at a time; the debt stays."""


class Usage:
    """What one set of sharers has used of one quota."""

    __slots__ = ("_at", "_left", "_rate")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._left = rate * BURST_S
        self._at = now

    def take(self, amount: float, rate: float, now: float) -> float:
        """Use `amount`; the result is how many seconds to wait before the next request, 0.0 to MAX_THROTTLE_S."""
        self._left = min(self._left + max(now - self._at, 0.0) * self._rate, rate * BURST_S) - amount
        self._rate, self._at = rate, now
        if self._left >= 0:
            return 0.0
        return min(-self._left / rate, MAX_THROTTLE_S)

    def full(self, now: float) -> bool:
        """Whether nothing is known that a new one would not know."""
        return self._left + (now - self._at) * self._rate >= self._rate * BURST_S
