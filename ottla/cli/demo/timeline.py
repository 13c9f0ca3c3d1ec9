"""The live picture of the demo: what happened and when, and how much was written and read so far."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

SHOWN = 24
_STYLES = {
    "killed": "bold red",
    "detected": "yellow",
    "fenced": "yellow",
    "elected": "bold cyan",
    "writes": "bold green",
    "restored": "bold green",
    "started": "bold",
}


class Line(NamedTuple):
    """One line of the timeline; ``at`` in seconds since the demo began."""

    at: float
    text: str


class Timeline:
    """Shows lines as they come: redrawn in place on a terminal, printed one after the other elsewhere."""

    def __init__(self, console: Console, counters: Callable[[], str]) -> None:
        self._console = console
        self._counters = counters
        self._lines: list[Line] = []
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=10, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()
            for line in self._lines:
                self._console.print(_render(line))

    def add(self, at: float, text: str) -> None:
        """Show one more line."""
        line = Line(at, text)
        self._lines.append(line)
        if not self._console.is_terminal:
            self._console.print(_render(line))

    def _picture(self) -> Group:
        lines = [_render(line) for line in self._lines[-SHOWN:]]
        return Group(*lines, Text(), Text(self._counters(), style="bold"))


def _render(line: Line) -> Text:
    word = line.text.partition(":")[0].partition(" ")[0]
    return Text.assemble((f"{line.at:7.3f} s  ", "dim"), (line.text, _STYLES.get(word, "")))


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """A plain table for the end of the demo."""
    made = Table(*columns, title=title, title_justify="left")
    for row in rows:
        made.add_row(*row)
    return made
