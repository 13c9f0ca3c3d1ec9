"""InitProducerId, v0-v6: an id and an epoch for a producer; a transactional one fences whoever had its id before.

v2 flexible · v3 a producer may go on after an error, in a new epoch (KIP-360) · v4 PRODUCER_FENCED · v5
TRANSACTION_ABORTABLE · v6 two-phase commit (KIP-939).

A transaction that is under way is aborted first, and the client asks again on CONCURRENT_TRANSACTIONS. Without a
transactional id the answer is always a new id with epoch 0, as in Kafka.

Differences from Kafka: two-phase commit is not served; `enable_2pc` is answered as in Kafka where it is not enabled
(TRANSACTIONAL_ID_AUTHORIZATION_FAILED), `keep_prepared_txn` with UNSUPPORTED_VERSION. A producer that names an epoch
that is neither the present one nor the last is fenced also while a transaction is under way, instead of aborting it. A
transaction that another producer's start has aborted cannot be resumed by its own producer, also with transactions v2.
"""

from __future__ import annotations

from collections.abc import Awaitable

from kio.schema.errors import ErrorCode

from ottla.broker.answering import then
from ottla.broker.api.txn_errors import known_error
from ottla.broker.context import Answer, BrokerContext
from ottla.broker.transactions import Decision, Outcome, Producer, Transaction, decisions
from ottla.controller import RpcError
from ottla.wire import Request

KEY = 22


def handle(context: BrokerContext, request: Request) -> Answer | Awaitable[Answer]:
    transactional_id = request.body.transactional_id
    if transactional_id is not None:
        return _transactional(context, request, transactional_id)
    producer_id = context.producer_ids.try_next()
    if producer_id is None:
        return _after_refill(context)
    return _given(Producer(producer_id, 0))


async def _after_refill(context: BrokerContext) -> Answer:
    try:
        return _given(Producer(await context.producer_ids.next(), 0))
    except RpcError:
        # What Kafka says when the controller gave no block in time: clients ask again.
        return _refused(ErrorCode.coordinator_load_in_progress)


def _transactional(context: BrokerContext, request: Request, transactional_id: str) -> Answer | Awaitable[Answer]:
    body, coordinator = request.body, context.transactions
    timeout_ms = round(body.transaction_timeout.total_seconds() * 1000)
    named = Producer(getattr(body, "producer_id", -1), getattr(body, "producer_epoch", -1))
    error = _check(transactional_id, named, body)
    if error is not ErrorCode.none:
        return _refused(error)
    if not 0 < timeout_ms <= coordinator.config.transaction_max_timeout_ms:
        return _refused(ErrorCode.invalid_transaction_timeout)
    shard = coordinator.shard_of(transactional_id)
    if isinstance(shard, ErrorCode):
        return _refused(shard)
    expected = None if named.id < 0 else named

    def decide(transaction: Transaction | None, fresh: int | None) -> Decision:
        return decisions.initialise(
            transaction, expected, timeout_ms, coordinator.clock(), fresh, coordinator.version()
        )

    def answer(outcome: Outcome) -> Answer:
        if outcome.error is not ErrorCode.none:
            return _refused(known_error(KEY, request.api_version, outcome.error))
        return _given(outcome.producer)

    return then(shard.ask(transactional_id, decide), answer)


def _check(transactional_id: str, named: Producer, body: object) -> ErrorCode:
    if not transactional_id or (named.id < 0) != (named.epoch < 0):
        return ErrorCode.invalid_request
    if getattr(body, "enable2_pc", False):
        return ErrorCode.transactional_id_authorization_failed
    return ErrorCode.unsupported_version if getattr(body, "keep_prepared_txn", False) else ErrorCode.none


def _given(producer: Producer) -> Answer:
    return {"error_code": ErrorCode.none, "producer_id": producer.id, "producer_epoch": producer.epoch}


def _refused(error: ErrorCode) -> Answer:
    return {"error_code": error, "producer_id": -1, "producer_epoch": -1}
