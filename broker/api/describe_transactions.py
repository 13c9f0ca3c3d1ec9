"""DescribeTransactions, v0: the transaction of each transactional id, by the coordinator that has it (KIP-664).

Differences from Kafka: none. The start time is -1 where there was no transaction yet.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import groupby

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.transactions import Transaction
from ottla.wire import Request

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def handle(context: BrokerContext, request: Request) -> Answer:
    return {"transaction_states": [_row(context, each) for each in dict.fromkeys(request.body.transactional_ids)]}


def _row(context: BrokerContext, transactional_id: str) -> dict[str, object]:
    shard = context.transactions.shard_of(transactional_id) if transactional_id else ErrorCode.invalid_request
    if isinstance(shard, ErrorCode):
        return _refused(transactional_id, shard)
    found = shard.transactions.get(transactional_id)
    if found is None:
        return _refused(transactional_id, ErrorCode.transactional_id_not_found)
    return {
        "error_code": ErrorCode.none,
        "transactional_id": transactional_id,
        "transaction_state": found.state.label,
        "transaction_timeout": found.timeout_ms,
        # As a time, because an int below zero stands for null where a time may be null.
        "transaction_start_time": _EPOCH + timedelta(milliseconds=found.started_at),
        "producer_id": found.producer.id,
        "producer_epoch": found.producer.epoch,
        "topics": _topics(found),
    }


def _topics(found: Transaction) -> list[dict[str, object]]:
    rows = groupby(sorted(found.partitions), lambda at: at[0])
    return [{"topic": topic, "partitions": [index for _, index in each]} for topic, each in rows]


def _refused(transactional_id: str, error: ErrorCode) -> dict[str, object]:
    return {"error_code": error, "transactional_id": transactional_id}
