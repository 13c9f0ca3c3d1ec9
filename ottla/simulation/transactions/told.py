"""What clients with transactions did and were told besides the history, for the checker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

At = tuple[str, int]
Place = tuple[At, int]
"""A record: its partition and its offset."""


class Copy(NamedTuple):
    """A record that says itself of which one it was made."""

    place: Place
    source: Place


class Stable(NamedTuple):
    """How far a partition was stable at a moment (seconds of the loop): its last stable offset and its end."""

    moment: float
    at: At
    stable: int
    end: int


@dataclass
class Told:
    """`inputs` is what a read-committed reader found of the records that were to be copied, `copies` what one found of
    those made of them, in the end both; `stable` is what was asked after everything was well again, at `healed`."""

    inputs: set[Place] = field(default_factory=set)
    copies: list[Copy] = field(default_factory=list)
    stable: list[Stable] = field(default_factory=list)
    healed: float = 0.0
