"""A failing schedule becomes one with few faults, within a bounded number of runs."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.broker.replication.leader import LeaderState
from ottla.simulation.faults import Fault
from ottla.simulation.plan import Plan, Report
from ottla.simulation.shrink import shrink, sort_of
from ottla.simulation.storm import attempt

MANY = tuple(Fault(at=float(number), kind="kill", lasts=0.5, lot=number) for number in range(40))


def failing(plan: Plan, anomaly: str | None = "lost") -> Report:
    return Report(plan=plan, anomaly=anomaly, lasted=plan.seconds + 10.0)


@given(st.sets(st.integers(0, 39), max_size=3))
@settings(max_examples=50)
def test_what_is_left_is_what_it_takes(needed: set[int]):
    tried: list[Plan] = []

    def run(plan: Plan) -> Report:
        tried.append(plan)
        there = {fault.lot for fault in plan.schedule or ()}
        return failing(plan, "lost" if needed <= there else None)

    shrunk = shrink(failing(Plan(1, seconds=40.0, schedule=MANY)), run, runs=100)
    assert {fault.lot for fault in shrunk.report.schedule} == needed
    assert shrunk.runs == len(tried) <= 120
    last = max((fault.at + fault.lasts for fault in shrunk.report.schedule), default=0.0)
    assert shrunk.report.plan.seconds <= math.ceil(last + 1.0) + 1


def test_runs_and_time_are_bounded():
    tried: list[Plan] = []

    def run(plan: Plan) -> Report:
        tried.append(plan)
        return failing(plan, None)

    failed = failing(Plan(1, seconds=40.0, schedule=MANY))
    assert shrink(failed, run, runs=7).report is failed
    assert len(tried) == 7
    assert shrink(failed, run, seconds=0.0).runs == 0


def test_another_sort_of_failure_does_not_count():
    def run(plan: Plan) -> Report:
        return failing(plan, "TimeoutError: not within 30 s" if len(plan.schedule or ()) < 10 else "lost")

    shrunk = shrink(failing(Plan(1, seconds=40.0, schedule=MANY)), run, runs=200)
    assert len(shrunk.report.schedule) == 10
    assert sort_of("hung: no end") != sort_of("TimeoutError: x") != sort_of("two leaders")


def test_what_came_after_the_failure_is_cut_at_once():
    seen: list[Plan] = []

    def run(plan: Plan) -> Report:
        seen.append(plan)
        return Report(plan=plan, anomaly="lost", lasted=9.5, began_at=1.0)

    shrink(Report(plan=Plan(1, seconds=40.0, schedule=MANY), anomaly="lost", lasted=9.5, began_at=1.0), run, runs=1)
    assert seen[0].seconds == 9
    assert seen[0].schedule == MANY[:9]


def test_a_mutant_needs_few_faults(monkeypatch: pytest.MonkeyPatch):
    original = LeaderState.advance

    def forgetful(self: LeaderState, *rest: object) -> bool:
        # Right as long as nobody has led before: it takes a change of leader to go wrong.
        if self.leader_epoch < 2:
            return original(self, *rest)  # type: ignore[arg-type]
        moved = self.durable_end > self.high_watermark
        self.high_watermark = self.durable_end
        return moved

    monkeypatch.setattr(LeaderState, "advance", forgetful)
    kinds = ("kill", "clock")
    plans = (Plan(seed, seconds=5.0, kinds=kinds, rate=10.0) for seed in range(20))
    failed = next(report for report in map(attempt, plans) if report.anomaly is not None)
    shrunk = shrink(failed, attempt, runs=10)
    assert len(shrunk.report.schedule) <= 3
    assert attempt(shrunk.report.plan).anomaly == shrunk.report.anomaly
    monkeypatch.undo()
    assert attempt(shrunk.report.plan).anomaly is None
