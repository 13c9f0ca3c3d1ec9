"""Which partition of an internal topic a name belongs to: Java's `String.hashCode`, as Kafka has it."""

from __future__ import annotations

from typing import Final

OFFSETS_TOPIC: Final = "__consumer_offsets"
TRANSACTIONS_TOPIC: Final = "__transaction_state"
INTERNAL_TOPICS: Final = frozenset({OFFSETS_TOPIC, TRANSACTIONS_TOPIC})

_MASK = 0xFFFFFFFF


def java_hash(text: str) -> int:
    """`String.hashCode`: over UTF-16 code units, as a signed 32-bit number."""
    value = 0
    data = text.encode("utf-16-be", "surrogatepass")
    for at in range(0, len(data), 2):
        value = value * 31 + (data[at] << 8 | data[at + 1]) & _MASK
    return value - (1 << 32) if value >= 1 << 31 else value


def partition_for(name: str, partitions: int) -> int:
    """Kafka's `Utils.abs(hash) % partitions`, where the one hash that has no absolute value counts as 0."""
    value = java_hash(name)
    return 0 if value == -(1 << 31) else abs(value) % partitions
