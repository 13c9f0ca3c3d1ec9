"""UnregisterBroker, v0: a broker that will not come back is forgotten (KIP-500).

It stays in the lists of replicas that it is in: move them away first. A broker that still runs registers again.

Differences from Kafka: a broker that registers after it was unregistered counts as one that may have lost records, for
nobody knows what became of its disk.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.forwarding import Refusal, ask_controller
from ottla.controller import UnregisterBroker
from ottla.wire import Request


async def handle(context: BrokerContext, request: Request) -> Answer:
    answer = await ask_controller(context, UnregisterBroker(broker_id=request.body.broker_id))
    if isinstance(answer, Refusal):
        return {"error_code": answer.error, "error_message": answer.message}
    return {"error_code": ErrorCode.none, "error_message": None}
