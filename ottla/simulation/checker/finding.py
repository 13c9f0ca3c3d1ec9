"""What a checker found, as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ottla.simulation.errors import Anomaly

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One anomaly. `kind` is its name in the table of `CHECKS`; `ops` are the indexes of the invocations involved."""

    kind: str
    key: str | None
    ops: tuple[int, ...]
    text: str

    def __str__(self) -> str:
        where = "" if self.key is None else f" {self.key}:"
        return f"{self.kind}:{where} {self.text} [ops {', '.join(map(str, self.ops))}]"


def judge(findings: Sequence[Finding]) -> None:
    """Raises Anomaly with how many there are of each kind, and with the first of them."""
    if findings:
        kinds = Counter(finding.kind for finding in findings)
        shown = "\n".join(map(str, findings[:_SHOWN]))
        raise Anomaly(f"{', '.join(f'{count} {kind}' for kind, count in kinds.items())}\n{shown}")
