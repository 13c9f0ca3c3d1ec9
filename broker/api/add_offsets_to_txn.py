"""AddOffsetsToTxn, v0-v4: the partition of `__consumer_offsets` that has the group will be told of the outcome.

v2 PRODUCER_FENCED · v3 flexible · v4 TRANSACTION_ABORTABLE.

Differences from Kafka: where `__consumer_offsets` does not exist yet the answer waits until it was made. (Kafka counts
its partitions by the configuration.)
"""

from __future__ import annotations

from collections.abc import Mapping

from kio.schema.errors import ErrorCode

from ottla.broker.answering import then
from ottla.broker.api.txn_errors import known_error
from ottla.broker.context import Answer, BrokerContext, Reply
from ottla.broker.coordination import OFFSETS_TOPIC
from ottla.broker.transactions import VERSION_1, Decision, Outcome, Producer, Transaction, decisions
from ottla.wire import Request

KEY = 25


def handle(context: BrokerContext, request: Request) -> Reply:
    body = request.body
    if not body.transactional_id:
        return {"error_code": ErrorCode.invalid_request}
    home = context.groups.home(body.group_id)
    return _after_creation(context, request) if home is None else _add(context, request, home[0])


async def _after_creation(context: BrokerContext, request: Request) -> Answer:
    await context.groups.topic.ensure()
    home = context.groups.home(request.body.group_id)
    if home is None:
        return {"error_code": ErrorCode.coordinator_not_available}
    answer = _add(context, request, home[0])
    return answer if isinstance(answer, Mapping) else await answer


def _add(context: BrokerContext, request: Request, index: int) -> Reply:
    body, coordinator = request.body, context.transactions
    shard = coordinator.shard_of(body.transactional_id)
    if isinstance(shard, ErrorCode):
        return {"error_code": shard}
    producer = Producer(body.producer_id, body.producer_epoch)
    partitions = frozenset({(OFFSETS_TOPIC, index)})

    def decide(transaction: Transaction | None, _fresh: int | None) -> Decision:
        return decisions.add(transaction, producer, partitions, VERSION_1, coordinator.clock())

    def answer(outcome: Outcome) -> Answer:
        return {"error_code": known_error(KEY, request.api_version, outcome.error)}

    return then(shard.ask(body.transactional_id, decide), answer)
