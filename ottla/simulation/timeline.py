"""One timeline of everything: what nodes logged, what was done to them, and what clients were told meanwhile."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any

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
        if entry.f == "leads":
            continue  # nodes log that better
        fields = [("what", _what(entry))]
        fields += [] if entry.node is None else [("node", str(entry.node))]
        fields += [] if entry.error is None else [("error", entry.error)]
        yield Happening(entry.t_mono_ns / 1e9, f"client-{entry.process}", f"{entry.f} {entry.type}", tuple(fields))


def _what(entry: Entry) -> str:
    """Records as value@offset, and runs of them as first..last@offset of the first."""
    if entry.f not in ("send", "poll", "txn") or not isinstance(entry.value, list):
        return str(entry.value)
    return " ".join(_micro(*micro) for micro in entry.value)


def _micro(f: str, where: Any, record: Any = None) -> str:
    if f == "send":
        offset, value = record
        return f"{where}:{value}" + ("" if offset is None else f"@{offset}")
    return " ".join(f"{key}:{','.join(_runs(records))}" for key, records in where.items())


def _runs(records: Iterable[tuple[int, int]]) -> Iterator[str]:
    runs: list[list[tuple[int, int]]] = []
    for offset, value in records:
        if runs and runs[-1][-1] == (offset - 1, value - 1):
            runs[-1].append((offset, value))
        else:
            runs.append([(offset, value)])
    for run in runs:
        (offset, first), (_, last) = run[0], run[-1]
        yield f"{first}@{offset}" if first == last else f"{first}..{last}@{offset}"


def _brought(entry: Entry) -> bool:
    return any(records for micro in entry.value or () for records in dict(micro[1]).values())
