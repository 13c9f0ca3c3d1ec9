"""The client's end of a connection: requests out, answers matched to their callers.

A server answers in order, so that a request without an answer in time means a dead connection, and
closes it, as Kafka's own client does.
"""

import asyncio
import ssl as ssl_module
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

from kio.schema.errors import ErrorCode

from ottla import __version__
from ottla.wire.api import Chunk, Raw
from ottla.wire.errors import ConnectionLost, ProtocolError, RequestTimedOut
from ottla.wire.framing import Frame, FrameReader
from ottla.wire.primitives import skip_tags
from ottla.wire.registry import API_VERSIONS
from ottla.wire.schema import (
    Entity,
    decode,
    encode,
    request_header_flexible,
    request_type,
    response_header_flexible,
    response_type,
)

_HEADER = struct.Struct(">ihhih")
_CORRELATION = struct.Struct(">i")
_JOIN_BELOW = 32 * 1024
MAX_RESPONSE = 1024 * 1024 * 1024
MAX_IN_FLIGHT = 1024
MAX_ELEMENTS = 5_000_000
"""Most array elements in one answer: Metadata of a large cluster has one per replica."""
FEATURES_SINCE = 3
"""The version of ApiVersions that first tells of features."""
SOFTWARE_NAME, SOFTWARE_VERSION = "ottla", __version__


Receive: TypeAlias = Callable[[memoryview | Exception], None]
"""Told the response's body, or ConnectionLost, RequestTimedOut or ProtocolError in its place. Must not raise."""


class _Call(NamedTuple):
    """Who waits: a Future, or who is called."""

    future: "asyncio.Future[memoryview] | None"
    receive: Receive | None
    flexible: bool
    deadline: float
    seconds: float


# What _Call._make does, without Python code.
_new = tuple.__new__


class KafkaConnection(asyncio.BufferedProtocol):
    """One connection to a broker; made by `open`.

    `closed` is a Future that is done, with None, when the connection has ended. `versions` is what
    `negotiate` found: {api key: (min version, max version)}; `features` what the cluster has finalised (KIP-584):
    {name: level}, as of `features_epoch`, -1 if the broker does not know.
    """

    def __init__(self, client_id: str | None, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._client_id = -1 if client_id is None else len(client_id.encode())
        self._client_id_bytes = (client_id or "").encode()
        self._client_id_and_tags = self._client_id_bytes + b"\0"
        self._head_size = 10 + len(self._client_id_bytes)  # without tags, and without the size itself
        self._timeout = timeout
        self._reader = FrameReader(MAX_RESPONSE)
        self._calls: dict[int, _Call] = {}
        # One for all calls. It is not put off when a call is answered: it looks when it is due.
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._next_id = 0
        self._transport: asyncio.Transport | None = None
        self._lost: str | None = None
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.versions: dict[int, tuple[int, int]] = {}
        self.features: dict[str, int] = {}
        self.features_epoch = -1
        self.peer = "?"

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        *,
        client_id: str | None = None,
        timeout: float = 30.0,
        ssl: ssl_module.SSLContext | None = None,
    ) -> "KafkaConnection":
        """Connect. `timeout` in seconds is for connecting, and for each call that names no other.

        Raises ConnectionLost, RequestTimedOut.
        """
        connection = cls(client_id, timeout)
        connection.peer = f"{host}:{port}"
        try:
            # Not wait_for: before Python 3.12 it loses a cancellation that comes just as the connection is there.
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().create_connection(lambda: connection, host, port, ssl=ssl)
        except TimeoutError as error:
            raise RequestTimedOut(f"no connection to {host}:{port} within {timeout:g} s") from error
        except OSError as error:
            raise ConnectionLost(f"no connection to {host}:{port}: {error}") from error
        except asyncio.CancelledError:
            connection.abort()
            raise
        return connection

    # -- calls

    async def call(
        self,
        api_key: int,
        version: int,
        values: Mapping[str, Any] | Entity,
        *,
        timeout: float | None = None,
    ) -> Entity:
        """Send a request and return kio's response. `values` as for `build`.

        Raises ConnectionLost, RequestTimedOut, ProtocolError (an answer that cannot be read).
        """
        body = encode(request_type(api_key, version), values)
        answer = await self.call_raw(api_key, version, [body], timeout=timeout)
        return decode(response_type(api_key, version), answer, max_elements=MAX_ELEMENTS)

    def call_raw(
        self, api_key: int, version: int, body: Raw | Sequence[Chunk], *, timeout: float | None = None
    ) -> "asyncio.Future[memoryview]":
        """Send a body made elsewhere; the Future gives the response's body, a slice of the frame.

        Cancelling it only stops the waiting. It fails with ConnectionLost, RequestTimedOut, ProtocolError.
        """
        future: asyncio.Future[memoryview] = self._loop.create_future()
        self._begin(api_key, version, body, future, None, timeout)
        return future

    def call_then(
        self, api_key: int, version: int, body: Raw | Sequence[Chunk], receive: Receive, *, timeout: float | None = None
    ) -> None:
        """The same without a Future and the turn of the event loop that one costs: `receive` is called with the answer
        as soon as it is read, and with an error from a callback of its own, never before this has returned."""
        self._begin(api_key, version, body, None, receive, timeout)

    def _begin(
        self,
        api_key: int,
        version: int,
        body: Raw | Sequence[Chunk],
        future: "asyncio.Future[memoryview] | None",
        receive: Receive | None,
        timeout: float | None,
    ) -> None:
        seconds = self._timeout if timeout is None else timeout
        deadline = self._loop.time() + seconds
        call = _new(_Call, (future, receive, response_header_flexible(api_key, version), deadline, seconds))
        if self._lost is not None or self._transport is None:
            self._tell(call, ConnectionLost(f"{self.peer}: {self._lost or 'not connected'}"))
            return
        if len(self._calls) >= MAX_IN_FLIGHT:
            self._tell(call, ConnectionLost(f"{self.peer}: {MAX_IN_FLIGHT} requests without an answer"))
            return
        self._calls[self._write(api_key, version, body)] = call
        if self._timer is None or deadline < self._timer_at:
            self._wait_until(deadline)

    def _tell(self, call: _Call, error: Exception) -> None:
        if call.receive is not None:
            self._loop.call_soon(call.receive, error)
        elif call.future is not None and not call.future.done():
            call.future.set_exception(error)

    def send(self, api_key: int, version: int, body: Raw | Sequence[Chunk]) -> None:
        """Send a request that has no answer (Produce with acks=0). Raises ConnectionLost."""
        if self._lost is not None or self._transport is None:
            raise ConnectionLost(f"{self.peer}: {self._lost or 'not connected'}")
        self._write(api_key, version, body)

    async def negotiate(self) -> dict[int, tuple[int, int]]:
        """Ask for the broker's versions (ApiVersions, KIP-511) and keep them in `versions`, and the features.

        Raises ConnectionLost, RequestTimedOut, ProtocolError.
        """
        values = {"client_software_name": SOFTWARE_NAME, "client_software_version": SOFTWARE_VERSION}
        version = 3
        answer = await self.call_raw(API_VERSIONS, version, [encode(request_type(API_VERSIONS, version), values)])
        if int.from_bytes(answer[:2], "big") == ErrorCode.unsupported_version:
            answer = await self.call_raw(API_VERSIONS, 0, [b""])
            version = 0
        response = decode(response_type(API_VERSIONS, version), answer)
        if response.error_code != ErrorCode.none:
            raise ProtocolError(f"{self.peer} answers ApiVersions with {response.error_code.name}")
        self.versions = {key.api_key: (key.min_version, key.max_version) for key in response.api_keys}
        if version >= FEATURES_SINCE:
            self.features = {feature.name: feature.max_version_level for feature in response.finalized_features}
            self.features_epoch = response.finalized_features_epoch
        return self.versions

    def pick(self, api_key: int, minimum: int, maximum: int) -> int:
        """The highest version of the range that the broker has too.

        Raises ProtocolError if there is none.
        """
        low, high = self.versions.get(api_key, (0, -1))
        version = high if high < maximum else maximum
        if version < low or version < minimum:
            raise ProtocolError(
                f"{self.peer} speaks versions {low} to {high} of API {api_key}, not {minimum}-{maximum}"
            )
        return version

    async def close(self) -> None:
        """Close; calls without an answer fail with ConnectionLost."""
        self._fail("closed")
        if self._transport is not None:
            self._transport.close()
            await asyncio.shield(self.closed)

    def abort(self) -> None:
        """Close at once, dropping what is not sent."""
        self._fail("closed")
        if self._transport is not None:
            self._transport.abort()

    def _write(self, api_key: int, version: int, body: Raw | Sequence[Chunk]) -> int:
        assert self._transport is not None
        chunks = body.chunks if isinstance(body, Raw) else body
        self._next_id = correlation_id = (self._next_id + 1) & 0x7FFFFFFF
        size = self._head_size + sum(map(len, chunks))
        rest = self._client_id_bytes
        if request_header_flexible(api_key, version):
            rest = self._client_id_and_tags
            size += 1
        header = _HEADER.pack(size, api_key, version, correlation_id, self._client_id)
        if size < _JOIN_BELOW:
            self._transport.write(b"".join((header, rest, *chunks)))
        else:
            self._transport.writelines((header + rest, *chunks))
        return correlation_id

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the peer closed the connection" if exc is None else str(exc))
        self._transport = None
        if not self.closed.done():
            self.closed.set_result(None)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        reader = self._reader
        reader.received(nbytes)
        try:
            while (frame := reader.next()) is not None:
                self._answered(frame)
                if self._lost is not None or not reader.partial:
                    break
        except ProtocolError as error:
            self._fail(str(error), error)
            self.abort()

    def eof_received(self) -> None:
        return None

    def _answered(self, frame: Frame) -> None:
        try:
            (correlation_id,) = _CORRELATION.unpack_from(frame)
        except struct.error as error:
            raise ProtocolError(f"{self.peer}: a response of {len(frame)} bytes") from error
        call = self._calls.pop(correlation_id, None)
        if call is None:
            raise ProtocolError(f"{self.peer}: an answer that nobody asked for")
        pos = 4
        if call.flexible:
            try:
                pos = skip_tags(frame, pos) if frame[pos] else pos + 1
            except IndexError as error:
                self._calls[correlation_id] = call
                raise ProtocolError(f"{self.peer}: a response header is cut off") from error
        body = memoryview(frame)[pos:]
        future, receive = call.future, call.receive
        if receive is not None:
            receive(body)
        elif future is not None and not future.done():
            future.set_result(body)

    def _wait_until(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(deadline, self._look_for_late), deadline

    def _look_for_late(self) -> None:
        self._timer = None
        if not self._calls:
            return
        first, call = min(self._calls.items(), key=lambda each: each[1].deadline)
        if call.deadline > self._loop.time():
            self._wait_until(call.deadline)
            return
        del self._calls[first]
        self._tell(call, RequestTimedOut(f"{self.peer}: no answer within {call.seconds:g} s"))
        self._fail("a request before this one timed out")
        self.abort()

    def _fail(self, reason: str, error: ProtocolError | None = None) -> None:
        if self._lost is None:
            self._lost = reason
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        calls, self._calls = self._calls, {}
        for call in calls.values():
            self._tell(call, error or ConnectionLost(f"{self.peer}: {self._lost}"))
