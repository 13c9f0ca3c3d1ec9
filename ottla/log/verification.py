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

    __slots__ = ("asked_ms", "epoch", "lowest_sequence", "strict")

    def __init__(self, epoch: int, sequence: int, *, strict: bool) -> None:
        self.epoch = epoch
        self.lowest_sequence = sequence
        self.strict = strict
        self.asked_ms: int | None = None

    def again(self, epoch: int, sequence: int, *, strict: bool) -> None:
        if epoch > self.epoch:
            self.epoch, self.lowest_sequence, self.strict = epoch, sequence, strict
        elif epoch == self.epoch:
            self.lowest_sequence = min(self.lowest_sequence, sequence)


class Verifications:
    """By producer id. What ends a question: the first batch of the transaction, a marker of the producer, or time."""

    __slots__ = ("_asked",)

    def __init__(self) -> None:
        self._asked: dict[int, Verification] = {}

    def __len__(self) -> int:
        return len(self._asked)

    def ask(self, producer_id: int, epoch: int, sequence: int, *, strict: bool) -> Verification:
        """The producer's question, a new one if there is none."""
        found = self._asked.get(producer_id)
        if found is not None:
            found.again(epoch, sequence, strict=strict)
            return found
        if len(self._asked) >= MAX_VERIFICATIONS:
            del self._asked[next(iter(self._asked))]
        asked = self._asked[producer_id] = Verification(epoch, sequence, strict=strict)
        return asked

    def get(self, producer_id: int) -> Verification | None:
        return self._asked.get(producer_id)

    def end(self, producer_id: int) -> None:
        self._asked.pop(producer_id, None)

    def marked(self, producer_id: int, epoch: int) -> None:
        """A marker of the producer has come: it ends the transaction that is being asked about, or is taken to.

        With transactions v2 it carries the epoch after that of its transaction. If that is the epoch of the question,
        it has ended the transaction before, whose producer did not have to wait for it.
        """
        asked = self._asked.get(producer_id)
        if asked is not None and (epoch > asked.epoch or not asked.strict):
            del self._asked[producer_id]

    def expire(self, now_ms: int, ttl_ms: int) -> None:
        """Forget those that were there `ttl_ms` ago already, in the eyes of this method."""
        for producer_id in [key for key, asked in self._asked.items() if _is_old(asked, now_ms, ttl_ms)]:
            self.end(producer_id)


def _is_old(asked: Verification, now_ms: int, ttl_ms: int) -> bool:
    if asked.asked_ms is None or asked.asked_ms > now_ms:
        asked.asked_ms = now_ms
        return False
    return now_ms - asked.asked_ms >= ttl_ms
