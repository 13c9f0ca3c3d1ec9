"""Requests from this broker to others, on connections that are authenticated as this node's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from ottla.broker.replication import AuthenticationFailed, Endpoint, OpenConnection
from ottla.controller import MetadataImage
from ottla.wire import ConnectionLost, KafkaConnection, ProtocolError, RequestTimedOut
from ottla.wire.schema import Entity

PEER_ERRORS = (ConnectionLost, RequestTimedOut, ProtocolError, AuthenticationFailed)
"""What `Peers.call` raises; whether the request was carried out is not known then."""


class Peers:
    """One connection to each broker that was asked so far, opened when needed, this broker itself included.

    A request that is not answered in time ends the connection, and with it the other requests on it: who sends
    requests that may wait for long has Peers of its own.
    """

    def __init__(self, open_connection: OpenConnection, image: Callable[[], MetadataImage], listener: str) -> None:
        """`listener` is the name of the one that brokers use among themselves."""
        self._open_connection = open_connection
        self._image = image
        self._listener = listener
        self._connections: dict[int, tuple[Endpoint, asyncio.Task[KafkaConnection]]] = {}
        self._closed = False

    async def call(
        self, node_id: int, api_key: int, version: int, values: Mapping[str, object], *, timeout: float
    ) -> Entity:
        """The response, within `timeout` seconds after the connection is there. Raises PEER_ERRORS."""
        connection = await self._connection(node_id)
        return await connection.call(api_key, version, values, timeout=timeout)

    async def _connection(self, node_id: int) -> KafkaConnection:
        endpoint = self._endpoint(node_id)
        known = self._connections.get(node_id)
        if known is None or known[0] != endpoint or _useless(known[1]):
            self.drop(node_id)
            opening = asyncio.get_running_loop().create_task(self._open(endpoint), name=f"peer-{node_id}")
            # Nobody may wait for it any more when it fails.
            opening.add_done_callback(_seen)
            known = self._connections[node_id] = endpoint, opening
        try:
            return await asyncio.shield(known[1])
        except asyncio.CancelledError:
            if known[1].cancelled():
                raise ConnectionLost(f"node {node_id}: given up") from None
            raise

    async def _open(self, endpoint: Endpoint) -> KafkaConnection:
        return await self._open_connection(endpoint)

    def _endpoint(self, node_id: int) -> Endpoint:
        broker = self._image().brokers.get(node_id)
        for listener in () if broker is None else broker.listeners:
            if listener.name == self._listener:
                return Endpoint(node_id, listener.host, listener.port)
        raise ConnectionLost(f"node {node_id} has no listener {self._listener}")

    def drop(self, node_id: int) -> None:
        """End the connection: requests on it fail."""
        known = self._connections.pop(node_id, None)
        if known is None:
            return
        task = known[1]
        if not task.done():
            task.cancel()
        elif not task.cancelled() and task.exception() is None:
            task.result().abort()

    def close(self) -> None:
        for node_id in tuple(self._connections):
            self.drop(node_id)


def _seen(opening: asyncio.Task[KafkaConnection]) -> None:
    if not opening.cancelled():
        opening.exception()


def _useless(opening: asyncio.Task[KafkaConnection]) -> bool:
    if not opening.done():
        return False
    return opening.cancelled() or opening.exception() is not None or opening.result().closed.done()
