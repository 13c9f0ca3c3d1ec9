"""What decides a run, and what is told about it afterwards, as data that goes to other processes and into files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from ottla.simulation.faults import FAULTS, GROUPS, Fault
from ottla.simulation.history import Entry
from ottla.simulation.trace import Happening

WORKLOADS: Final = ("groups", "transactions", "tables", "retention", "topics", "growth", "unclean")
"""Who may work besides the usual producers and consumers: consumers in groups, clients that write and copy in
transactions, clients of a compacted topic, of one that loses its beginning, of topics that come and go, groups that
read a topic which grows, clients of a topic that may lose what was acknowledged."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: two runs of equal plans are equal to the byte. What is None is drawn from the seed.

    `seconds` is how long the faults go on, in virtual time; `rate` is operations (sends and polls) per second of all
    clients; `workload` is who works besides them, see `WORKLOADS`. `kinds` restricts what a schedule is drawn from, and
    is without meaning beside a `schedule`.
    """

    seed: int | str
    nodes: int = 3
    seconds: float = 20.0
    kinds: tuple[str, ...] | None = None
    schedule: tuple[Fault, ...] | None = None
    rate: float | None = None
    settings: Mapping[str, str] | None = None
    workload: str | None = None

    def to_json(self) -> str:
        """Indented, one fault on a line, so that people can take lines out."""
        fields = dataclasses.asdict(self)
        faults = fields.pop("schedule")
        head = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in fields.items())
        if not faults:
            return f'{{\n{head},\n  "schedule": {json.dumps(faults)}\n}}\n'
        body = ",\n".join(f"    {json.dumps(fault)}" for fault in faults)
        return f'{{\n{head},\n  "schedule": [\n{body}\n  ]\n}}\n'

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError with one line that says what is wrong."""
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError("a plan is an object")  # noqa: TRY004  the caller asks about the text
        try:
            if fields.get("schedule") is not None:
                fields["schedule"] = tuple(_fault(each) for each in fields["schedule"])
            if fields.get("kinds") is not None:
                fields["kinds"] = tuple(known_kinds(fields["kinds"]))
            if fields.get("workload") not in (None, *WORKLOADS):
                raise ValueError(f"there is no workload {fields['workload']!r}; there are: {', '.join(WORKLOADS)}")
            return cls(**fields)
        except TypeError as error:
            raise ValueError(str(error).replace("Plan.__init__() ", "")) from error


def _fault(fields: Mapping[str, Any]) -> Fault:
    try:
        fault = Fault(**fields)
    except TypeError as error:
        raise ValueError(f"{fields} is no fault: {str(error).replace('Fault.__init__() ', '')}") from error
    known_kinds([fault.kind])
    return fault


def known_kinds(names: list[str]) -> list[str]:
    """The kinds of fault of these names, which may be written with hyphens; the name of a group stands for all of it.
    Raises ValueError if one is unknown."""
    plain = {name.replace("-", " "): name for name in FAULTS}
    found: list[str] = []
    for name in names:
        if (group := GROUPS.get(name.strip())) is not None:
            found += group
            continue
        kind = plain.get(name.strip().replace("-", " "))
        if kind is None:
            raise ValueError(f"there is no fault {name.strip()!r}; there are: {', '.join(FAULTS)}")
        found.append(kind)
    return found


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a plan. `anomaly` is what was wrong, None if every promise was kept.

    `plan` is complete: what was drawn from the seed is in it. `lasted` is virtual seconds, `cpu` real ones.
    `operations` counts by outcome (ok, fail, info: indeterminate), `acknowledged` only the records written. The run is
    `conclusive` if nearly all operations that no fault disturbed were ok; otherwise it says little. `faults` counts
    those that did harm by kind, `work_besides` what the clients of the workload did, `elections`
    those of controllers and of leaders of partitions, `voter_changes` those that were committed. `began_at` is the
    virtual second at which the faults began; the timeline has loop time, see `Happening`. `history` is that of the
    clients with transactions, if there are some.
    """

    plan: Plan
    anomaly: str | None = None
    trouble: str = ""
    lasted: float = 0.0
    began_at: float = 0.0
    cpu: float = 0.0
    acknowledged: int = 0
    failed: int = 0
    operations: Mapping[str, int] = dataclasses.field(default_factory=dict)
    conclusive: bool = False
    faults: Mapping[str, int] = dataclasses.field(default_factory=dict)
    elections: Mapping[str, int] = dataclasses.field(default_factory=dict)
    voter_changes: int = 0
    truncations: int = 0
    work_besides: Mapping[str, int] = dataclasses.field(default_factory=dict)
    healed_in: float | None = None
    callbacks: int = 0
    fingerprint: str = ""
    timeline: tuple[Happening, ...] = ()
    history: tuple[Entry, ...] = ()

    @property
    def seed(self) -> int | str:
        return self.plan.seed

    @property
    def seconds(self) -> float:
        """Virtual seconds from the first start of a node to the end of the last check."""
        return self.lasted

    @property
    def schedule(self) -> tuple[Fault, ...]:
        return self.plan.schedule or ()

    def with_last(self, happenings: int) -> Report:
        """With so much of the end of the timeline only; none of a clean run."""
        kept = self.timeline[-happenings:] if self.anomaly else ()
        return dataclasses.replace(self, timeline=kept, history=self.history if self.anomaly else ())
