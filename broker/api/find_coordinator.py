"""FindCoordinator, v0-v6: the leader of the partition that a group or a transactional id belongs to.

v1 key types and a message · v3 flexible · v4 many keys at once (KIP-699) · v5 TRANSACTION_ABORTABLE · v6 share groups.

Differences from Kafka: share groups have no coordinator here, and are answered COORDINATOR_NOT_AVAILABLE. Where the
internal topic does not exist yet the answer waits until it was made, instead of sending the client away to ask again.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.cluster_view import endpoint
from ottla.broker.context import Answer, BrokerContext, Reply
from ottla.broker.groups import GroupCoordinator
from ottla.broker.transactions import TransactionCoordinator
from ottla.wire import Request

_MANY_KEYS = 4
_GROUP, _TRANSACTION, _SHARE = 0, 1, 2


def handle(context: BrokerContext, request: Request) -> Reply:
    coordinator = _coordinator(context, getattr(request.body, "key_type", _GROUP))
    if coordinator is not None and coordinator.home("") is None:
        return _after_creation(context, coordinator, request)
    return _answer(context, request)


def _coordinator(context: BrokerContext, kind: int) -> GroupCoordinator | TransactionCoordinator | None:
    if kind == _GROUP:
        return context.groups
    return context.transactions if kind == _TRANSACTION else None


async def _after_creation(
    context: BrokerContext, coordinator: GroupCoordinator | TransactionCoordinator, request: Request
) -> Answer:
    await coordinator.topic.ensure()
    return _answer(context, request)


def _answer(context: BrokerContext, request: Request) -> Answer:
    body, listener = request.body, request.connection.listener
    kind = getattr(body, "key_type", _GROUP)
    if request.api_version >= _MANY_KEYS:
        return {"coordinators": [{**_row(context, kind, key, listener), "key": key} for key in body.coordinator_keys]}
    return _row(context, kind, body.key, listener)


def _row(context: BrokerContext, kind: int, key: str, listener: str) -> dict[str, object]:
    if kind == _SHARE:
        return _refused(ErrorCode.coordinator_not_available, "Share groups are not served by this broker.")
    coordinator = _coordinator(context, kind)
    if coordinator is None:
        return _refused(ErrorCode.invalid_request, f"Unknown key type {kind}.")
    home = coordinator.home(key)
    broker = None if home is None else context.view.image.brokers.get(home[1].leader)
    address = None if broker is None or broker.fenced else endpoint(broker, listener)
    if broker is None or address is None:
        return _refused(ErrorCode.coordinator_not_available, "The coordinator's partition has no leader at present.")
    return {
        "node_id": broker.id,
        "host": address.host,
        "port": address.port,
        "error_code": ErrorCode.none,
        "error_message": None,
    }


def _refused(error: ErrorCode, message: str) -> dict[str, object]:
    return {"node_id": -1, "host": "", "port": -1, "error_code": error, "error_message": message}
