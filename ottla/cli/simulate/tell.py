"""What the command prints, as text."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any, Final

from ottla import __version__
from ottla.cli.common import columns
from ottla.simulation.faults import FAULTS, GROUPS, Fault
from ottla.simulation.loop import START
from ottla.simulation.plan import Plan, Report
from ottla.simulation.timeline import merged
from ottla.simulation.totals import Totals
from ottla.simulation.trace import Happening

_MOST_FIELDS = 150
_RUNS_THROUGH: Final = ("aiohttp", "cramjam", "kio", "pydantic")
_FROM_OUTSIDE = frozenset({"simulation", "nemesis"})


def fault_table() -> str:
    rows = [(name, group, kind.nodes, kind.doc) for group, kinds in GROUPS.items() for name, kind in kinds.items()]
    return columns(("KIND", "OF", "NODES", "WHAT"), [(name, group, f"{n}+", doc) for name, group, n, doc in rows])


def summary(totals: Totals, planned: int, wall: float) -> str:
    """The table at the end. `wall` is real seconds."""
    rows = [
        ("runs", f"{totals.runs:,}" + (f" of {planned:,}" if totals.runs != planned else "")),
        ("operations", f"{totals.operations.total():,}: {_counts(totals.operations)}"),
        ("acknowledged records", f"{totals.acknowledged:,}"),
        ("faults", f"{totals.faults.total():,}: {_counts(dict(totals.faults.most_common()))}"),
        ("elections", f"{totals.elections.total():,}: {_counts(totals.elections)}"),
        ("changes of voters", f"{totals.voter_changes:,}"),
        *([("work besides", _counts(totals.work_besides))] if totals.work_besides else []),
        ("truncations", f"{totals.truncations:,}"),
        ("simulated", f"{totals.simulated / 3600:,.2f} hours"),
        ("speed", f"{totals.speed:,.0f} simulated seconds per second of one core; {_rate(totals, wall)} by the clock"),
        ("inconclusive", f"{totals.inconclusive:,}"),
        ("anomalies", f"{len(totals.failures):,}"),
        ("with", ", ".join(f"{name} {version}" for name, version in versions().items())),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(_wrapped(name.ljust(width), text) for name, text in rows)


def versions() -> dict[str, str]:
    """Of what a run goes through: with other ones a seed is another run."""
    own = {"Python": platform.python_version(), "ottla": __version__}
    return own | {name: metadata.version(name) for name in _RUNS_THROUGH}


def _rate(totals: Totals, wall: float) -> str:
    return f"{totals.simulated / wall:,.0f}" if wall else "0"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def _wrapped(name: str, text: str) -> str:
    lines, line = [], ""
    for word in text.split(", "):
        if line and len(line) + len(word) > 90:
            lines.append(line + ",")
            line = word
        else:
            line = f"{line}, {word}" if line else word
    return f"{name}  " + ("\n" + " " * (len(name) + 2)).join([*lines, line])


def failure(report: Report, last: int) -> str:
    """What was wrong with a run, and the events before it."""
    plan = report.plan
    lines = [f"seed {report.seed}: {report.anomaly}", _about(plan)]
    if report.lasted:
        at = report.lasted - report.began_at
        when = f"{at:.1f} s into the faults" if at > 0 else "before the faults"
        lines.append(f"  seen {when}, at {report.lasted:.3f} of the timeline")
    if report.trouble and _unexpected(report):
        lines += ["", *(f"  {line}" for line in report.trouble.rstrip().splitlines()[-20:])]
    events = merged(report)[-last:]
    if events:
        lines += ["", f"the last {len(events)} events:", timeline(events)]
    return "\n".join(lines)


def _unexpected(report: Report) -> bool:
    # An invariant says itself what is wrong; of everything else one wants to know where it came from.
    return ": " in (report.anomaly or "") and (report.anomaly or "").split(":")[0].isidentifier()


def _about(plan: Plan) -> str:
    rate = "" if plan.rate is None else f", {plan.rate:g} operations/s"
    lines = [f"  {plan.nodes} nodes, {plan.seconds:g} s of faults{rate}"]
    for name, words in {"faults": plan.kinds, "settings": plan.settings and _settings(plan.settings)}.items():
        if words:
            lines.append(_wrapped(f"  {name}:", ", ".join(words)))
    return "\n".join(lines)


def _settings(settings: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in settings.items()]


def again(plan: Plan, *, faults: str | None, rate: float | None) -> str:
    """The command that runs a seed again; `faults` and `rate` as they were given, if they were."""
    words = ["ottla", "simulate", "--seed", str(plan.seed), "--nodes", str(plan.nodes)]
    words += ["--minutes", f"{plan.seconds / 60:.6g}"]
    words += [] if faults is None else ["--faults", faults]
    words += [] if rate is None else ["--rate", f"{rate:g}"]
    words += [] if plan.workload is None else ["--workload", plan.workload]
    return shlex.join(words)


def timeline(happenings: Iterable[Happening]) -> str:
    """One line per event of any node: virtual seconds, where, what. Faults stand out."""
    return "\n".join(_line(each) for each in happenings)


def _line(happening: Happening) -> str:
    fields = " ".join(value if key == "what" else f"{key}={value}" for key, value in happening.fields)
    if len(fields) > _MOST_FIELDS:
        fields = fields[:_MOST_FIELDS] + " ..."
    mark = ">>" if happening.where in _FROM_OUTSIDE else "  "
    return f"{happening.at - START:12.6f} {mark} {happening.where:10}  {happening.event}  {fields}".rstrip()


def schedule(faults: Iterable[Fault]) -> str:
    rows = [(f"{fault.at:.3f}", f"{fault.lasts:.3f}", fault.kind, FAULTS[fault.kind].doc) for fault in faults]
    return columns(("AT S", "FOR S", "FAULT", "WHAT"), rows) if rows else "no fault at all"


def as_json(totals: Totals, planned: int, wall: float, failures: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "runs": totals.runs,
        "planned": planned,
        "operations": dict(totals.operations),
        "acknowledged": totals.acknowledged,
        "faults": dict(totals.faults),
        "elections": dict(totals.elections),
        "voter_changes": totals.voter_changes,
        "work_besides": dict(totals.work_besides),
        "truncations": totals.truncations,
        "simulated_seconds": round(totals.simulated, 3),
        "cpu_seconds": round(totals.cpu, 3),
        "wall_seconds": round(wall, 3),
        "simulated_seconds_per_core_second": round(totals.speed, 1),
        "inconclusive": totals.inconclusive,
        "anomalies": len(totals.failures),
        "versions": versions(),
        "failures": list(failures),
    }
