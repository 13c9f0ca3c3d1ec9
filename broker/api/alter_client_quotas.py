"""AlterClientQuotas, v0-v1: set and remove the quotas of users and client ids (KIP-546).

v1 flexible.

Differences from Kafka: `producer_byte_rate`, `consumer_byte_rate` and `request_percentage` are enforced, and others
(`controller_mutation_rate`, and `connection_creation_rate` of addresses) refused, not kept without effect. Clients are
ANONYMOUS, so a quota of any other user limits nobody. `request_percentage` is of the one thread that serves clients,
where Kafka's goes up to 100% of every thread; what is done for a request while it waits for others (acknowledgements
that come, a group that rebalances) is charged to nobody, as in Kafka.
"""

from __future__ import annotations

from typing import Any

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.forwarding import Refusal, ask_controller
from ottla.controller import AlterClientQuotas, ClientQuotaEntry, ClientQuotaOp
from ottla.wire import Request


async def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    entries = tuple(_entry(entry) for entry in body.entries)
    answer = await ask_controller(context, AlterClientQuotas(entries=entries, validate_only=body.validate_only))
    if isinstance(answer, Refusal):
        return {"entries": [_row(entry.entity, answer.error, answer.message) for entry in entries]}
    return {"entries": [_row(result.entity, result.error, result.message) for result in answer.entries]}


def _entry(entry: Any) -> ClientQuotaEntry:
    return ClientQuotaEntry(
        entity=tuple((part.entity_type, part.entity_name) for part in entry.entity),
        ops=tuple(ClientQuotaOp(key=op.key, value=None if op.remove else float(op.value)) for op in entry.ops),
    )


def _row(entity: tuple[tuple[str, str | None], ...], error: int, message: str | None) -> dict[str, object]:
    return {
        "error_code": error,
        "error_message": message,
        "entity": [{"entity_type": kind, "entity_name": name} for kind, name in entity],
    }
