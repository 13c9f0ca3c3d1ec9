"""Runs the plans, shows how far it is, and tells what came of it."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ottla.cli.common import print_json
from ottla.cli.simulate import tell
from ottla.cli.simulate.progress import Progress, ShrinkProgress, first_line
from ottla.simulation.campaign import run_all
from ottla.simulation.history import dump
from ottla.simulation.plan import Plan, Report
from ottla.simulation.shrink import Shrunk, shrink
from ottla.simulation.timeline import merged
from ottla.simulation.totals import Totals

_LAST_EVENTS = 40
# Failures of one campaign are often the same; the others are named with the command that shows them.
_TOLD_IN_FULL = 3
_SHRINK_SECONDS = 600.0
_SHRINK_RUNS = 60
_INTERRUPTED = 130


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """As by Ctrl-C, which a shell has its background jobs ignore."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Runner:
    """`single`: one run was asked for, so all of its events are kept. `limit` is real seconds for each run."""

    def __init__(self, plans: Sequence[Plan], args: argparse.Namespace, *, limit: float, single: bool) -> None:
        self._plans = plans
        self._args = args
        self._limit = limit
        self._single = single
        self._json = args.format == "json"
        self._totals = Totals()
        self._wall = 0.0

    def run(self) -> int:
        """The exit status."""
        began = time.monotonic()
        finished = False
        try:
            with _ended_by_sigterm():
                for report in self._reports():
                    self._totals.add(report)
                    if self._single:
                        self._write_down(report)
                finished = True
        except KeyboardInterrupt:
            print("interrupted; what was run until then:", file=sys.stderr)
        self._wall = time.monotonic() - began
        with contextlib.suppress(KeyboardInterrupt):
            self._tell()
        if self._totals.failures:
            return 1
        return 0 if finished else _INTERRUPTED

    def _reports(self) -> Iterator[Report]:
        jobs = min(self._args.jobs, len(self._plans))
        keep = 0 if self._single else max(400, _LAST_EVENTS)
        reports = run_all(self._plans, jobs=jobs, limit=self._limit, keep=keep)
        with contextlib.closing(reports), Progress(len(self._plans), self._totals) as progress:
            for report in reports:
                yield report
                progress.ran(report)

    def _write_down(self, report: Report) -> None:
        args = self._args
        if args.trace and not self._json:
            print(tell.timeline(merged(report)))
        if args.trace_file:
            _write(args.trace_file, tell.timeline(merged(report)) + "\n")
        if args.history:
            _write(args.history, "".join(dump(entry) + "\n" for entry in report.history))

    def _tell(self) -> None:
        failures = sorted(self._totals.failures, key=lambda report: (str(type(report.seed)), report.seed))
        told: list[dict[str, Any]] = []
        for number, report in enumerate(failures):
            if number < _TOLD_IN_FULL:
                told.append(self._explain(report))
            else:
                told.append({"seed": report.seed, "anomaly": report.anomaly, "again": self._again(report)})
                if not self._json:
                    print(f"seed {report.seed}: {first_line(report.anomaly)}\n  again: {self._again(report)}")
        if self._json:
            print_json(tell.as_json(self._totals, len(self._plans), self._wall, told))
        else:
            print(tell.summary(self._totals, len(self._plans), self._wall))

    def _again(self, report: Report) -> str:
        if self._args.schedule:
            return f"ottla simulate --schedule {self._args.schedule}"
        return tell.again(report.plan, faults=self._args.faults, rate=self._args.rate)

    def _explain(self, report: Report) -> dict[str, Any]:
        if not self._json:
            print(f"{tell.failure(report, _LAST_EVENTS)}\n\nagain: {self._again(report)} --trace\n", flush=True)
        shrunk = self._shrink(report)
        return {
            "seed": report.seed,
            "anomaly": report.anomaly,
            "again": self._again(report),
            "plan": json.loads(report.plan.to_json()),
            "shrunk": None if shrunk is None else json.loads(shrunk.report.plan.to_json()),
            "timeline": tell.timeline(merged(report)[-_LAST_EVENTS:]).splitlines(),
        }

    def _shrink(self, report: Report) -> Shrunk | None:
        if not self._args.shrink or not report.schedule:
            return None
        with ShrinkProgress(report) as progress:

            def attempt(plan: Plan) -> Report:
                (result,) = run_all([plan], jobs=1, limit=self._limit)
                progress.tried(result)
                return result

            shrunk = shrink(report, attempt, runs=_SHRINK_RUNS, seconds=_SHRINK_SECONDS)
        if not self._json:
            self._tell_shrunk(report, shrunk)
        return shrunk

    def _tell_shrunk(self, report: Report, shrunk: Shrunk) -> None:
        plan = shrunk.report.plan
        print(
            f"shrunk in {shrunk.runs} runs from {len(report.schedule)} faults in {report.plan.seconds:g} s "
            f"to {len(shrunk.report.schedule)} in {plan.seconds:g} s: {shrunk.report.anomaly}"
        )
        print(tell.schedule(shrunk.report.schedule))
        print(f"\nas a plan, for `ottla simulate --schedule FILE --trace`:\n{plan.to_json()}")
        print(f"its last events:\n{tell.timeline(merged(shrunk.report)[-_LAST_EVENTS:])}\n", flush=True)


def _write(path: str, text: str) -> None:
    from ottla.cli.main import CommandError

    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
