"""Histories written down by hand: each line is one operation, begun and ended before the next unless said otherwise."""

from __future__ import annotations

from typing import Any

from ottla.simulation.checker import Finding, check
from ottla.simulation.history import Entry, History, Kind

K = "t-0"


class Tale(History):
    """A history with short words. Offsets default to None: unknown."""

    def sends(self, process: int, *records: tuple[int, int | None], kind: Kind = "ok", key: str = K) -> Entry:
        """(value, offset) each."""
        invoked = self.invoke(process, "send", [["send", key, [None, value]] for value, _ in records])
        told = [["send", key, [offset, value]] for value, offset in records]
        self.complete(invoked, kind, told, error=None if kind == "ok" else "Refused")
        return invoked

    def polls(self, process: int, *records: tuple[int, int], kind: Kind = "ok", key: str = K) -> Entry:
        """(offset, value) each."""
        invoked = self.invoke(process, "poll", [["poll", {}]])
        self.complete(invoked, kind, [["poll", {key: [list(record) for record in records]} if records else {}]])
        return invoked

    def does(self, process: int, f: Any, value: Any, told: Any = None, kind: Kind = "ok") -> Entry:
        invoked = self.invoke(process, f, value)
        self.complete(invoked, kind, value if told is None else told)
        return invoked

    def begins_to_send(self, process: int, *values: int) -> Entry:
        return self.invoke(process, "send", [["send", K, [None, value]] for value in values])

    def found(self, **options: bool) -> dict[str, tuple[int, ...]]:
        """By kind, the operations of the only finding of it."""
        findings: list[Finding] = check(self, **options)
        kinds = [finding.kind for finding in findings]
        assert len(set(kinds)) == len(kinds), f"several of a kind: {findings}"
        return {finding.kind: finding.ops for finding in findings}


def ready() -> Tale:
    """Values 1, 2, 3 at offsets 0, 1, 2 by process 0 (operations 0, 2, 4), read by process 1 (operation 6)."""
    tale = Tale()
    for value in (1, 2, 3):
        tale.sends(0, (value, value - 1))
    tale.polls(1, (0, 1), (1, 2), (2, 3))
    return tale
