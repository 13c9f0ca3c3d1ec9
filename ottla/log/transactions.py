"""The transactions that hold back a partition's last stable offset (KIP-98). Pure.

Below the last stable offset every transaction is decided, and known to be: an open one holds it at its first offset,
and so does one that has ended until its marker is below the high watermark. Another leader may not have that marker,
and would have to take back what had been shown.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

SWEEP_AT = 1024


@dataclass(slots=True, eq=False)
class Transaction:
    """`marker_offset` is -1 while it is open."""

    producer_id: int
    first_offset: int
    marker_offset: int = -1


class Transactions:
    """`unsettled` has the transactions in the order of their first offsets, the open ones and those that ended but
    were not seen below the high watermark yet. Nothing is searched for: the first one tells the last stable offset, and
    leaves when it is settled. Others that are may stay behind it for a while."""

    __slots__ = ("_high_watermark", "_open", "_sweep_at", "unsettled")

    def __init__(self) -> None:
        self.unsettled: deque[Transaction] = deque()
        self._open: dict[int, Transaction] = {}
        self._high_watermark = 0
        self._sweep_at = SWEEP_AT

    def begin(self, producer_id: int, first_offset: int) -> None:
        """The log has got a transaction's first batch. To be called in the order of offsets."""
        if len(self.unsettled) >= self._sweep_at:
            self.unsettled = deque(each for each in self.unsettled if not self._is_settled(each))
            self._sweep_at = max(SWEEP_AT, 2 * len(self.unsettled))
        transaction = self._open[producer_id] = Transaction(producer_id, first_offset)
        self.unsettled.append(transaction)

    def end(self, producer_id: int, marker_offset: int) -> tuple[int, int] | None:
        """Its marker is in the log: `(its first offset, the last stable offset of a log of which all is replicated)`.

        None when the producer has no open transaction.
        """
        transaction = self._open.pop(producer_id, None)
        if transaction is None:
            return None
        transaction.marker_offset = marker_offset
        others = next(iter(self._open.values()), None)
        return transaction.first_offset, marker_offset + 1 if others is None else others.first_offset

    @property
    def oldest_open(self) -> int | None:
        """The producer id of the open transaction that began first."""
        return next(iter(self._open), None)

    def first_unstable(self, high_watermark: int) -> int | None:
        """The first offset that is not decided yet, None when all below the high watermark is. It never goes back as
        long as the high watermark does not."""
        self._high_watermark = high_watermark
        unsettled = self.unsettled
        while unsettled and self._is_settled(unsettled[0]):
            unsettled.popleft()
        return unsettled[0].first_offset if unsettled else None

    def _is_settled(self, transaction: Transaction) -> bool:
        return 0 <= transaction.marker_offset < self._high_watermark

    def take_over(self, before: Transactions, end_offset: int) -> None:
        """The log was cut to `end_offset`. What had ended below it, without being settled, is so still."""
        ended = [each for each in before.unsettled if 0 <= each.marker_offset < end_offset]
        rows = sorted((*ended, *self._open.values()), key=lambda each: each.first_offset)
        self.unsettled = deque(rows)
        self._high_watermark = before._high_watermark
