"""Which brokers a consumer is waiting for, which ones do not answer, and whom to ask for a partition. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from ottla.client.consumer.answer import SHUN
from ottla.client.consumer.position import PartitionState

STALL: Final = 1.0
"""Seconds beyond the long poll's own time after which a broker is taken for silent."""


class Sources:
    """Times are the loop's, in seconds; `max_wait` is how long a broker may let a Fetch wait."""

    def __init__(self, max_wait: float) -> None:
        self._limit = max_wait + STALL
        self._asked: dict[int, float] = {}
        self._in_vain: dict[int, tuple[int, float]] = {}

    def asked(self, broker: int, now: float) -> None:
        self._asked[broker] = now

    def over(self, broker: int) -> None:
        """It has answered, or will not."""
        del self._asked[broker]

    def answered(self, broker: int) -> None:
        self._in_vain.pop(broker, None)

    def in_vain(self, broker: int, now: float, backoff: Callable[[int], float]) -> None:
        """It has not answered: it is left alone for as long as `backoff` says for so many times in a row."""
        count = self._in_vain.get(broker, (0, 0.0))[0] + 1
        self._in_vain[broker] = (count, now + backoff(count))

    def is_busy(self, broker: int) -> bool:
        return broker in self._asked

    def rests_until(self, broker: int) -> float:
        return self._in_vain.get(broker, (0, 0.0))[1]

    def is_late(self, broker: int, now: float) -> bool:
        return now - self._asked.get(broker, now) >= self._limit

    def silent(self, now: float) -> tuple[bool, list[float]]:
        """Whether somebody is silent, as a paused broker is, and when to look again: once a second then."""
        late, looks = False, []
        for at in self._asked.values():
            if now - at >= self._limit:
                late = True
                looks.append(now + STALL)
            else:
                looks.append(at + self._limit)
        return late, looks

    def choose(self, state: PartitionState, leader: int, brokers: Collection[int], now: float) -> int:
        """The leader, or the replica that it has named (KIP-392), for as long as that answers and is one of `brokers`,
        those in the metadata."""
        preferred = state.preferred
        if preferred is None:
            return leader
        if preferred not in brokers or self.is_late(preferred, now) or self.rests_until(preferred) > now:
            state.stay_with_leader(now + SHUN)
        elif now >= state.preferred_until:
            state.preferred = None
        return leader if state.preferred is None else preferred
