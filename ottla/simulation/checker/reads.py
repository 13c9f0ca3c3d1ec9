"""What must not be read: what failed, what is not committed yet, what nobody wrote, half of a transaction."""

from __future__ import annotations

from collections.abc import Iterator

from ottla.simulation.checker.finding import Finding
from ottla.simulation.checker.model import Model


def aborted_read(model: Model) -> Iterator[Finding]:
    """G1a: an ok poll gave a value whose writer was told that it failed."""
    for key, log in sorted(model.logs.items()):
        for value, readers in log.reads.items():
            writers = model.writers.get((key, value), [])
            if not writers or any(send.op.type != "fail" for send in writers):
                continue
            ops = [op.index for op in readers if op.type == "ok"]
            if ops:
                failed = writers[0].op
                text = f"value {value} was read, and writing it failed ({failed.error})"
                yield Finding("G1a", key, (failed.index, *ops), text)


def precommitted_read(model: Model) -> Iterator[Finding]:
    """A transaction polls what it has sent itself."""
    for op in model.ops:
        if op.f != "txn":
            continue
        own = {(send.key, send.value) for send in model.sends_of[op.index]}
        for key, records in op.polls():
            for offset, value in records:
                if (key, value) in own:
                    text = f"the transaction read its own value {value} at offset {offset} before it committed"
                    yield Finding("precommitted-read", key, (op.index,), text)


def unwritten_read(model: Model) -> Iterator[Finding]:
    """A value that nobody sent."""
    for key, log in sorted(model.logs.items()):
        for value, readers in log.reads.items():
            if (key, value) not in model.writers:
                ops = tuple(op.index for op in readers)
                yield Finding("unwritten-read", key, ops, f"value {value} was read, and nobody wrote it")


def torn_transaction(model: Model) -> Iterator[Finding]:
    """Of one transaction something was read, and something was not, although everything up to there was read: up to a
    value behind it, or, in a history that has come to its end, all that there is."""
    for op in model.ops:
        if op.f != "txn" or op.type == "fail":
            continue
        sends = model.sends_of[op.index]
        missing = [send for send in sends if send.value not in model.logs[send.key].ok_reads]
        if not missing or len(missing) == len(sends):
            continue
        for send in missing:
            log = model.logs[send.key]
            rank = log.last_rank(send.value)
            if model.finished or (rank is not None and rank <= log.read_up_to()):
                text = f"value {send.value} is missing of a transaction of {len(sends)} of which others were read"
                yield Finding("torn-transaction", send.key, (op.index,), text)
                break
