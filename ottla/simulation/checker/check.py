"""The table of anomalies, and the function that looks for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ottla.simulation.checker.cycles import circular_flow
from ottla.simulation.checker.ends import stale_end
from ottla.simulation.checker.finding import Finding
from ottla.simulation.checker.loss import lost_write, truncated, unseen
from ottla.simulation.checker.model import Model
from ottla.simulation.checker.offsets import duplicate, inconsistent_offset
from ottla.simulation.checker.order import poll_order, send_order
from ottla.simulation.checker.reads import aborted_read, precommitted_read, torn_transaction, unwritten_read
from ottla.simulation.history import Entry

Check = Callable[[Model], Iterator[Finding]]

CHECKS: Final[dict[Check, tuple[str, ...]]] = {
    inconsistent_offset: ("inconsistent-offset",),
    duplicate: ("duplicate",),
    aborted_read: ("G1a",),
    precommitted_read: ("precommitted-read",),
    unwritten_read: ("unwritten-read",),
    torn_transaction: ("torn-transaction",),
    lost_write: ("lost-write",),
    unseen: ("unseen",),
    truncated: ("truncated",),
    poll_order: ("poll-skip", "nonmonotonic-poll", "int-poll-skip", "int-nonmonotonic-poll"),
    send_order: ("nonmonotonic-send", "int-nonmonotonic-send"),
    stale_end: ("stale-end",),
    circular_flow: ("G1c",),
}

ALLOWED: Final = frozenset({"G0", "int-send-skip"})
"""What Kafka permits, and nobody looks for: writes of several transactions that interleave, and records of others
between two of one operation. Skipped and repeated polls are permitted under `subscribe`, G1c with edges of write order:
there `order` and `cycles` do not look either."""


def check(entries: Iterable[Entry], *, unfinished: bool = False) -> list[Finding]:
    """Every anomaly of a history. `unfinished`: no final reads of everything follow, so that `unseen` says nothing.

    Raises ValueError for what is not a history.
    """
    model = Model(entries, finished=not unfinished)
    checks = [one for one in CHECKS if not (unfinished and one is unseen)]
    return [finding for one in checks for finding in one(model)]
