"""One timeline of everything: what nodes logged, what was done to them, and what clients were told meanwhile."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from ottla.simulation.history import Entry
from ottla.simulation.plan import Report
from ottla.simulation.trace import Happening


def merged(report: Report) -> list[Happening]:
    """All of it, in order. Clients' polls that brought nothing are left out."""
    begin = report.timeline[0].at if report.timeline else 0.0
    clients = (each for each in _told(report.history) if each.at >= begin)
    return list(heapq.merge(report.timeline, clients, key=lambda happening: happening.at))


def _told(history: Iterable[Entry]) -> Iterator[Happening]:
    for entry in history:
        if entry.f == "poll" and entry.type in ("invoke", "ok") and not _brought(entry):
            continue
        fields = [("value", str(entry.value))]
        fields += [] if entry.node is None else [("node", str(entry.node))]
        fields += [] if entry.error is None else [("error", entry.error)]
        yield Happening(entry.t_mono_ns / 1e9, f"client-{entry.process}", f"{entry.f} {entry.type}", tuple(fields))


def _brought(entry: Entry) -> bool:
    return any(records for micro in entry.value or () for records in dict(micro[1]).values())
