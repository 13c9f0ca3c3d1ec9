"""The order in which one process sees and writes the records of one key.

Between two operations the names of the anomalies are plain, within one they begin with `int-`. Positions are the
process's own while it reads by assignment: an `assign` with an offset is as if everything before it had been read.
Under `subscribe` the group moves them, and only what happens within one poll is judged, and not of keys that were
rebalanced meanwhile.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ottla.simulation.checker.finding import Finding
from ottla.simulation.checker.model import Log, Model, Op

_Last = dict[str, tuple[int, int]]
"""By key the rank that was last read or written, and the operation that did."""


def poll_order(model: Model) -> Iterator[Finding]:
    """poll-skip, nonmonotonic-poll, int-poll-skip, int-nonmonotonic-poll."""
    readers: dict[int, _Last | None] = {}
    for op in model.ops:
        if op.type != "ok":
            continue
        if op.f == "assign":
            readers[op.process] = _assigned(model, op, readers.get(op.process) or {})
        elif op.f == "subscribe":
            readers[op.process] = None
        elif op.f in ("poll", "txn"):
            yield from _polled(model, op, readers.setdefault(op.process, {}))


def _assigned(model: Model, op: Op, last: _Last) -> _Last:
    kept: _Last = {}
    for key, offset in op.value.items():
        if offset is not None:
            # Not in `logs` when nobody ever saw a record of it.
            kept[key] = (model.logs[key].rank_before(offset) if key in model.logs else -1, op.index)
        elif key in last:
            kept[key] = last[key]
    return kept


def _polled(model: Model, op: Op, last: _Last | None) -> Iterator[Finding]:
    inside: _Last = {}
    for key, records in op.polls():
        if key in op.rebalanced or not records:
            continue
        log = model.logs[key]
        ranks = [log.rank(offset) for offset, _ in records]
        if key in inside:
            yield from _step(log, key, "int-", inside[key], ranks[0], op)
        elif last is not None and key in last:
            yield from _step(log, key, "", last[key], ranks[0], op)
        for before, after in itertools.pairwise(ranks):
            if after != before + 1:
                yield from _step(log, key, "int-", (before, op.index), after, op)
        inside[key] = (ranks[-1], op.index)
    if last is not None:
        last.update(inside)


def _step(log: Log, key: str, prefix: str, before: tuple[int, int], rank: int, op: Op) -> Iterator[Finding]:
    was, where = before
    if rank == was + 1:
        return
    ops = (op.index,) if where == op.index else (where, op.index)
    offset = log.offsets[rank]
    if rank <= was:
        text = f"offset {offset} was read again after offset {log.offsets[was]}"
        yield Finding(f"{prefix}nonmonotonic-poll", key, ops, text)
    else:
        skipped = [log.offsets[i] for i in range(was + 1, min(rank, was + 6))]
        text = f"offset {offset} was read and {skipped}{'...' if rank > was + 6 else ''} before it were not"
        yield Finding(f"{prefix}poll-skip", key, ops, text)


def send_order(model: Model) -> Iterator[Finding]:
    """nonmonotonic-send, int-nonmonotonic-send: what was sent later has the lower offset."""
    writers: dict[int, _Last] = {}
    for op in model.ops:
        last = writers.setdefault(op.process, {})
        inside: _Last = {}
        for send in model.sends_of.get(op.index, ()):
            rank = None if op.type == "fail" else model.logs[send.key].first_rank(send.value)
            if rank is None:
                continue
            name, before = "int-nonmonotonic-send", inside.get(send.key)
            if before is None:
                name, before = "nonmonotonic-send", last.get(send.key)
            if before is not None and rank <= before[0]:
                offsets = model.logs[send.key].offsets
                text = f"value {send.value} is at offset {offsets[rank]}, an earlier one at {offsets[before[0]]}"
                ops = (op.index,) if before[1] == op.index else (before[1], op.index)
                yield Finding(name, send.key, ops, text)
            inside[send.key] = (rank, op.index)
        last.update(inside)
