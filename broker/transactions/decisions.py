"""What becomes of a transactional id: pure functions from its committed state and a request to a decision.

None of them is to be asked while a record of the id is on its way. `now_ms` is wall-clock time. `fresh` is a producer
id that nobody had before, if the caller has one at hand; a decision that needs one says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace

from kio.schema.errors import ErrorCode

from ottla.broker.transactions.model import (
    IDLE,
    NEEDS_ID,
    PREPARED,
    VERSION_2,
    Decision,
    Partition,
    Producer,
    State,
    Transaction,
)

AGAIN = Decision(ErrorCode.concurrent_transactions)
FENCED = Decision(ErrorCode.producer_fenced)
UNKNOWN = Decision(ErrorCode.invalid_producer_id_mapping)
WRONG_STATE = Decision(ErrorCode.invalid_txn_state)


def initialise(
    txn: Transaction | None, expected: Producer | None, timeout_ms: int, now_ms: int, fresh: int | None, version: int
) -> Decision:
    """InitProducerId: a producer begins, and whoever had the id before is fenced.

    `expected` is who the producer says to be: then it goes on after an error, if nobody else has come (KIP-360).
    `version` is the cluster's, by which a transaction that is under way is aborted; the producer has to ask again then.
    """
    if txn is None:
        if fresh is None:
            return NEEDS_ID
        first = Producer(fresh, 0)
        return Decision(record=Transaction(first, State.EMPTY, timeout_ms, now_ms), producer=first)
    if txn.state in PREPARED:
        return AGAIN
    if expected is not None and not _may_be(txn, expected):
        return FENCED
    if txn.state is State.ONGOING:
        fence = _fence(txn, now_ms, fresh, version, resume=expected is not None)
        return fence if fence.needs_id else replace(fence, error=ErrorCode.concurrent_transactions)
    return _next_epoch(txn, expected, timeout_ms, now_ms, fresh)


def _may_be(txn: Transaction, expected: Producer) -> bool:
    """Whether nobody else has come since: it is the present producer, or the one before, which did not hear."""
    if expected == txn.producer:
        return True
    unheard = txn.previous_id if txn.producer.epoch == 0 else txn.producer.id
    return expected == (unheard, txn.last_epoch)


def _next_epoch(
    txn: Transaction, expected: Producer | None, timeout_ms: int, now_ms: int, fresh: int | None
) -> Decision:
    assert txn.state in IDLE
    present = txn.producer
    if expected is None or expected == present:
        last_epoch = -1 if expected is None else present.epoch
        if not present.exhausted:
            following = Producer(present.id, present.epoch + 1)
        elif fresh is None:
            return NEEDS_ID
        else:
            following = Producer(fresh, 0)
    else:
        following, last_epoch = present, txn.last_epoch
    record = Transaction(
        producer=following,
        state=State.EMPTY,
        timeout_ms=timeout_ms,
        updated_at=now_ms,
        previous_id=txn.previous_id if following.id == present.id else present.id,
        last_epoch=last_epoch,
    )
    return Decision(record=record, producer=following)


def add(txn: Transaction | None, producer: Producer, partitions: Set[Partition], version: int, now_ms: int) -> Decision:
    """AddPartitionsToTxn, AddOffsetsToTxn: the partitions will be told of the outcome.

    `version` is the one that the request shows.
    """
    if txn is None:
        return UNKNOWN
    if txn.state in PREPARED:
        # First: the next producer id may be known to the producer already (KAFKA-18660).
        return AGAIN
    if txn.producer.id != producer.id:
        return UNKNOWN
    if txn.producer.epoch != producer.epoch:
        return FENCED
    if txn.state is State.ONGOING and partitions <= txn.partitions:
        return Decision()
    started_at = txn.started_at if txn.state is State.ONGOING else now_ms
    record = replace(
        txn,
        state=State.ONGOING,
        partitions=txn.partitions | partitions,
        started_at=started_at,
        updated_at=now_ms,
        last_epoch=-1,
        version=version,
    )
    return Decision(record=record)


def verify(
    txn: Transaction | None, producer: Producer, partitions: Set[Partition]
) -> ErrorCode | Mapping[Partition, ErrorCode]:
    """Whether the partitions are in the transaction, for a leader who is asked to append to them."""
    if txn is None or txn.producer.id != producer.id:
        return ErrorCode.invalid_producer_id_mapping
    if txn.producer.epoch != producer.epoch:
        return ErrorCode.producer_fenced
    if txn.state in PREPARED:
        return ErrorCode.concurrent_transactions
    return {each: ErrorCode.none if each in txn.partitions else ErrorCode.transaction_abortable for each in partitions}


def end(
    txn: Transaction | None, producer: Producer, commit: bool, version: int, now_ms: int, fresh: int | None
) -> Decision:
    """EndTxn. `version` is the client's: with v2 every transaction ends with a new epoch, and an end that comes late
    names an old one."""
    if txn is None:
        return UNKNOWN
    if version >= VERSION_2:
        return _end_v2(txn, producer, commit, now_ms, fresh)
    return _end_v1(txn, producer, commit, version, now_ms)


def _end_v1(txn: Transaction, producer: Producer, commit: bool, version: int, now_ms: int) -> Decision:
    if txn.producer.id != producer.id:
        return UNKNOWN
    if txn.producer.epoch != producer.epoch:
        return FENCED
    if txn.state is State.ONGOING:
        return Decision(record=_prepared(txn, commit, txn.producer, now_ms, version=version))
    if txn.state is (State.PREPARE_COMMIT if commit else State.PREPARE_ABORT):
        return AGAIN
    if txn.state is (State.COMPLETE_COMMIT if commit else State.COMPLETE_ABORT):
        return Decision()
    return WRONG_STATE


def _end_v2(txn: Transaction, producer: Producer, commit: bool, now_ms: int, fresh: int | None) -> Decision:
    """An abort may also come where nothing is under way: the producer does not know whether a leader has added the
    partition of a request that failed. It gets its new epoch all the same, so that such a request is fenced."""
    if txn.state in PREPARED:
        return AGAIN
    if _ended_by(txn, producer):
        same = txn.state is (State.COMPLETE_COMMIT if commit else State.COMPLETE_ABORT)
        return Decision(producer=txn.producer) if same else WRONG_STATE
    if txn.producer.id != producer.id:
        return UNKNOWN
    if txn.producer.epoch != producer.epoch:
        return FENCED
    if txn.state is not State.ONGOING and commit:
        return WRONG_STATE
    return _bumped(txn, commit, now_ms, fresh)


def _ended_by(txn: Transaction, producer: Producer) -> bool:
    """Whether it asks again for the end that its last transaction has had, not knowing of its new epoch."""
    complete = txn.state in (State.COMPLETE_COMMIT, State.COMPLETE_ABORT)
    return complete and txn.version >= VERSION_2 and producer != txn.producer and _may_be(txn, producer)


def _bumped(txn: Transaction, commit: bool, now_ms: int, fresh: int | None) -> Decision:
    """The end of a transaction with an epoch of its own. When the epochs are used up the markers get the very last
    one, and a new producer id takes over after them; also where the producer is fenced, or its belated abort would
    count as answered, and give it an epoch from which nobody can be fenced (KAFKA-20090)."""
    exhausted = txn.producer.exhausted
    if exhausted and fresh is None:
        return NEEDS_ID
    marked = Producer(txn.producer.id, txn.producer.epoch + 1)
    record = _prepared(txn, commit, marked, now_ms, version=VERSION_2)
    record = replace(record, last_epoch=txn.producer.epoch, next_id=-1 if fresh is None or not exhausted else fresh)
    return Decision(record=record, producer=record.successor)


def _prepared(txn: Transaction, commit: bool, producer: Producer, now_ms: int, *, version: int) -> Transaction:
    return replace(
        txn,
        producer=producer,
        state=State.PREPARE_COMMIT if commit else State.PREPARE_ABORT,
        started_at=txn.started_at if txn.state is State.ONGOING else now_ms,
        updated_at=now_ms,
        version=version,
    )


def _fence(txn: Transaction, now_ms: int, fresh: int | None, version: int, *, resume: bool) -> Decision:
    """Abort what is under way, in the next epoch (PrepareEpochFence and PrepareAbort in one).

    With `resume` the producer may ask for that epoch, as nobody else has come: InitProducerId, or with v2 its abort.
    """
    assert txn.state is State.ONGOING
    if version >= VERSION_2:
        decision = _bumped(txn, False, now_ms, fresh)
        if decision.record is None:
            return decision
        record = decision.record
    else:
        fenced = Producer(txn.producer.id, txn.producer.epoch + 1)
        record = _prepared(txn, False, fenced, now_ms, version=version)
    return Decision(record=replace(record, last_epoch=txn.producer.epoch if resume else -1))


def expires_at(txn: Transaction) -> int | None:
    """When the transaction that is under way will have lasted too long, ms since the epoch."""
    return txn.started_at + txn.timeout_ms if txn.state is State.ONGOING else None


def time_out(txn: Transaction, now_ms: int, fresh: int | None, version: int) -> Decision | None:
    """The abort of a transaction that has lasted too long, with its producer fenced (KAFKA-6119). None: not yet."""
    deadline = expires_at(txn)
    if deadline is None or now_ms < deadline:
        return None
    return _fence(txn, now_ms, fresh, version, resume=True)


def complete(txn: Transaction, now_ms: int) -> Transaction:
    """Every partition has its marker."""
    assert txn.state in PREPARED
    rotated = txn.next_id >= 0
    return replace(
        txn,
        producer=txn.successor,
        state=State.COMPLETE_COMMIT if txn.state is State.PREPARE_COMMIT else State.COMPLETE_ABORT,
        partitions=frozenset(),
        previous_id=txn.producer.id if rotated else txn.previous_id,
        next_id=-1,
        updated_at=now_ms,
    )


def is_expired(txn: Transaction, now_ms: int, expiration_ms: int) -> bool:
    """Whether nobody has used the id for so long that it is given up."""
    return txn.state in IDLE and txn.updated_at <= now_ms - expiration_ms
