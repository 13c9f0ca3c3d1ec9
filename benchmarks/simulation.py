"""How many simulated seconds one core does in a second. Run by hand: python benchmarks/simulation.py [SEEDS]

An operation is an entry of the history: a send of one to five records, or a poll. A lone simulation needs one core;
times are its CPU times, so that other processes disturb less. "calls" (Python calls per simulated second, by cProfile,
in a run of its own) are the same on every machine and in every run of one version: what to compare when a machine is
noisy.
"""

from __future__ import annotations

import cProfile
import pstats
import statistics
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from ottla.simulation import SimulatedCluster, run
from ottla.simulation.storm import storm
from ottla.simulation.workload import Habits, Workload

SEED = 1
STORM_S = 60.0


class Measured:
    """One steady run: virtual seconds, CPU seconds, Python calls, operations and records sent."""

    def __init__(self, rate: float | None, seconds: float, *, profiled: bool = False) -> None:
        self.seconds = seconds
        self.cpu = self.calls = 0.0
        self.operations = self.records = 0
        self._profile = cProfile.Profile() if profiled else None
        self._rate = rate
        run(self._scenario, SEED)

    async def _scenario(self) -> None:
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders", 2)
            if self._rate is None:
                await self._advance(cluster)
                return
            habits = Habits(clients=2, rate=self._rate, value_size=100)
            async with Workload(cluster, "orders", 2, habits=habits) as workload:
                await cluster.advance(1)
                before = len(workload.history)
                await self._advance(cluster)
                entries = [entry for entry in list(workload.history)[before:] if entry.type == "invoke"]
                self.operations = sum(entry.f in ("send", "poll") for entry in entries)
                self.records = sum(len(entry.value) for entry in entries if entry.f == "send")
                await workload.stop(within=30)

    async def _advance(self, cluster: SimulatedCluster) -> None:
        if self._profile is not None:
            self._profile.enable()
        began = time.process_time()
        await cluster.advance(self.seconds)
        self.cpu = time.process_time() - began
        if self._profile is not None:
            self._profile.disable()
            self.calls = pstats.Stats(self._profile).total_calls / self.seconds  # type: ignore[attr-defined]


def steady(table: Table, name: str, rate: float | None, seconds: float, rounds: int) -> None:
    measured = [Measured(rate, seconds) for _ in range(rounds)]
    speeds = sorted(each.seconds / each.cpu for each in measured)
    calls = Measured(rate, seconds / 4, profiled=True).calls
    operations, records = measured[0].operations / seconds, measured[0].records / seconds
    table.add_row(
        name,
        f"{operations:.0f}",
        f"{records:.0f}",
        f"{statistics.median(speeds):.1f}",
        f"{speeds[-1]:.1f}",
        f"{calls:,.0f}",
    )


def storms(table: Table, seeds: int, rate: float | None, name: str) -> None:
    speeds = []
    for seed in range(seeds):
        report = storm(seed, seconds=STORM_S, rate=rate)
        speeds.append(report.seconds / report.cpu)
    speeds.sort()
    rate_shown = "" if rate is None else f"{rate:g}"
    table.add_row(name, rate_shown, "", f"{statistics.median(speeds):.1f}", f"{speeds[-1]:.1f}", "")


def main(arguments: list[str]) -> None:
    seeds = int(arguments[0]) if arguments else 6
    table = Table("3 nodes", "operations/s", "records sent/s", "simulated s/s", "best", "calls", title="one core")
    rows: list[Callable[[], None]] = [
        lambda: steady(table, "idle", None, 60, 3),
        lambda: steady(table, "steady", 20, 40, 3),
        lambda: steady(table, "steady", 100, 20, 3),
        lambda: storms(table, seeds, 5, f"storm, {seeds} seeds"),
        lambda: storms(table, seeds, None, f"storm as drawn, {seeds} seeds"),
    ]
    for row in rows:
        row()
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
