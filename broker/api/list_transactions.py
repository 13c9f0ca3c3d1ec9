"""ListTransactions, v0-v2: the transactional ids that this broker coordinates (KIP-664).

v1 by how long the transaction has been under way (KIP-994) · v2 by a pattern (KIP-1152).

Differences from Kafka: with a duration only ids with a transaction under way are listed; Kafka also lists those that
never had one. Regular expressions may have 512 characters at most.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.re2 import Pattern, compiled
from ottla.broker.transactions import IDLE, State, Transaction
from ottla.wire import Request

_STATES = {state.label: state for state in State}


def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    pattern = getattr(body, "transactional_id_pattern", None)
    wanted = compiled(pattern) if pattern else None
    if pattern and wanted is None:
        return {"error_code": ErrorCode.invalid_regular_expression}
    rows: list[dict[str, object]] = []
    for shard in context.transactions.shards():
        if not shard.log.ready:
            return {"error_code": ErrorCode.coordinator_load_in_progress}
        rows += _rows(shard.transactions, body, wanted, context.clock())
    unknown = [state for state in body.state_filters if state not in _STATES]
    return {"error_code": ErrorCode.none, "unknown_state_filters": unknown, "transaction_states": rows}


def _rows(
    transactions: Iterable[tuple[str, Transaction]], body: Any, wanted: Pattern | None, now_ms: int
) -> Iterable[dict[str, object]]:
    states = {_STATES.get(state) for state in body.state_filters}
    producers = set(body.producer_id_filters)
    duration_ms = getattr(body, "duration_filter", -1)
    for transactional_id, found in transactions:
        if states and found.state not in states:
            continue
        if producers and found.producer.id not in producers:
            continue
        if duration_ms >= 0 and (found.state in IDLE or now_ms - found.started_at <= duration_ms):
            continue
        if wanted is not None and not wanted.fullmatch(transactional_id):
            continue
        yield {
            "transactional_id": transactional_id,
            "producer_id": found.producer.id,
            "transaction_state": found.state.label,
        }
