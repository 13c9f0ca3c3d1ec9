"""One value per offset for ever, and one offset per value."""

from __future__ import annotations

from collections.abc import Iterator

from ottla.simulation.checker.finding import Finding
from ottla.simulation.checker.model import Model


def inconsistent_offset(model: Model) -> Iterator[Finding]:
    """Two values at one offset: writers or readers were shown different logs."""
    for key, log in sorted(model.logs.items()):
        for offset, values in log.values.items():
            if len(values) > 1:
                ops = _involved(model, key, values)
                yield Finding("inconsistent-offset", key, ops, f"offset {offset} holds {sorted(values)}")


def duplicate(model: Model) -> Iterator[Finding]:
    """One value, sent once, at two offsets."""
    for key, log in sorted(model.logs.items()):
        for value, places in log.places.items():
            if len(places) > 1:
                ops = _involved(model, key, [value])
                yield Finding("duplicate", key, ops, f"value {value} is at offsets {sorted(places)}")


def _involved(model: Model, key: str, values: list[int]) -> tuple[int, ...]:
    writers = {send.op.index for value in values for send in model.writers.get((key, value), ())}
    readers = {op.index for value in values for op in model.logs[key].reads.get(value, ())}
    return tuple(sorted(writers | readers))
