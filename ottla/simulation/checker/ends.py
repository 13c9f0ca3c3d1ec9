"""The end of a log, as ListOffsets tells it."""

from __future__ import annotations

from collections.abc import Iterator

from ottla.simulation.checker.finding import Finding
from ottla.simulation.checker.model import Model, Op


def stale_end(model: Model) -> Iterator[Finding]:
    """An end offset that is not behind what was known before it was asked for: an acknowledgement, a record that was
    read, or an earlier answer (KIP-207: a new leader does not answer before it knows)."""
    known: dict[str, tuple[int, Op]] = {}
    asked: dict[int, dict[str, tuple[int, Op]]] = {}
    for _, op, begins in sorted(_moments(model), key=lambda moment: moment[0]):
        if begins:
            asked[op.index] = {key: known[key] for key in op.value if key in known}
            continue
        if op.f == "ends":
            yield from _judge(op, asked.pop(op.index))
        for key, end in _shown(model, op):
            if key not in known or known[key][0] < end:
                known[key] = (end, op)


def _moments(model: Model) -> Iterator[tuple[int, Op, bool]]:
    for op in model.ops:
        if op.completed is not None and op.type == "ok":
            if op.f == "ends":
                yield op.index, op, True
            yield op.completed, op, False


def _judge(op: Op, known: dict[str, tuple[int, Op]]) -> Iterator[Finding]:
    for key, end in op.value.items():
        least, before = known.get(key, (end, op))
        if end < least:
            text = f"the end was said to be {end}, and was known to be at least {least}"
            yield Finding("stale-end", key, (before.index, op.index), text)


def _shown(model: Model, op: Op) -> Iterator[tuple[str, int]]:
    """By key, what the end of its log is at least, after this operation."""
    if op.f == "ends":
        yield from op.value.items()
    for send in model.sends_of.get(op.index, ()):
        if send.offset is not None:
            yield send.key, send.offset + 1
    for key, records in op.polls():
        if records:
            yield key, max(offset for offset, _ in records) + 1
