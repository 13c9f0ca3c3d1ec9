"""SaslHandshake, v0-v1: only for the mechanism by which brokers know each other.

Differences from Kafka: clients have no mechanism yet, so any other is refused with UNSUPPORTED_SASL_MECHANISM, and
connections need no authentication. After v0 Kafka takes raw tokens without a frame; here SaslAuthenticate follows in
any case.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.replication import MECHANISM, ServerExchange
from ottla.wire import ANONYMOUS, Request

EXCHANGE = "sasl-exchange"


def handle(context: BrokerContext, request: Request) -> Answer:
    if request.body.mechanism != MECHANISM:
        return {"error_code": ErrorCode.unsupported_sasl_mechanism, "mechanisms": (MECHANISM,)}
    connection = request.connection
    # Whoever begins anew has to prove itself anew.
    connection.principal = ANONYMOUS
    connection.state[EXCHANGE] = ServerExchange(context.credentials, context.nonce())
    return {"error_code": ErrorCode.none, "mechanisms": (MECHANISM,)}
