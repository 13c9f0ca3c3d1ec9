"""EndTxn, v0-v5: commit or abort. The answer says that the outcome stands in the coordinator's log, replicated; the
partitions are told after it.

v2 PRODUCER_FENCED · v3 flexible · v4 TRANSACTION_ABORTABLE · v5 a new epoch for every transaction (KIP-890, part 2).

With v5 the answer names the producer's epoch from now on, or its new id, when the epochs are used up; an EndTxn that
was lost is answered the same when it is asked again, and one that comes after its transaction was ended otherwise is
fenced. Below v5 the epoch stays, so that an EndTxn that is delayed until the producer's next transaction ends that one:
KIP-890 was made because that cannot be told apart.

Differences from Kafka: an EndTxn of v5 that names the epoch before the present one counts as asked again only if that
producer has ended its transaction with that epoch; Kafka goes by the number alone.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.answering import then
from ottla.broker.api.txn_errors import known_error
from ottla.broker.context import Answer, BrokerContext, Reply
from ottla.broker.transactions import VERSION_1, VERSION_2, Decision, Outcome, Producer, Transaction, decisions
from ottla.wire import Request

KEY = 26
_BUMPS = 5


def handle(context: BrokerContext, request: Request) -> Reply:
    body, coordinator = request.body, context.transactions
    if not body.transactional_id:
        return {"error_code": ErrorCode.invalid_request}
    shard = coordinator.shard_of(body.transactional_id)
    if isinstance(shard, ErrorCode):
        return {"error_code": shard}
    producer = Producer(body.producer_id, body.producer_epoch)
    version = VERSION_2 if request.api_version >= _BUMPS else VERSION_1

    def decide(transaction: Transaction | None, fresh: int | None) -> Decision:
        return decisions.end(transaction, producer, body.committed, version, coordinator.clock(), fresh)

    def answer(outcome: Outcome) -> Answer:
        return {
            "error_code": known_error(KEY, request.api_version, outcome.error),
            "producer_id": outcome.producer.id,
            "producer_epoch": outcome.producer.epoch,
        }

    return then(shard.ask(body.transactional_id, decide), answer)
