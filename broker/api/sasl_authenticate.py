"""SaslAuthenticate, v0-v2: the steps of the exchange that SaslHandshake began.

v1 session lifetime (always 0: it does not expire).

Differences from Kafka: after a failure the connection stays open and ANONYMOUS, and needs a new SaslHandshake.
"""

from __future__ import annotations

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.api.sasl_handshake import EXCHANGE
from ottla.broker.context import Answer, BrokerContext
from ottla.broker.replication import AuthenticationFailed, ServerExchange
from ottla.wire import Request

log = structlog.get_logger(__name__)


def handle(context: BrokerContext, request: Request) -> Answer:
    connection = request.connection
    exchange = connection.state.get(EXCHANGE)
    if not isinstance(exchange, ServerExchange):
        return {"error_code": ErrorCode.illegal_sasl_state, "error_message": "SaslHandshake has to come first."}
    try:
        answer = exchange.step(request.body.auth_bytes)
    except AuthenticationFailed as error:
        del connection.state[EXCHANGE]
        log.warning("broker_authentication_failed", peer=connection.peer, reason=str(error))
        return {"error_code": ErrorCode.sasl_authentication_failed, "error_message": str(error)}
    if exchange.principal is not None:
        del connection.state[EXCHANGE]
        connection.principal = exchange.principal
    return {"error_code": ErrorCode.none, "auth_bytes": answer}
