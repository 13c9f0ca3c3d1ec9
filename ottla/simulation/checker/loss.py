"""Records that should be there and are not."""

from __future__ import annotations

from collections.abc import Iterator

from ottla.simulation.checker.finding import Finding
from ottla.simulation.checker.model import Log, Model


def lost_write(model: Model) -> Iterator[Finding]:
    """A committed value was not read, although somebody read a value behind it."""
    bounds = {key: max((_rank(log, value) for value in log.ok_reads), default=-1) for key, log in model.logs.items()}
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
    """A consumer was told that the log no longer holds what it had read: only what is committed is ever shown."""
    for op in model.ops:
        if op.f in ("poll", "txn") and op.error is not None and op.error.startswith(TRUNCATIONS):
            yield Finding("truncated", None, (op.index,), op.error)


TRUNCATIONS = ("LogTruncationError", "OffsetOutOfRangeError")


def _rank(log: Log, value: int) -> int:
    rank = log.first_rank(value)
    assert rank is not None, "what was read has a place"
    return rank
