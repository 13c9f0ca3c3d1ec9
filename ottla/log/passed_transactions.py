"""The transactions that a pass of the log cleaner meets, from its first batch on (Kafka's CleanedTransactionMetadata).
Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from ottla.log.aborted import AbortedTransaction
from ottla.records import BatchHeader


class Ended(NamedTuple):
    """`had_batches`: the pass has met some of the transaction, so its marker still says something. `aborted` is the row
    of the transaction that the marker aborted."""

    had_batches: bool
    aborted: AbortedTransaction | None


class PassedTransactions:
    """To be told of every batch, in order. `aborted`: the rows of all markers from the first batch on, at least.

    All transactions in the part of a log that may be cleaned are decided: what was not aborted is committed.
    """

    def __init__(self, aborted: Iterable[AbortedTransaction]) -> None:
        self._to_come = deque(sorted(aborted, key=lambda row: row.first_offset))
        self._aborted: dict[int, AbortedTransaction] = {}
        self._with_batches: set[int] = set()

    def is_aborted(self, header: BatchHeader) -> bool:
        """Whether a batch that is no marker belongs to an aborted transaction."""
        if not header.is_transactional:
            return False
        self._with_batches.add(header.producer_id)
        self._begin_up_to(header.last_offset)
        row = self._aborted.get(header.producer_id)
        return row is not None and header.base_offset < row.last_offset

    def end(self, header: BatchHeader) -> Ended:
        """A marker of a producer."""
        self._begin_up_to(header.last_offset)
        row = self._aborted.pop(header.producer_id, None)
        had_batches = header.producer_id in self._with_batches
        self._with_batches.discard(header.producer_id)
        return Ended(had_batches, row if row is not None and row.last_offset == header.base_offset else None)

    def _begin_up_to(self, offset: int) -> None:
        while self._to_come and self._to_come[0].first_offset <= offset:
            row = self._to_come.popleft()
            self._aborted[row.producer_id] = row
