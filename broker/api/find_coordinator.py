"""FindCoordinator, v0-v6: no group or transactional id has a coordinator yet, and that is what is answered.

v1 key types and a message · v3 flexible · v4 many keys at once (KIP-699) · v5 TRANSACTION_ABORTABLE · v6 share groups.

The API is there before any coordinator because of what its absence would do: librdkafka sends lz4 only to brokers that
advertise it (it takes FindCoordinator as the sign of a broker that frames lz4 rightly) and else leaves batches
uncompressed without a word. COORDINATOR_NOT_AVAILABLE is the one answer to which it does not hand an error to a
consumer that only reads what it was assigned, although it has a group's name.

Differences from Kafka: any group is answered so; Kafka answers so only while the coordinator's topic has no leader.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.wire import Request

_MANY_KEYS = 4
_KEY_TYPES = {0: "Consumer groups are", 1: "Transactions are", 2: "Share groups are"}


def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    kind = getattr(body, "key_type", 0)
    row: dict[str, object] = {
        "node_id": -1,
        "host": "",
        "port": -1,
        "error_code": ErrorCode.coordinator_not_available if kind in _KEY_TYPES else ErrorCode.invalid_request,
        "error_message": (
            f"{_KEY_TYPES[kind]} not served by this broker." if kind in _KEY_TYPES else f"Unknown key type {kind}."
        ),
    }
    if request.api_version >= _MANY_KEYS:
        return {"coordinators": [{**row, "key": key} for key in body.coordinator_keys]}
    return row
