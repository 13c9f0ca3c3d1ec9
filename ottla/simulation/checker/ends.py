"""The end of a log, as ListOffsets tells it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from ottla.simulation.checker.finding import Finding
from ottla.simulation.checker.model import Model, Op

_Ends = dict[int, tuple[int, Op]]
"""By leader epoch the highest end that was known of in it, and who was told."""
_Epochs = dict[str, list[list[int]]]


def stale_end(model: Model) -> Iterator[Finding]:
    """An end that is not behind what was known before it was asked for: an acknowledgement, a record that was read, or
    an earlier answer, of the same leader epoch or an earlier one (KIP-207: a leader does not answer before it knows
    what earlier ones have committed).

    Later epochs do not count: a leader that was replaced and has not heard of it tells the end as it was, in Kafka too.
    Nor does the epoch in which a record was written, once there is a later one: its leader may have committed it, and
    told so (to a producer that repeats itself, to a consumer), while the one that wrote it does not know, nor a leader
    between the two. Answers of the latest epoch that there was must have it in either case.
    """
    epochs: _Epochs = {}
    newest: dict[str, int] = {}
    for op in model.ops:
        if op.f == "epochs" and op.type == "ok":
            epochs.update(op.value)
    known: dict[str, _Ends] = {}
    asked: dict[int, dict[str, _Ends]] = {}
    for _, op, begins in sorted(_moments(model), key=lambda moment: moment[0]):
        if begins:
            asked[op.index] = {key: dict(known[key]) for key in op.value if key in known}
            continue
        if op.f == "ends":
            yield from _judge(op, asked.pop(op.index))
        if op.f == "leads":
            newest.update(op.value)
        for key, end, epoch in _shown(model, op, epochs, newest):
            ends = known.setdefault(key, {})
            if epoch not in ends or ends[epoch][0] < end:
                ends[epoch] = (end, op)


def _moments(model: Model) -> Iterator[tuple[int, Op, bool]]:
    for op in model.ops:
        if op.completed is not None and op.type == "ok":
            if op.f == "ends":
                yield op.index, op, True
            yield op.completed, op, False


def _judge(op: Op, known: dict[str, _Ends]) -> Iterator[Finding]:
    for key, (end, epoch) in op.value.items():
        earlier = [told for of, told in known.get(key, {}).items() if of <= epoch]
        least, before = max(earlier, key=lambda told: told[0], default=(end, op))
        if end < least:
            text = f"in epoch {epoch} the end was said to be {end}, and was known to be at least {least}"
            yield Finding("stale-end", key, (before.index, op.index), text)


def _shown(model: Model, op: Op, epochs: _Epochs, newest: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    """Keys, with what the end of their log is at least after this operation, and in which epoch that was so at the
    latest; `newest` is the last epoch so far."""
    if op.f == "ends":
        for key, (end, epoch) in op.value.items():
            yield key, end, epoch
    offsets = [(send.key, send.offset) for send in model.sends_of.get(op.index, ()) if send.offset is not None]
    offsets += [(key, max(offset for offset, _ in records)) for key, records in op.polls() if records]
    for key, offset in offsets:
        if key in epochs:
            at = bisect_right(epochs[key], offset, key=lambda each: each[1])
            written = epochs[key][at - 1][0] if at else -1
            yield key, offset + 1, max(written, newest.get(key, written))
