"""Which partition a record goes to: as the Java client does it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Partitioner = Callable[[bytes, Sequence[int]], int]
"""From key bytes and the sorted partition numbers to one of them."""

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995


def murmur2(data: bytes) -> int:
    """MurmurHash2 of `data` with Kafka's seed, as an unsigned 32-bit number."""
    length = len(data)
    h = (0x9747B28C ^ length) & _MASK
    whole = length & ~3
    for i in range(0, whole, 4):
        k = (int.from_bytes(data[i : i + 4], "little") * _M) & _MASK
        k ^= k >> 24
        h = ((h * _M) & _MASK) ^ ((k * _M) & _MASK)
    if whole != length:
        h = ((h ^ int.from_bytes(data[whole:], "little")) * _M) & _MASK
    h ^= h >> 13
    h = (h * _M) & _MASK
    return h ^ (h >> 15)


def partition_by_key(key: bytes, partitions: Sequence[int]) -> int:
    """The Java client's choice for a record with a key. `partitions` is sorted and not empty."""
    return partitions[(murmur2(key) & 0x7FFFFFFF) % len(partitions)]


class StickyChooser:
    """Where records without a key go: one partition until enough bytes went there, then another (KIP-480, KIP-794).

    Args:
        rng: the source of the choice.
        sticky_bytes: how many bytes go to one partition in a row, normally the batch size.
    """

    def __init__(self, rng: random.Random, sticky_bytes: int) -> None:
        self._rng = rng
        self._sticky_bytes = max(sticky_bytes, 1)
        self._current: dict[str, tuple[int, int]] = {}

    def choose(self, topic: str, size: int, partitions: Sequence[int], available: Sequence[int]) -> int:
        """A partition for a record of `size` bytes; one of `available` (those with a leader) if there are any."""
        candidates = available or partitions
        current, used = self._current.get(topic, (-1, 0))
        if current not in candidates or used >= self._sticky_bytes:
            others = [p for p in candidates if p != current] or candidates
            current, used = self._rng.choice(others), 0
        self._current[topic] = (current, used + size)
        return current
