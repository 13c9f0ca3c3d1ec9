"""A schedule of faults is data: drawn from the seed once, and then played as it is, whole or in part."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_PAUSES_S = (0.05, 0.3, 1.0, 3.0)
_DURATIONS_S = (0.1, 1.0, 5.0)
# Some runs have room between the faults, in which much is written and everything returns to its place.
_PACES = (1.0, 1.0, 3.0)
_MOST_KINDS = 6


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a schedule. `at` is virtual seconds after the faults begin, `lasts` how long until it is undone.

    Everything else that it draws (whom, how much) comes from a Random of its own, made from `lot`: a schedule from
    which others were left out does to the cluster what is left of it.
    """

    at: float
    kind: str
    lasts: float
    lot: int


def swarm(rng: random.Random, kinds: Sequence[str]) -> list[str]:
    """A part of the kinds: faults that are always all on hide each other (Groce et al., Swarm Testing, ISSTA 2012)."""
    return rng.sample(kinds, min(len(kinds), rng.randint(1, _MOST_KINDS)))


def draw(rng: random.Random, kinds: Iterable[str], seconds: float) -> tuple[Fault, ...]:
    """Faults of these kinds for so many virtual seconds, in the order in which they begin. They overlap."""
    choices = list(kinds)
    faults: list[Fault] = []
    at, pace = 0.0, rng.choice(_PACES)
    while choices:
        at += rng.choice(_PAUSES_S) * rng.uniform(0.2, 2.0) * pace
        if at >= seconds:
            break
        lasts = rng.choice(_DURATIONS_S) * rng.uniform(0.2, 2.0)
        # Milliseconds are enough, and can be read and typed.
        faults.append(Fault(round(at, 3), rng.choice(choices), round(lasts, 3), rng.getrandbits(32)))
    return tuple(faults)
