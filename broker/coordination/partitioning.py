"""Which partition of an internal topic a name belongs to: Java's `String.hashCode`, as Kafka has it."""

from __future__ import annotations

import struct
from operator import mul
from typing import Final

OFFSETS_TOPIC: Final = "__consumer_offsets"
TRANSACTIONS_TOPIC: Final = "__transaction_state"
INTERNAL_TOPICS: Final = frozenset({OFFSETS_TOPIC, TRANSACTIONS_TOPIC})

_MASK = 0xFFFFFFFF
_STEP = 64
_POWERS: Final[tuple[int, ...]] = tuple(pow(31, _STEP - 1 - at, 1 << 32) for at in range(_STEP))
_WHOLE: Final[int] = pow(31, _STEP, 1 << 32)


def java_hash(text: str) -> int:
    """`String.hashCode`: over UTF-16 code units, as a signed 32-bit number.

    Some units at a time, as names come from clients and may have 32,767 of them.
    """
    data = text.encode("utf-16-be", "surrogatepass")
    units: tuple[int, ...] = struct.unpack(f">{len(data) // 2}H", data)
    # The first ones are fewer, so that the others go by whole steps.
    first = len(units) % _STEP
    value: int = sum(map(mul, units[:first], _POWERS[_STEP - first :]))
    for at in range(first, len(units), _STEP):
        value = (value * _WHOLE + sum(map(mul, units[at : at + _STEP], _POWERS))) & _MASK
    value &= _MASK
    return value - (1 << 32) if value >= 1 << 31 else value


def partition_for(name: str, partitions: int) -> int:
    """Kafka's `Utils.abs(hash) % partitions`, where the one hash that has no absolute value counts as 0."""
    value = java_hash(name)
    return 0 if value == -(1 << 31) else abs(value) % partitions
