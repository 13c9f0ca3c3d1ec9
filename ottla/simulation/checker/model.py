"""A history made ready for judging: operations with their outcomes, who wrote what, and the logs that follow from it.

Definitions, after Jepsen's kafka workload:

* An operation is *committed* if it is ok, or if it is info and something that it sent was read. Only a transaction is
  committed as a whole: of a plain `send` with several records each stands for itself, and is *acknowledged* as soon as
  it has an offset.
* ``V[key][offset]`` are the values from sends that are committed, and from all polls, also those of operations that
  failed: a poller must never see what is not safe.
* The *rank* of an offset is its place among all offsets known of its key. Logs have holes (control records, values that
  nobody read), and so neighbours are neighbours by rank.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ottla.simulation.history import Entry, Function


@dataclass(frozen=True, slots=True)
class Op:
    """An operation: `index` of its invocation, `completed` the index at which its outcome was known, None if it never
    was. `value` is that of the outcome."""

    index: int
    completed: int | None
    process: int
    f: Function
    type: Literal["ok", "fail", "info"]
    value: Any
    error: str | None
    invoked_ns: int
    completed_ns: int | None
    rebalanced: frozenset[str] = frozenset()

    def polls(self) -> Iterator[tuple[str, list[list[int]]]]:
        """What it was given: (key, [[offset, value], ...])."""
        if self.f in ("poll", "txn"):
            for micro in self.value:
                if micro[0] == "poll":
                    yield from micro[1].items()


class Send(NamedTuple):
    """One record of an operation."""

    key: str
    value: int
    offset: int | None
    op: Op

    @property
    def acknowledged(self) -> bool:
        """The client was promised that it stays."""
        return self.op.type == "ok" or (self.op.type == "info" and self.op.f == "send" and self.offset is not None)


def pair(entries: Iterable[Entry]) -> list[Op]:
    """Operations in the order of their invocations.

    Raises ValueError for a process that does two at once, ends what it did not begin, or goes on after an info.
    """
    order: list[Entry] = []
    ends: dict[int, Entry] = {}
    open_ops: dict[int, Entry] = {}
    gone: set[int] = set()
    for entry in entries:
        if entry.type == "invoke":
            if entry.process in open_ops or entry.process in gone:
                raise ValueError(
                    f"process {entry.process} begins operation {entry.index} and has not ended another one"
                )
            open_ops[entry.process] = entry
            order.append(entry)
            continue
        invoked = open_ops.pop(entry.process, None)
        if invoked is None or invoked.f != entry.f:
            raise ValueError(f"process {entry.process} ends at {entry.index} what it has not begun")
        ends[invoked.index] = entry
        if entry.type == "info":
            gone.add(entry.process)
    return [_op(invoked, ends.get(invoked.index)) for invoked in order]


def _op(invoked: Entry, end: Entry | None) -> Op:
    if end is None or end.type == "invoke":
        return Op(invoked.index, None, invoked.process, invoked.f, "info", invoked.value, None, invoked.t_mono_ns, None)
    known = end.type != "info"
    return Op(
        index=invoked.index,
        completed=end.index if known else None,
        process=invoked.process,
        f=invoked.f,
        type=end.type,
        value=invoked.value if end.value is None else end.value,
        error=end.error,
        invoked_ns=invoked.t_mono_ns,
        completed_ns=end.t_mono_ns,
        rebalanced=frozenset(key for keys in end.rebalance_log or () for key in keys),
    )


class Log:
    """What is known of one key: `values` by offset, `offsets` in order, `reads` (the ops that polled a value)."""

    def __init__(self) -> None:
        self.values: dict[int, list[int]] = {}
        self.places: dict[int, list[int]] = {}
        self.reads: dict[int, list[Op]] = {}
        self.ok_reads: set[int] = set()
        self.offsets: list[int] = []
        self._ranks: dict[int, int] = {}

    def add(self, offset: int, value: int) -> None:
        """Somebody saw the value at the offset."""
        there = self.values.get(offset)
        if there is None:
            self.values[offset] = [value]
        elif value in there:
            return
        else:
            there.append(value)
        self.places.setdefault(value, []).append(offset)

    def close(self) -> None:
        """All is added: reckon ranks."""
        self.offsets = sorted(self.values)
        self._ranks = {offset: rank for rank, offset in enumerate(self.offsets)}

    def rank(self, offset: int) -> int:
        """The place of a known offset."""
        return self._ranks[offset]

    def rank_before(self, offset: int) -> int:
        """The rank of the last known offset below any offset; -1 if there is none."""
        return bisect_left(self.offsets, offset) - 1

    def first_rank(self, value: int) -> int | None:
        """The rank of the lowest offset at which the value was seen."""
        places = self.places.get(value)
        return None if places is None else self._ranks[min(places)]

    def last_rank(self, value: int) -> int | None:
        """The rank of the highest offset at which the value was seen."""
        places = self.places.get(value)
        return None if places is None else self._ranks[max(places)]

    def read_up_to(self) -> int:
        """The highest rank of a value that an ok poll gave; -1 if there was none."""
        return max((self._ranks[min(self.places[value])] for value in self.ok_reads), default=-1)


class Model:
    """A history with everything that the checkers ask of it. Takes O(n log n) for n micro-operations.

    `finished`: in the end somebody has read everything that there is.
    """

    def __init__(self, entries: Iterable[Entry], *, finished: bool = True) -> None:
        self.finished = finished
        self.ops = pair(entries)
        self.logs: dict[str, Log] = {}
        self.sends: list[Send] = []
        self.sends_of: dict[int, list[Send]] = {}
        self.writers: dict[tuple[str, int], list[Send]] = {}
        for op in self.ops:
            self._take_in(op)
        self.committed = [send for send in self.sends if self._is_committed(send)]
        for send in self.committed:
            if send.offset is not None:
                self.logs[send.key].add(send.offset, send.value)
        for log in self.logs.values():
            log.close()

    def _take_in(self, op: Op) -> None:
        if op.f in ("send", "txn"):
            mine = [Send(m[1], m[2][1], m[2][0], op) for m in op.value if m[0] == "send"]
            self.sends_of[op.index] = mine
            self.sends += mine
            for send in mine:
                self.writers.setdefault((send.key, send.value), []).append(send)
                self.logs.setdefault(send.key, Log())
        ok = op.type == "ok"
        for key, records in op.polls():
            log = self.logs.setdefault(key, Log())
            for offset, value in records:
                log.add(offset, value)
                log.reads.setdefault(value, []).append(op)
            if ok:
                log.ok_reads.update([value for _, value in records])

    def _is_committed(self, send: Send) -> bool:
        if send.acknowledged:
            return True
        if send.op.type != "info":
            return False
        together = self.sends_of[send.op.index] if send.op.f == "txn" else [send]
        return any(other.value in self.logs[other.key].ok_reads for other in together)
