"""`ottla simulate` as a person uses it: what it prints, and its exit statuses."""

from __future__ import annotations

import json
import platform
import signal
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from ottla import __version__
from ottla.cli.main import main
from ottla.cli.simulate import runner, tell
from ottla.simulation.campaign import DIED, HUNG, run_all
from ottla.simulation.faults import FAULTS, Fault
from ottla.simulation.plan import WORKLOADS, Plan, Report
from ottla.simulation.totals import Totals
from ottla.simulation.trace import Happening

TWO = (Fault(1.0, "kill", 0.5, 1), Fault(2.0, "pause", 0.5, 2))
Judge = Callable[[Plan], str | None]


def report_of(plan: Plan, anomaly: str | None = None) -> Report:
    return Report(
        plan=Plan(plan.seed, plan.nodes, plan.seconds, plan.kinds, TWO if plan.schedule is None else plan.schedule),
        anomaly=anomaly,
        lasted=plan.seconds,
        cpu=0.5,
        acknowledged=10,
        operations={"ok": 10, "fail": 1, "info": 2},
        conclusive=True,
        faults={"kill": 1, "pause": 2},
        elections={"controllers": 1, "leaders": 4},
        truncations=3,
        timeline=(Happening(1001.5, "node-1", "became_leader", (("partition", "0"),)),),
    )


def pretend(monkeypatch: pytest.MonkeyPatch, judge: Judge) -> list[Plan]:
    """Instead of simulations: `judge` says what is wrong with each plan."""
    ran: list[Plan] = []

    def runs(plans: Iterable[Plan], **_: object) -> Iterator[Report]:
        for plan in plans:
            ran.append(plan)
            yield report_of(plan, judge(plan))

    monkeypatch.setattr(runner, "run_all", runs)
    return ran


def test_a_clean_campaign(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ran = pretend(monkeypatch, lambda _: None)
    words = ["simulate", "--seeds", "4", "--first-seed", "7", "--minutes", "15", "--nodes", "5", "--rate", "3"]
    assert main([*words, "--faults", "kill,slow-disk"]) == 0
    assert [plan.seed for plan in ran] == [7, 8, 9, 10]
    assert ran[0] == Plan(7, 5, 900.0, ("kill", "slow disk"), None, 3.0)
    out = capsys.readouterr().out
    for line in (
        "runs                  4",
        "operations            52: ok 40, fail 4, info 8",
        "faults                12: pause 8, kill 4",
        "elections             20: controllers 4, leaders 16",
        "truncations           12",
        "simulated             1.00 hours",
        "anomalies             0",
    ):
        assert f"{line}\n" in out
    assert f"\nwith                  Python {platform.python_version()}, ottla {__version__}, aiohttp " in out


def test_a_failure_is_told_with_its_timeline_and_shrunk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def judge(plan: Plan) -> str | None:
        killed = plan.schedule is None or any(fault.kind == "kill" for fault in plan.schedule)
        return "1 lost write" if plan.seed == 2 and killed else None

    pretend(monkeypatch, judge)
    assert main(["simulate", "--seeds", "4", "--faults", "kill,pause"]) == 1
    out = capsys.readouterr().out
    assert "seed 2: 1 lost write" in out
    assert "node-1      became_leader  partition=0" in out
    assert "again: ottla simulate --seed 2 --nodes 3 --minutes 5 --faults kill,pause --trace" in out
    assert "from 2 faults in 300 s to 1 in 2 s" in out
    assert "anomalies             1\n" in out

    plan = out[out.index("--schedule FILE --trace`:\n") :].split("\n", 1)[1].split("\n}\n")[0] + "\n}"
    file = tmp_path / "plan.json"
    file.write_text(plan)
    assert main(["simulate", "--schedule", str(file), "--no-shrink"]) == 1
    assert "shrunk" not in capsys.readouterr().out


def test_many_failures_are_named_and_three_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, lambda _: "1 lost write\nwith details")
    assert main(["simulate", "--seeds", "5", "--no-shrink", "--format", "json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["anomalies"] == told["runs"] == 5
    assert told["versions"]["kio"] == metadata.version("kio")
    assert [("plan" in each) for each in told["failures"]] == [True, True, True, False, False]
    assert Plan.from_json(json.dumps(told["failures"][0]["plan"])).schedule == TWO


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_what_was_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    def judge(plan: Plan) -> None:
        if plan.seed == 2:
            signal.raise_signal(number)

    pretend(monkeypatch, judge)
    assert main(["simulate", "--seeds", "9"]) == 130
    assert "runs                  2 of 9\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--faults", "flood"], f"ottla: there is no fault 'flood'; there are: {', '.join(FAULTS)}"),
        (["--seed", "1", "--seeds", "3"], "do not go together"),
        (["--trace"], "add --seed or --schedule"),
        (["--schedule", "/nowhere"], "/nowhere: No such file"),
        (["--minutes", "0"], "'0' is not a number above 0"),
        (["--nodes", "none"], "'none' is not a number above 0"),
    ],
)
def test_wrong_usage(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", *words]) == 2
    assert complaint in capsys.readouterr().err


def test_the_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--list-faults"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name}  " in out and kind.doc in out for name, kind in FAULTS.items())


@pytest.mark.parametrize("workload", [None, *WORKLOADS])
def test_who_works_besides_is_in_the_plan_and_in_the_command_that_runs_it_again(
    workload: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = pretend(monkeypatch, lambda _: "lost")
    words = [] if workload is None else ["--workload", workload]
    assert main(["simulate", "--seeds", "1", "--no-shrink", *words]) == 1
    assert [plan.workload for plan in ran] == [workload]
    assert Plan.from_json(ran[0].to_json()) == ran[0]
    assert (f"--workload {workload}" in tell.again(ran[0], faults=None, rate=None)) == (workload is not None)


def test_a_plan_with_an_unknown_workload_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no workload 'idlers'; there are: groups, transactions"):
        Plan.from_json(Plan(1, workload="idlers").to_json())


def test_totals_add_up() -> None:
    totals = Totals()
    for anomaly in (None, "lost"):
        totals.add(report_of(Plan(1), anomaly))
    assert (totals.runs, totals.acknowledged, totals.truncations, totals.simulated) == (2, 20, 6, 40.0)
    assert (totals.operations["ok"], totals.faults["pause"], totals.elections["leaders"]) == (20, 4, 8)
    assert totals.speed == 40.0
    assert [each.anomaly for each in totals.failures] == ["lost"]
    assert tell.summary(Totals(), 0, 0.0)


def test_one_seed_in_a_process_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, history = tmp_path / "trace", tmp_path / "history"
    words = ["--seed", "1", "--minutes", "0.03", "--trace-file", str(trace), "--history", str(history)]
    assert main(["simulate", *words]) == 0
    assert "runs                  1\n" in capsys.readouterr().out
    assert "node_ready" in trace.read_text()
    assert ">> simulation" in trace.read_text()
    entries = [json.loads(line) for line in history.read_text().splitlines()]
    assert {"invoke", "ok"} <= {entry["type"] for entry in entries}


def test_a_run_that_does_not_end_is_ended() -> None:
    endless = Plan(1, seconds=1e6, kinds=(), rate=1.0)
    (report,) = run_all([endless], jobs=1, limit=0.2)
    assert report.anomaly == f"{HUNG}: no end after 0.2 s of real time"
    assert "_work" in report.trouble


def test_a_process_that_dies_is_a_failure() -> None:
    # A plan that nothing can be made of, on the other side of the pipe.
    (report,) = run_all([Plan(1, seconds=1.0, kinds=("flood",))], jobs=1, limit=10.0)
    assert report.anomaly is not None
    assert report.anomaly.startswith(DIED)
