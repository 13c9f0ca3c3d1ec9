"""What must hold of transactions beyond what a history says. Pure functions of what clients were told.

* copied-twice, not-copied, copied-from-nothing: a program that consumes, transforms and produces in transactions counts
  every input exactly once in the eyes of a read-committed reader;
* hanging-transaction: after everything is well again, every transaction that nobody ends any more is aborted by its
  timeout, so that what is stable reaches the end of every partition.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ottla.simulation.checker import Finding
from ottla.simulation.transactions.told import At, Place, Told

_SHOWN = 5


def check_transactions(told: Told, *, patience: float) -> list[Finding]:
    """`patience`: how many seconds after healing a transaction may still be open, its timeout and some slack.

    Counts are looked at only if somebody has read everything.
    """
    return [*exactly_once(told), *hanging(told, patience)]


def exactly_once(told: Told) -> Iterator[Finding]:
    copies: defaultdict[Place, list[Place]] = defaultdict(list)
    for copy in told.copies:
        copies[copy.source].append(copy.place)
    for source, places in copies.items():
        (at, offset), places = source, sorted(set(places))
        if source not in told.inputs:
            text = f"{_name(places[0])} was made of offset {offset}, and there is no such input"
            yield Finding("copied-from-nothing", name(at), (), text)
        elif len(places) > 1:
            text = f"offset {offset} was copied {len(places)} times: {', '.join(map(_name, places[:_SHOWN]))}"
            yield Finding("copied-twice", name(at), (), text)
    missing: defaultdict[At, list[int]] = defaultdict(list)
    for at, offset in sorted(told.inputs - copies.keys()):
        missing[at].append(offset)
    for at, offsets in missing.items():
        yield Finding("not-copied", name(at), (), f"{len(offsets)} inputs: {offsets[:_SHOWN]}")


def hanging(told: Told, patience: float) -> Iterator[Finding]:
    """A partition that was stable to its end once after healing is well: what was written later is not left over."""
    well = {row.at for row in told.stable if row.stable >= row.end}
    last = {row.at: row for row in told.stable if row.moment >= told.healed + patience}
    for at, row in last.items():
        if at not in well:
            since = row.moment - told.healed
            text = f"stable up to {row.stable} of {row.end}, {since:.1f} s after everything was well again"
            yield Finding("hanging-transaction", name(at), (), text)


def name(at: At) -> str:
    return f"{at[0]}-{at[1]}"


def _name(place: Place) -> str:
    return f"{name(place[0])}@{place[1]}"
