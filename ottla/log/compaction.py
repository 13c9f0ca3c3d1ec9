"""Which records of a compacted log survive: the last one of every key, and for a while the news that it is gone. Pure.

Kafka's rules: a record goes when a later one below the end of the map has its key; a tombstone goes too once the
delete horizon of its batch has passed, which its first cleaning sets (KIP-534). Offsets never change. A batch that is
left without records goes as well, unless it carries the last sequence of a producer. Batches of transactions, and their
markers, are left as they are: which of them count cannot be told here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

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
        if header.is_control or header.is_transactional or not header.count:
            self.end = header.next_offset
            return True
        if self._offsets and len(self._offsets) + header.count > self._capacity:
            return False
        for record in decode_batch(data):
            if record.key is not None:
                self._offsets[blake2b(record.key, digest_size=_DIGEST).digest()] = record.offset
        self.end = header.next_offset
        return True

    def is_last(self, key: bytes, offset: int) -> bool:
        return offset >= self._offsets.get(blake2b(key, digest_size=_DIGEST).digest(), -1)


@dataclass(frozen=True, slots=True)
class Rules:
    """`producers`: the last offset that each live producer wrote. Times in ms."""

    last: KeyOffsets
    now_ms: int
    delete_retention_ms: int
    producers: Mapping[int, int]


def clean_batch(header: BatchHeader, data: bytes, rules: Rules) -> bytes | None:
    """The batch as it is to be from now on, `data` itself if nothing changes; None when it goes."""
    if header.is_control or header.is_transactional or header.last_offset >= rules.last.end:
        return data
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
        return emptied(header) if rules.producers.get(header.producer_id) == header.last_offset else None
    if horizon is None and len(kept) == header.count:
        return data
    return rewrite_batch(header, kept, delete_horizon=horizon)


def emptied(header: BatchHeader) -> bytes:
    """The batch without its records: it still says which offsets and sequences there were."""
    return rewrite_batch(header, ())
