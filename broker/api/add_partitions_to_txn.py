"""AddPartitionsToTxn, v0-v5: the partitions will be told of the outcome of the producer's transaction.

v2 PRODUCER_FENCED · v3 flexible · v4 many transactions, and `verify_only`: is a partition in the transaction? · v5
TRANSACTION_ABORTABLE (KIP-890).

Up to v3 a client asks before it writes to a partition. From v4 on the leader of a partition asks when it gets a produce
request: to add it on the producer's behalf (transactions v2), or to verify that it was added. Only brokers may.

Differences from Kafka: a transactional id that a request names twice is answered INVALID_REQUEST for both.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, NamedTuple

from kio.schema.errors import ErrorCode

from ottla.broker.answering import then
from ottla.broker.api.txn_errors import known_error
from ottla.broker.context import Answer, BrokerContext, Reply
from ottla.broker.transactions import VERSION_1, VERSION_2, Decision, Outcome, Producer, Shard, Transaction, decisions
from ottla.wire import Request

KEY = 24
_FROM_BROKERS = 4

Partitions = frozenset[tuple[str, int]]
Errors = Mapping[tuple[str, int], ErrorCode]


class _Ask(NamedTuple):
    """One transaction of a request."""

    transactional_id: str
    producer: Producer
    partitions: Partitions
    verify_only: bool


def handle(context: BrokerContext, request: Request) -> Reply:
    body, version = request.body, request.api_version
    if version < _FROM_BROKERS:
        ask = _Ask(
            body.v3_and_below_transactional_id,
            Producer(body.v3_and_below_producer_id, body.v3_and_below_producer_epoch),
            _partitions(body.v3_and_below_topics),
            False,
        )
        return _converted(
            _one(context, ask, version), lambda errors: {"results_by_topic_v3_and_below": _topic_rows(errors)}
        )
    if not request.connection.principal.startswith("node:"):
        return {"error_code": ErrorCode.cluster_authorization_failed}
    return _many(context, body, version)


def _partitions(topics: Iterable[Any]) -> Partitions:
    return frozenset((topic.name, index) for topic in topics for index in topic.partitions)


def _many(context: BrokerContext, body: Any, version: int) -> Reply:
    named = Counter(row.transactional_id for row in body.transactions)
    found: list[tuple[str, Errors | asyncio.Future[Errors]]] = []
    for row in body.transactions:
        ask = _Ask(
            row.transactional_id,
            Producer(row.producer_id, row.producer_epoch),
            _partitions(row.topics),
            row.verify_only,
        )
        twice = named[row.transactional_id] > 1
        errors = _all(ask, ErrorCode.invalid_request) if twice else _one(context, ask, version)
        found.append((row.transactional_id, errors))
    if any(isinstance(errors, asyncio.Future) for _, errors in found):
        return _gathered(found)
    return {"results_by_transaction": [_row(each, errors) for each, errors in found if isinstance(errors, Mapping)]}


async def _gathered(found: list[tuple[str, Errors | asyncio.Future[Errors]]]) -> Answer:
    rows = []
    for transactional_id, errors in found:
        rows.append(_row(transactional_id, errors if isinstance(errors, Mapping) else await errors))
    return {"results_by_transaction": rows}


def _row(transactional_id: str, errors: Errors) -> Mapping[str, object]:
    return {"transactional_id": transactional_id, "topic_results": _topic_rows(errors)}


def _one(context: BrokerContext, ask: _Ask, version: int) -> Errors | asyncio.Future[Errors]:
    if not ask.transactional_id:
        return _all(ask, ErrorCode.invalid_request)
    image = context.view.image
    unknown = {each for each in ask.partitions if image.partition(*each) is None}
    if unknown:
        # All or nothing: the others say that they were not looked at.
        return {
            each: ErrorCode.unknown_topic_or_partition if each in unknown else ErrorCode.operation_not_attempted
            for each in ask.partitions
        }
    coordinator = context.transactions
    shard = coordinator.shard_of(ask.transactional_id)
    if isinstance(shard, ErrorCode):
        return _all(ask, shard)
    if ask.verify_only:
        return then(shard.confirmations.ask(), lambda leads: _verified(shard, ask, leads=leads))
    by = VERSION_2 if version >= _FROM_BROKERS else VERSION_1

    def decide(transaction: Transaction | None, _fresh: int | None) -> Decision:
        return decisions.add(transaction, ask.producer, ask.partitions, by, coordinator.clock())

    def errors_of(outcome: Outcome) -> Errors:
        return _all(ask, known_error(KEY, version, outcome.error))

    return then(shard.ask(ask.transactional_id, decide), errors_of)


def _verified(shard: Shard, ask: _Ask, *, leads: bool) -> Errors:
    """A coordinator that was replaced, and does not know it yet, verifies nothing: its successor may have ended what is
    open here, and a record that comes after the marker would hang."""
    if not leads or not shard.log.leads:
        return _all(ask, ErrorCode.not_coordinator)
    verified = decisions.verify(shard.transactions.get(ask.transactional_id), ask.producer, ask.partitions)
    return _all(ask, verified) if isinstance(verified, ErrorCode) else verified


def _all(ask: _Ask, error: ErrorCode) -> Errors:
    return dict.fromkeys(ask.partitions, error)


def _converted(errors: Errors | asyncio.Future[Errors], answer: Any) -> Reply:
    return then(errors, answer) if isinstance(errors, asyncio.Future) else answer(errors)


def _topic_rows(errors: Errors) -> list[dict[str, object]]:
    return [
        {
            "name": topic,
            "results_by_partition": [
                {"partition_index": index, "partition_error_code": errors[topic, index]} for _, index in rows
            ],
        }
        for topic, rows in groupby(sorted(errors), lambda at: at[0])
    ]
