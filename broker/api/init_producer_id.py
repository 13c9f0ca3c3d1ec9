"""InitProducerId, v0-v5: an id for an idempotent producer.

v2 retriable errors · v3 a producer may ask for a new epoch of its id (KIP-360) · v4 PRODUCER_FENCED · v5 as v4.

Differences from Kafka: there are no transactions yet, so a transactional id is refused with
TRANSACTIONAL_ID_AUTHORIZATION_FAILED: every client treats that as final and says why, where COORDINATOR_NOT_AVAILABLE
would be retried for ever. Without one the answer is always a new id with epoch 0, as in Kafka (the id in the request
concerns only transactional producers).
"""

from __future__ import annotations

from collections.abc import Awaitable

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.controller import RpcError
from ottla.wire import Request


def handle(context: BrokerContext, request: Request) -> Answer | Awaitable[Answer]:
    transactional_id = request.body.transactional_id
    if transactional_id == "":
        return _refused(ErrorCode.invalid_request)
    if transactional_id is not None:
        return _refused(ErrorCode.transactional_id_authorization_failed)
    producer_id = context.producer_ids.try_next()
    if producer_id is None:
        return _after_refill(context)
    return _given(producer_id)


async def _after_refill(context: BrokerContext) -> Answer:
    try:
        return _given(await context.producer_ids.next())
    except RpcError:
        # What Kafka says when the controller gave no block in time: clients ask again.
        return _refused(ErrorCode.coordinator_load_in_progress)


def _given(producer_id: int) -> Answer:
    return {"error_code": ErrorCode.none, "producer_id": producer_id, "producer_epoch": 0}


def _refused(error: ErrorCode) -> Answer:
    return {"error_code": error, "producer_id": -1, "producer_epoch": -1}
