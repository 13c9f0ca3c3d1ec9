"""How fast replicas outside of the ISR are copied (KIP-73): a rate in bytes per second, and which replicas it is for.

Pure; times are seconds of one clock.
"""

from __future__ import annotations

from collections.abc import Collection
from math import ceil, inf

UNLIMITED = 2**63 - 1
"""Kafka's default of the rates."""

EVERY_REPLICA = "*"


class Throttle:
    """A bucket that fills with time, at most with what one second brings.

    Whoever spends may overdraw it, as batches come whole and their size is known only afterwards: then it is exhausted
    until the debt is made up, so that the rate holds on average. The rate 0 stops everything.
    """

    __slots__ = ("_at", "_balance", "_rate")

    def __init__(self, rate: float = UNLIMITED) -> None:
        self._rate = inf if rate >= UNLIMITED else float(rate)
        self._balance = self._rate
        self._at = -inf

    @property
    def rate(self) -> float:
        return self._rate

    def set_rate(self, rate: float, now: float) -> None:
        """Go at another rate from now on; what was saved up beyond one second of it is gone."""
        self._fill(now)
        self._rate = inf if rate >= UNLIMITED else float(rate)
        self._balance = self._rate if self._balance == inf else min(self._balance, self._rate)

    def allowance(self, now: float) -> int:
        """How much may be spent now; more, if a batch is larger than that. 0 when it is exhausted."""
        if self._rate == inf:
            return UNLIMITED
        self._fill(now)
        return max(ceil(self._balance), 0)

    def exhausted(self, now: float) -> bool:
        return self.allowance(now) == 0

    def spend(self, size: int, now: float) -> None:
        if self._rate != inf:
            self._fill(now)
            self._balance -= size

    def ready_in(self, now: float) -> float:
        """Seconds until it is not exhausted any more, if nobody else spends."""
        if not self.exhausted(now):
            return 0.0
        return inf if self._rate == 0 else (1 - self._balance) / self._rate

    def _fill(self, now: float) -> None:
        if now > self._at:
            if self._at > -inf and self._rate != inf:
                self._balance = min(self._balance + (now - self._at) * self._rate, self._rate)
            self._at = now


def is_throttled(entries: Collection[str], partition: int, broker: int) -> bool:
    """Whether a list of PARTITION:BROKER, or "*", names this replica."""
    return bool(entries) and (EVERY_REPLICA in entries or f"{partition}:{broker}" in entries)
