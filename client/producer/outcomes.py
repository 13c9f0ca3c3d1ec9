"""What the program is told of a batch that is settled."""

from __future__ import annotations

from ottla.client.errors import (
    AbortableTransactionError,
    FatalTransactionError,
    Fields,
    KafkaError,
    KafkaTimeoutError,
    ProducerFenced,
    error_for,
)
from ottla.client.producer.batch import Acked, Failed
from ottla.client.structs import RecordMetadata


def resolve(acked: Acked) -> None:
    """Tell whoever waits for the batch's records where they are."""
    batch = acked.batch
    appended_at = acked.log_append_time
    for index, (record, future) in enumerate(zip(batch.records, batch.tokens, strict=True)):
        if future.done():
            continue
        offset = acked.base_offset + index if acked.base_offset >= 0 else -1
        timestamp = record.timestamp if appended_at < 0 else appended_at
        future.set_result(
            RecordMetadata(*batch.tp, batch.tp, offset, timestamp, int(appended_at >= 0), acked.log_start_offset)
        )


def reject(failed: Failed, leader_epoch: int, *, transactional: bool) -> None:
    """Tell whoever waits for the batch's records why there is none to wait for, each by an error of its own."""
    for future in failed.batch.tokens:
        if not future.done():
            future.set_exception(error_of(failed, leader_epoch))
            if transactional:
                # The transaction fails with it, so nobody has to look at the record's own outcome.
                future.exception()


def error_of(failed: Failed, leader_epoch: int) -> KafkaError:
    """Why it was given up, and whether its records may be in the log. `leader_epoch` is the newest that is known."""
    error = _error(failed, leader_epoch)
    error.definite = not failed.maybe_appended
    return error


def _error(failed: Failed, leader_epoch: int) -> KafkaError:
    batch = failed.batch
    fate = "the records may be in the log" if failed.maybe_appended else "the records are not in the log"
    where: Fields = {
        "broker": batch.node,
        "partition": batch.tp,
        "leader_epoch": leader_epoch,
        "attempts": batch.attempts,
    }
    if failed.cause is not None:
        own: Fields = {"partition": batch.tp, "leader_epoch": leader_epoch}
        return _like(failed.cause, fate, {**where, **failed.cause.fields, **own})
    if failed.code is None:
        last = f", last error {batch.last_error.name.upper()}" if batch.last_error is not None else ""
        return KafkaTimeoutError(f"{failed.message}{last}; {fate}", **where)
    return error_for(failed.code, f"{failed.message}; {fate}" if failed.message else fate, **where)


def _like(cause: KafkaError, fate: str, where: Fields) -> KafkaError:
    """What the transaction failed with, as the error of a record of it: after a fatal one nothing can be aborted."""
    error: KafkaError
    if isinstance(cause, ProducerFenced):
        error = ProducerFenced(cause.code, fate if cause.message is None else f"{cause.message}; {fate}", **where)
    elif isinstance(cause, FatalTransactionError):
        error = FatalTransactionError(f"{cause.text}; {fate}", **where)
    else:
        error = AbortableTransactionError(f"{cause.text}; {fate}", **where)
    error.__cause__ = cause
    return error
