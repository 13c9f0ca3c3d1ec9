"""A failing schedule made smaller: fewer faults, in less time, that still make it fail.

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002): a fault draws from a
lot of its own, so what is left of a schedule does what it did. Yet the timing of everything after a fault that is left
out changes, so that a fault may also be kept for having been there by chance.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ottla.simulation.campaign import DIED, HUNG
from ottla.simulation.faults import Fault
from ottla.simulation.plan import Plan, Report

Attempt = Callable[[Plan], Report]

_LIVENESS = ("TimeoutError", "Deadlock")
_MARGIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Shrunk:
    """`report` is of the smallest plan that still failed, after so many `runs`."""

    report: Report
    runs: int


def shrink(failed: Report, attempt: Attempt, *, runs: int = 60, seconds: float = 600.0) -> Shrunk:
    """Spends at most so many runs, and begins none after so many real seconds."""
    search = _Search(failed, attempt, runs, time.monotonic() + seconds)
    search.cut()
    search.halve()
    search.leave_out()
    search.cut()
    search.sooner()
    return Shrunk(search.best, search.runs)


def sort_of(anomaly: str) -> str:
    """What must stay the same while a schedule shrinks: a wait without end is another thing than a lost record."""
    for sort, signs in {"no end": (HUNG,), "crash": (DIED,), "liveness": _LIVENESS}.items():
        if anomaly.startswith(signs):
            return sort
    return "safety"


class _Search:
    def __init__(self, failed: Report, attempt: Attempt, runs: int, until: float) -> None:
        assert failed.anomaly is not None
        self.best = failed
        self.runs = 0
        self._attempt = attempt
        self._most = runs
        self._until = until
        self._sort = sort_of(failed.anomaly)

    @property
    def _plan(self) -> Plan:
        return self.best.plan

    def _fails(self, faults: Sequence[Fault], seconds: float) -> bool:
        """Whether this is enough to fail; then it is the best."""
        plan = dataclasses.replace(self._plan, schedule=tuple(faults), seconds=seconds)
        if self.runs >= self._most or time.monotonic() >= self._until or plan == self._plan:
            return False
        self.runs += 1
        report = self._attempt(plan)
        if report.anomaly is None or sort_of(report.anomaly) != self._sort:
            return False
        self.best = report
        return True

    def _shorter(self, seconds: float) -> bool:
        return self._fails([fault for fault in self.best.schedule if fault.at < seconds], seconds)

    def cut(self) -> None:
        """Nothing after the failure had to do with it."""
        took = self.best.lasted - self.best.began_at
        if 0 < took < self._plan.seconds:
            self._shorter(math.ceil(took + 0.01))
        elif self.best.schedule:
            last = max(fault.at + fault.lasts for fault in self.best.schedule)
            if last + _MARGIN_S < self._plan.seconds:
                self._shorter(math.ceil(last + _MARGIN_S))

    def halve(self) -> None:
        """What is only looked at in the end may have happened early."""
        while self._plan.seconds > 2 * _MARGIN_S and self._shorter(math.ceil(self._plan.seconds / 2)):
            pass

    def leave_out(self) -> None:
        """ddmin, without its first half: that a part by itself fails is seen when what is left fails."""
        parts = 2
        while len(self.best.schedule) > 1 and self.runs < self._most:
            faults = self.best.schedule
            parts = min(parts, len(faults))
            size = math.ceil(len(faults) / parts)
            for begin in range(0, len(faults), size):
                if self._fails(faults[:begin] + faults[begin + size :], self._plan.seconds):
                    parts = max(parts - 1, 2)
                    break
            else:
                if parts == len(faults):
                    break
                parts = min(2 * parts, len(faults))
        if len(self.best.schedule) == 1:
            self._fails((), self._plan.seconds)

    def sooner(self) -> None:
        """Without the quiet time before the first fault."""
        faults = self.best.schedule
        if faults and (early := faults[0].at - _MARGIN_S) > 0:
            moved = [dataclasses.replace(fault, at=round(fault.at - early, 3)) for fault in faults]
            self._fails(moved, max(_MARGIN_S, math.ceil(self._plan.seconds - early)))
