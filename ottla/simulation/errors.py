"""What a simulation can end with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.simulation.plan import Report


class SimulationError(Exception):
    """The simulated world was used in a way that no real one could be."""


class Deadlock(SimulationError):
    """Everybody waits, and nothing is left that could end it."""


class Anomaly(AssertionError):
    """A promise of the system did not hold; the text says which, and where.

    From a storm it has the `report` of the run: seed, schedule, timeline, history.
    """

    def __init__(self, what: str, report: Report | None = None) -> None:
        super().__init__(what)
        self.report = report
