"""Records that should be there and are not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ottla.simulation.checker.finding import Finding
from ottla.simulation.checker.model import Model


def lost_write(model: Model) -> Iterator[Finding]:
    """A committed value was not read, although somebody read a value behind it."""
    bounds = {key: log.read_up_to() for key, log in model.logs.items()}
    for send in model.committed:
        log = model.logs[send.key]
        rank = log.last_rank(send.value)
        if rank is not None and rank <= bounds[send.key] and send.value not in log.ok_reads:
            text = f"value {send.value} at offset {max(log.places[send.value])} was skipped by everybody"
            yield Finding("lost-write", send.key, (send.op.index,), text)


def unseen(model: Model) -> Iterator[Finding]:
    """An acknowledged value was never read. After final reads of everything that is a loss."""
    for send in model.sends:
        if send.acknowledged and send.value not in model.logs[send.key].ok_reads:
            text = f"value {send.value}, acknowledged at offset {send.offset}, was never read"
            yield Finding("unseen", send.key, (send.op.index,), text)


def truncated(model: Model) -> Iterator[Finding]:
    """A consumer was told that the log no longer holds what it had read: only what is committed is ever shown.

    An offset that is out of range says so only where the consumer came by reading. Was it sent there by what another
    one knew, it may ask a leader that was replaced and has not heard of it, whose log ends earlier, in Kafka too.
    """
    came_by_reading: set[tuple[int, str]] = set()
    for op in model.ops:
        if op.f == "assign" and op.type == "ok":
            came_by_reading -= {(op.process, key) for key, offset in op.value.items() if offset is not None}
        elif op.f in ("poll", "txn") and op.error is not None and op.error.startswith(TRUNCATIONS):
            named = _PARTITION.search(op.error)
            if op.error.startswith(OUT_OF_RANGE) and named and (op.process, named[1]) not in came_by_reading:
                continue
            yield Finding("truncated", None, (op.index,), op.error)
        elif op.type == "ok":
            came_by_reading |= {(op.process, key) for key, records in op.polls() if records}


OUT_OF_RANGE = "OffsetOutOfRangeError"
TRUNCATIONS = ("LogTruncationError", OUT_OF_RANGE)
_PARTITION = re.compile(r"\[partition ([^\s,\]]+)")
