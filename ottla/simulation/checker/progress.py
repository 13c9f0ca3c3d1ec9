"""Whether a run says anything: a cluster that refuses everything keeps every promise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ottla.simulation.checker.model import pair
from ottla.simulation.history import CRASHED, Entry

CONCLUSIVE = 0.9


@dataclass(frozen=True, slots=True)
class Progress:
    """Sends and polls that began and ended while nothing was wrong, and how many of them were ok."""

    calm: int
    ok: int

    @property
    def conclusive(self) -> bool:
        """At least nine of ten were ok; nothing at all says nothing."""
        return self.calm > 0 and self.ok >= CONCLUSIVE * self.calm


def progress(entries: Iterable[Entry], faults: Sequence[tuple[float, float]]) -> Progress:
    """Count the operations outside of the fault windows, (begin, end) each in seconds of the loop's time.

    One that was under way during a fault does not count, nor does one that has no outcome at all, or whose client was
    made to crash.
    """
    windows = _merged([(round(begin * 1e9), round(end * 1e9)) for begin, end in faults])
    calm = ok = 0
    for op in pair(entries):
        if op.f not in ("send", "poll", "txn") or op.completed_ns is None or op.error == CRASHED:
            continue
        while windows and windows[0][1] < op.invoked_ns:
            windows.pop(0)
        if windows and windows[0][0] <= op.completed_ns:
            continue
        calm += 1
        ok += op.type == "ok"
    return Progress(calm, ok)


def _merged(windows: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(windows):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged
