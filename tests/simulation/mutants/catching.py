"""Storms in which a mistake in our own code has to be found.

`seeds` is the number of seeds, from 0 on, within which it is caught; it has some slack, as seeds change their meaning
with every change of what they decide.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from ottla.simulation.faults import Fault
from ottla.simulation.plan import Plan, Report
from ottla.simulation.storm import attempt

IMPATIENT = {"broker.session.timeout.ms": "1500", "broker.heartbeat.interval.ms": "250"}

Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Mutant:
    """`kinds` of faults, `settings` of the nodes and `seconds` of storm that bring it to light within `seeds`."""

    patch: Patch
    kinds: tuple[str, ...]
    seeds: int
    seconds: float = 4.0
    nodes: int = 3
    rate: float = 20.0
    settings: Mapping[str, str] = field(default_factory=dict)

    def plan(self, seed: int) -> Plan:
        faults = thick(f"mutants/{seed}", self.kinds, self.seconds)
        return Plan(seed, self.nodes, self.seconds, None, faults, self.rate, {**IMPATIENT, **self.settings})


def thick(
    seed: str, kinds: Sequence[str], seconds: float, lasting: Sequence[float] = (0.1, 0.5, 2.0)
) -> tuple[Fault, ...]:
    """Faults that come thick and fast, so that seconds suffice; none without `kinds`."""
    rng = random.Random(seed)
    faults, at = [], 0.2
    while kinds and at < seconds:
        lasts = rng.choice(lasting) * rng.uniform(0.5, 1.5)
        faults.append(Fault(round(at, 3), rng.choice(kinds), round(lasts, 3), rng.getrandbits(32)))
        at += rng.choice((0.02, 0.3, 0.8)) * rng.uniform(0.5, 1.5)
    return tuple(faults)


def beside(
    workload: str, seed: int, kinds: Sequence[str], seconds: float, settings: Mapping[str, str] | None = None
) -> Plan:
    """A storm in which this workload does most of what is done."""
    faults = thick(f"mutants/{seed}", kinds, seconds)
    return Plan(seed, 3, seconds, None, faults, 2.0, {**IMPATIENT, **(settings or {})}, workload)


def catch(mutate: Patch, plan: Callable[[int], Plan], seeds: int) -> None:
    """Fails unless the mistake is found within so many seeds, in a run that is clean without it."""
    for seed in range(seeds):
        with pytest.MonkeyPatch.context() as patch:
            mutate(patch)
            found = attempt(plan(seed)).anomaly
        if found is not None:
            assert attempt(plan(seed)).anomaly is None, "without the mutation it is clean"
            return
    pytest.fail(f"survived {seeds} seeds")


def runs_alike(plan: Plan) -> Report:
    """Fails unless two runs of the plan are the same, and clean; so one without the workload is, too, but for that."""
    one, other = attempt(plan), attempt(plan)
    assert one.fingerprint == other.fingerprint
    assert one.work_besides == other.work_besides
    assert one.anomaly is None and attempt(replace(one.plan, workload=None)).work_besides == {}
    return one
