"""What many runs add up to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ottla.simulation.plan import Report


@dataclass(slots=True)
class Totals:
    """Sums over reports. `simulated` is virtual seconds, `cpu` real ones of one core; `failures` are kept whole."""

    runs: int = 0
    simulated: float = 0.0
    cpu: float = 0.0
    acknowledged: int = 0
    truncations: int = 0
    voter_changes: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    elections: Counter[str] = field(default_factory=Counter)
    work_besides: Counter[str] = field(default_factory=Counter)
    inconclusive: int = 0
    failures: list[Report] = field(default_factory=list)

    def add(self, report: Report) -> None:
        self.runs += 1
        self.simulated += report.lasted
        self.cpu += report.cpu
        self.acknowledged += report.acknowledged
        self.truncations += report.truncations
        self.voter_changes += report.voter_changes
        self.inconclusive += report.anomaly is None and not report.conclusive
        self.operations.update(report.operations)
        self.faults.update(report.faults)
        self.elections.update(report.elections)
        self.work_besides.update(report.work_besides)
        if report.anomaly is not None:
            self.failures.append(report)

    @property
    def speed(self) -> float:
        """Virtual seconds per second of one core."""
        return self.simulated / self.cpu if self.cpu else 0.0
