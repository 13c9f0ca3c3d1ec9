"""Which records of a compacted log survive: the last one of every key, and for a while the news that it is gone. Pure.

Kafka's rules: a record goes when a later one below the end of the map has its key; a tombstone goes too once the
delete horizon of its batch has passed, which its first cleaning sets (KIP-534). Offsets never change. A batch that is
left without records goes as well, unless it carries the last sequence of a producer. Records of aborted transactions go
at once. A marker stays as long as there was something of its transaction, and then until the delete horizon that it
gets has passed: a reader that is in the middle of the transaction must still see it end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from ottla.log.aborted import AbortedTransaction
from ottla.log.passed_transactions import PassedTransactions
from ottla.records import BatchHeader, decode_batch, rewrite_batch

# What an entry takes: digest, offset and its share of the table, as CPython keeps them.
BYTES_PER_KEY = 200
_DIGEST = 16


class KeyOffsets:
    """The last offset of every key, by a digest of it; takes no more than about `max_bytes`.

    `end`: every record below is in it.
    """

    __slots__ = ("_capacity", "_offsets", "end")

    def __init__(self, start: int, max_bytes: int) -> None:
        self._offsets: dict[bytes, int] = {}
        self._capacity = max(1, max_bytes // BYTES_PER_KEY)
        self.end = start

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, header: BatchHeader, data: bytes) -> bool:
        """Take in the next batch; False, with nothing changed, when it has no room. The first always has."""
        if not header.count:
            self.end = header.next_offset
            return True
        if self._offsets and len(self._offsets) + header.count > self._capacity:
            return False
        for record in decode_batch(data):
            if record.key is not None:
                self._offsets[blake2b(record.key, digest_size=_DIGEST).digest()] = record.offset
        self.end = header.next_offset
        return True

    def pass_over(self, header: BatchHeader) -> None:
        """The next batch is a marker, or of an aborted transaction: its keys do not count."""
        self.end = header.next_offset

    def is_last(self, key: bytes, offset: int) -> bool:
        return offset >= self._offsets.get(blake2b(key, digest_size=_DIGEST).digest(), -1)


class LastOfProducer(NamedTuple):
    """The offset of the last record that a live producer wrote, -1 if only a marker of it is known; and its epoch."""

    offset: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Rules:
    """`producers`: by producer id. `transactions` is told of every batch of the pass. Times in ms."""

    last: KeyOffsets
    now_ms: int
    delete_retention_ms: int
    producers: Mapping[int, LastOfProducer]
    transactions: PassedTransactions

    def keeps_producer(self, header: BatchHeader) -> bool:
        """Whether the batch is what the state of its producer would be made from again, records or no records."""
        last = self.producers.get(header.producer_id)
        if last is None:
            return False
        if last.offset >= 0:
            return last.offset == header.last_offset
        return header.is_control and last.epoch == header.producer_epoch


class Cleaned(NamedTuple):
    """`batch`: as it is to be from now on, None when it goes. `aborted`: what its marker still says was aborted."""

    batch: bytes | None
    aborted: AbortedTransaction | None = None


def clean_batch(header: BatchHeader, data: bytes, rules: Rules) -> Cleaned:
    """What becomes of the next batch; `data` itself if nothing changes. Raises CorruptBatch."""
    if header.is_control:
        return _clean_marker(header, data, rules)
    if rules.transactions.is_aborted(header):
        return Cleaned(_without_records(header, rules))
    return Cleaned(data if header.last_offset >= rules.last.end else _clean_records(header, data, rules))


def _clean_marker(header: BatchHeader, data: bytes, rules: Rules) -> Cleaned:
    if header.producer_id < 0:
        return Cleaned(data)
    had_batches, aborted = rules.transactions.end(header)
    if had_batches:
        return Cleaned(data, aborted)
    if header.count and not header.has_delete_horizon:
        horizon = rules.now_ms + rules.delete_retention_ms
        return Cleaned(rewrite_batch(header, decode_batch(data), delete_horizon=horizon))
    if header.count and rules.now_ms < header.base_timestamp:
        return Cleaned(data)
    return Cleaned(_without_records(header, rules))


def _without_records(header: BatchHeader, rules: Rules) -> bytes | None:
    return emptied(header) if rules.keeps_producer(header) else None


def _clean_records(header: BatchHeader, data: bytes, rules: Rules) -> bytes | None:
    expired = header.has_delete_horizon and rules.now_ms >= header.base_timestamp
    kept, tombstones = [], False
    for record in decode_batch(data) if header.count else ():
        if record.key is None or not rules.last.is_last(record.key, record.offset):
            continue
        if record.value is None:
            if expired:
                continue
            tombstones = True
        kept.append(record)
    horizon = None
    if tombstones and not header.has_delete_horizon:
        horizon = rules.now_ms + rules.delete_retention_ms
    if not kept:
        return _without_records(header, rules)
    if horizon is None and len(kept) == header.count:
        return data
    return rewrite_batch(header, kept, delete_horizon=horizon)


def emptied(header: BatchHeader) -> bytes:
    """The batch without its records: it still says which offsets and sequences there were."""
    return rewrite_batch(header, ())
