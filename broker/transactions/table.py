"""The transactional ids of one shard as its log has them. Only `replay` changes them, live and when loading alike."""

from __future__ import annotations

from collections.abc import Iterator

from ottla.broker.transactions.model import TRANSITIONS, State, Transaction
from ottla.broker.transactions.records import Entry


class BrokenTransition(AssertionError):
    """A record was committed that no decision can have led to."""


class TransactionTable:
    """`live` once the log is loaded: from then on nothing between two records of an id can be missing."""

    def __init__(self) -> None:
        self.live = False
        self._transactions: dict[str, Transaction] = {}

    def __len__(self) -> int:
        return len(self._transactions)

    def __iter__(self) -> Iterator[tuple[str, Transaction]]:
        """A snapshot, so that it may change on the way."""
        return iter(tuple(self._transactions.items()))

    def get(self, transactional_id: str) -> Transaction | None:
        return self._transactions.get(transactional_id)

    def replay(self, entry: Entry) -> None:
        """Raises BrokenTransition."""
        if self.live:
            _check(entry, self._transactions.get(entry.id))
        if entry.value is None:
            self._transactions.pop(entry.id, None)
        else:
            self._transactions[entry.id] = entry.value


def _check(entry: Entry, before: Transaction | None) -> None:
    state = State.EMPTY if before is None else before.state
    following = State.DEAD if entry.value is None else entry.value.state
    if following not in TRANSITIONS[state]:
        raise BrokenTransition(f"{entry.id}: {state.label} to {following.label}")
    if before is None or entry.value is None:
        return
    older, newer = before.producer, entry.value.producer
    if newer.id == older.id and newer.epoch < older.epoch:
        raise BrokenTransition(f"{entry.id}: {older} to {newer}")
