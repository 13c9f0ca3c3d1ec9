"""What a checker found, as data."""

from __future__ import annotations

from dataclasses import dataclass


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
