"""Connections to brokers, one per address and channel, opened once and shared.

A long poll holds up whatever follows it on its connection, so fetches have a channel of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ottla.client.errors import KafkaConnectionError
from ottla.client.options import Address, ClientOptions
from ottla.wire import ConnectionLost, KafkaConnection, ProtocolError, RequestTimedOut

_Key = tuple[Address, str]
_Place = tuple[tuple[str, int], str]
"""A key without the name of `Address`: the two are equal, and looking something up need not make one."""


class ConnectionPool:
    """Opens connections on demand.

    After a failure an address is left alone for a backoff that grows; within it `get` fails at once.
    `on_change` is called when a connection was made, could not be made, or broke.
    """

    def __init__(self, options: ClientOptions, on_change: Callable[[Address, bool], None]) -> None:
        self._options = options
        self._on_change = on_change
        self._open: dict[_Place, KafkaConnection] = {}
        self._opening: dict[_Key, asyncio.Task[KafkaConnection]] = {}
        self._failures: dict[Address, tuple[int, float]] = {}
        self._closed = False
        self.features: dict[str, int] = {}
        """What the cluster has finalised (KIP-584), as the best informed of the brokers said when it was connected."""
        self._features_epoch = -1

    def peek(self, address: tuple[str, int], channel: str = "") -> KafkaConnection | None:
        """The open connection, if there is one."""
        return self._open.get((address, channel))

    def wait_before(self, address: Address) -> float:
        """Seconds until another attempt to connect is allowed."""
        _, not_before = self._failures.get(address, (0, 0.0))
        return max(0.0, not_before - asyncio.get_running_loop().time())

    def open_soon(self, address: Address, channel: str = "") -> None:
        """Begin to connect in the background, unless it is connected, connecting, or has to wait."""
        key = (address, channel)
        if self._closed or key in self._open or key in self._opening or self.wait_before(address) > 0:
            return
        task = asyncio.get_running_loop().create_task(self._connect(key), name=f"connect {address}")
        self._opening[key] = task
        task.add_done_callback(lambda done: self._opened(key, done))

    async def get(self, address: Address, channel: str = "") -> KafkaConnection:
        """The connection, opened if need be. Raises KafkaConnectionError."""
        key = (address, channel)
        while True:
            if self._closed:
                raise KafkaConnectionError("the client is closed")
            connection = self._open.get(key)
            if connection is not None:
                return connection
            self.open_soon(address, channel)
            task = self._opening.get(key)
            if task is None:
                raise KafkaConnectionError(f"{address} cannot be reached; waiting before the next try")
            # Shielded: others wait for the same connection, and one of them giving up must not stop it.
            return await asyncio.shield(task)

    async def close(self) -> None:
        """Close every connection; none is opened any more."""
        self._closed = True
        for task in list(self._opening.values()):
            task.cancel()
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        for connection in list(self._open.values()):
            await connection.close()
        self._open.clear()

    async def _connect(self, key: _Key) -> KafkaConnection:
        address, _channel = key
        options = self._options
        try:
            async with asyncio.timeout(options.connect_timeout * 2):
                connection = await KafkaConnection.open(
                    address.host,
                    address.port,
                    client_id=options.client_id,
                    timeout=options.connect_timeout,
                    ssl=options.ssl,
                )
                try:
                    await connection.negotiate()
                except BaseException:
                    await connection.close()
                    raise
        except (OSError, ConnectionLost, RequestTimedOut, ProtocolError, TimeoutError) as error:
            self._failed(address)
            reason = str(error) or type(error).__name__
            raise KafkaConnectionError(f"{address} cannot be reached: {reason}") from error
        self._failures.pop(address, None)
        if connection.features_epoch > self._features_epoch:
            self.features, self._features_epoch = connection.features, connection.features_epoch
        self._open[key] = connection
        connection.closed.add_done_callback(lambda _: self._lost(key, connection))
        return connection

    def _opened(self, key: _Key, task: asyncio.Task[KafkaConnection]) -> None:
        self._opening.pop(key, None)
        if task.cancelled() or self._closed:
            return
        # Reading the exception also tells asyncio that a failed background attempt has been seen.
        self._on_change(key[0], task.exception() is None)

    def _lost(self, key: _Key, connection: KafkaConnection) -> None:
        if self._open.get(key) is connection:
            del self._open[key]
        if not self._closed:
            self._on_change(key[0], False)

    def _failed(self, address: Address) -> None:
        count = self._failures.get(address, (0, 0.0))[0] + 1
        wait = self._options.backoff.delay(count, self._options.rng)
        self._failures[address] = (count, asyncio.get_running_loop().time() + wait)
