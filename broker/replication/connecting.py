"""Connections from broker to broker on the Kafka listener, authenticated as a node of the cluster."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from kio.schema.errors import ErrorCode

from ottla.broker.replication.authentication import (
    MECHANISM,
    AuthenticationFailed,
    ClientExchange,
    ClusterCredentials,
    principal_of,
)
from ottla.wire import KafkaConnection

SASL_HANDSHAKE, SASL_HANDSHAKE_VERSION = 17, 1
SASL_AUTHENTICATE, SASL_AUTHENTICATE_VERSION = 36, 2


class Endpoint(NamedTuple):
    """Where a broker's inter-broker listener is advertised."""

    node_id: int
    host: str
    port: int


OpenConnection = Callable[[Endpoint], Awaitable[KafkaConnection]]
"""Raises ConnectionLost, RequestTimedOut, ProtocolError, AuthenticationFailed."""


class ClusterConnector:
    """Opens connections to other brokers. `nonce` draws NONCE_SIZE unpredictable bytes."""

    def __init__(
        self,
        own: ClusterCredentials,
        nonce: Callable[[], bytes],
        *,
        timeout_s: float = 10.0,
        ssl: ssl_module.SSLContext | None = None,
    ) -> None:
        self._own = own
        self._nonce = nonce
        self._timeout_s = timeout_s
        self._ssl = ssl

    async def __call__(self, endpoint: Endpoint) -> KafkaConnection:
        """Connect and authenticate both ways. Errors as for OpenConnection."""
        connection = await KafkaConnection.open(
            endpoint.host,
            endpoint.port,
            client_id=principal_of(self._own.node_id),
            timeout=self._timeout_s,
            ssl=self._ssl,
        )
        try:
            await self._authenticate(connection, endpoint)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _authenticate(self, connection: KafkaConnection, endpoint: Endpoint) -> None:
        """The handshake and the first message travel together: a failover waits for this."""
        exchange = ClientExchange(self._own, endpoint.node_id, self._nonce())
        handshake, challenge = await asyncio.gather(
            connection.call(SASL_HANDSHAKE, SASL_HANDSHAKE_VERSION, {"mechanism": MECHANISM}),
            self._exchange(connection, exchange.first()),
        )
        if handshake.error_code is not ErrorCode.none:
            raise AuthenticationFailed(f"{connection.peer}: {handshake.error_code.name}")
        exchange.finish(await self._exchange(connection, exchange.second(challenge)))

    @staticmethod
    async def _exchange(connection: KafkaConnection, message: bytes) -> bytes:
        answer = await connection.call(SASL_AUTHENTICATE, SASL_AUTHENTICATE_VERSION, {"auth_bytes": message})
        if answer.error_code is not ErrorCode.none:
            raise AuthenticationFailed(f"{connection.peer}: {answer.error_message or answer.error_code.name}")
        return bytes(answer.auth_bytes)
