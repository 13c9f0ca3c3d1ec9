"""How far a campaign is: a bar where somebody looks on, a line now and then where not. On standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ottla.simulation.plan import Report
from ottla.simulation.totals import Totals

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_LINE_EVERY_S = 10.0


class Progress:
    """A context manager. `totals` are those that the reports are added to."""

    def __init__(self, planned: int, totals: Totals, what: str = "seeds") -> None:
        self._planned = planned
        self._totals = totals
        self._what = what
        self._ran = 0
        self._began = self._last = time.monotonic()
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and self._planned > 1:
            self._bar = _make_bar()
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=self._planned, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def ran(self, report: Report) -> None:
        """One more."""
        self._ran += 1
        if report.anomaly is not None:
            self._say(f"seed {report.seed}: {first_line(report.anomaly)}")
        self._step()

    def _step(self) -> None:
        note = f"{len(self._totals.failures)} anomalies, {self._speed():,.0f} simulated s/s"
        if self._bar is not None:
            self._bar.update(self._task, advance=1, note=note)
        elif self._planned > 1 and time.monotonic() - self._last > _LINE_EVERY_S:
            self._last = time.monotonic()
            self._say(f"{self._ran} of {self._planned} {self._what}, {note}")

    def _speed(self) -> float:
        return self._totals.simulated / max(0.001, time.monotonic() - self._began)

    def _say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)


class ShrinkProgress:
    """Says what shrinking does, as it can take minutes. A context manager."""

    def __init__(self, failed: Report) -> None:
        self._seed = failed.seed
        self._runs = 0
        self._smallest = len(failed.schedule)
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        self._show(f"looking for fewer of the {self._smallest} faults of seed {self._seed}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if sys.stderr.isatty():
            self._show("")

    def tried(self, report: Report) -> None:
        """One more run."""
        self._runs += 1
        if report.anomaly is not None:
            self._smallest = min(self._smallest, len(report.schedule))
        if sys.stderr.isatty() or time.monotonic() - self._last > _LINE_EVERY_S:
            self._last = time.monotonic()
            self._show(f"{self._runs} runs; {self._smallest} faults are enough so far")

    def _show(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        elif text:
            print(text, file=sys.stderr, flush=True)


def _make_bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )


def first_line(text: str | None, most: int = 150) -> str:
    """Of an anomaly, which may have many."""
    line = text.splitlines()[0] if text else ""
    return line if len(line) <= most else line[:most] + " ..."
