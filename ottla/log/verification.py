"""Producers whose next transaction is being verified with its coordinator (KIP-890). Pure; nothing of it is on disk.

A transactional batch that begins a transaction in a partition may only be appended when the coordinator has said that
the partition is part of one, and when no marker came between the question and the append: a marker ends the
transaction that was asked about, and a batch after it would begin one that nobody ever ends.
"""

from __future__ import annotations

MAX_VERIFICATIONS = 10_000
"""Most of them in one partition; then the oldest is forgotten, and whoever holds it is told to try again."""


class Verification:
    """One question to the coordinator, compared by identity. Whoever asks holds on to it until the append.

    `lowest_sequence` is the lowest that was to be appended since: a higher one must not get ahead of it. `strict`: the
    producer bumps its epoch with every transaction (transactions v2), so sequences begin at 0.
    """

    __slots__ = ("asked_ms", "lowest_sequence", "strict")

    def __init__(self, sequence: int, *, strict: bool) -> None:
        self.lowest_sequence = sequence
        self.strict = strict
        self.asked_ms: int | None = None


class Verifications:
    """By producer id and epoch: a question about one epoch says nothing of another. What ends one: the first batch of
    the transaction, a marker of the producer, or time."""

    __slots__ = ("_asked", "_count")

    def __init__(self) -> None:
        self._asked: dict[int, dict[int, Verification]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def ask(self, producer_id: int, epoch: int, sequence: int, *, strict: bool) -> Verification:
        """The producer's question, a new one if there is none."""
        found = self.get(producer_id, epoch)
        if found is not None:
            found.lowest_sequence = min(found.lowest_sequence, sequence)
            return found
        if self._count >= MAX_VERIFICATIONS:
            self.end(next(iter(self._asked)))
        asked = self._asked.setdefault(producer_id, {})[epoch] = Verification(sequence, strict=strict)
        self._count += 1
        return asked

    def get(self, producer_id: int, epoch: int) -> Verification | None:
        return self._asked.get(producer_id, {}).get(epoch)

    def end(self, producer_id: int) -> None:
        self._count -= len(self._asked.pop(producer_id, ()))

    def marked(self, producer_id: int, epoch: int) -> None:
        """A marker of the producer has come: it ends the transaction that is being asked about, or is taken to.

        With transactions v2 it carries the epoch after that of its transaction. If that is the epoch of the question,
        it has ended the transaction before, whose producer did not have to wait for it.
        """
        asked = self._asked.get(producer_id)
        if asked is not None:
            self._keep(producer_id, {of: each for of, each in asked.items() if each.strict and of >= epoch})

    def _keep(self, producer_id: int, kept: dict[int, Verification]) -> None:
        self.end(producer_id)
        if kept:
            self._asked[producer_id] = kept
            self._count += len(kept)

    def expire(self, now_ms: int, ttl_ms: int) -> None:
        """Forget those that were there `ttl_ms` ago already, in the eyes of this method."""
        for producer_id, asked in tuple(self._asked.items()):
            kept = {epoch: each for epoch, each in asked.items() if not _is_old(each, now_ms, ttl_ms)}
            if len(kept) < len(asked):
                self._keep(producer_id, kept)


def _is_old(asked: Verification, now_ms: int, ttl_ms: int) -> bool:
    if asked.asked_ms is None or asked.asked_ms > now_ms:
        asked.asked_ms = now_ms
        return False
    return now_ms - asked.asked_ms >= ttl_ms
