"""Which leader epochs wrote what a consumer has read of a partition."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ottla.records import BatchHeader

_MOST: Final = 64


class EpochsRead:
    """From which offset on each leader epoch was read, so that it can be told where that and a leader's log part.

    Of many epochs the oldest are taken for one: a position may then go back further than it would have to.
    """

    __slots__ = ("_starts",)

    def __init__(self) -> None:
        self._starts: list[tuple[int, int]] = []

    @property
    def last(self) -> int:
        """-1 if nothing was read, or in no known epoch."""
        return self._starts[-1][0] if self._starts else -1

    def clear(self) -> None:
        """The position is another one now."""
        self._starts.clear()

    def note(self, batches: Iterable[BatchHeader], offset: int) -> None:
        """These were read from `offset` on."""
        for batch in batches:
            if batch.leader_epoch > self.last:
                self._starts.append((batch.leader_epoch, max(batch.base_offset, offset)))
        while len(self._starts) > _MOST:
            (_, start), (epoch, _) = self._starts[:2]
            self._starts[:2] = [(epoch, start)]

    def cut(self, offset: int) -> None:
        """What begins at `offset` or later was not read."""
        while self._starts and self._starts[-1][1] >= offset:
            self._starts.pop()

    def end_of(self, epoch: int, offset: int) -> int:
        """Up to where everything is of this epoch and earlier ones, as far as is known; `offset` is where all ends."""
        return next((start for later, start in self._starts if later > epoch), offset)
