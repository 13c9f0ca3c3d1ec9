"""The calling side of the controller listener: signed requests over kept connections."""

import asyncio
import errno
import functools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from ottla.controller.rpc.connector import LoopConnector
from ottla.controller.rpc.errors import (
    PeerHungUp,
    PeerRefused,
    PeerRejected,
    PeerSilent,
    PeerUnreachable,
    PeerUnresolvable,
)
from ottla.controller.rpc.identity import (
    ANYBODY,
    HEADER_INCARNATION,
    HEADER_NONCE,
    HEADER_SIGNATURE,
    ClusterIdentity,
    answer_is_genuine,
    sign_request,
    stream_keys,
)
from ottla.controller.rpc.peers import Address, PeerAddresses
from ottla.controller.rpc.stream import PROTOCOL, RaftStream

MAX_ANSWER_BYTES = 64 * 1024 * 1024
# Kept connections are dropped here well before the server's own idle limit, so that no request races its close.
_KEEPALIVE_S = 600.0
_MAX_REASON = 300
# A SYN that was lost is repeated after one second; then it is better to begin anew than to wait for the next.
_STREAM_CONNECT_S = 1.5


# What a connection that stood can fail with when the network, not the peer's kernel, gave up on it.
_NO_SIGN_OF_THE_PEER = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN})


def _unreachable(error: BaseException) -> PeerUnreachable:
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, TimeoutError):
        return PeerSilent("no answer within the deadline")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return PeerUnresolvable(reason)
    if isinstance(error, aiohttp.ClientConnectorError):
        return PeerRefused(reason) if isinstance(error.os_error, ConnectionRefusedError) else PeerUnreachable(reason)
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | aiohttp.ClientPayloadError):
        numbers = {getattr(each, "errno", None) for each in (error, error.__cause__)}
        return PeerUnreachable(reason) if numbers & _NO_SIGN_OF_THE_PEER else PeerHungUp(reason)
    return PeerUnreachable(reason)


@functools.lru_cache(maxsize=1024)
def _url(address: Address, path: str) -> URL:
    host, port = address
    bracketed = f"[{host}]" if ":" in host else host
    return URL(f"http://{bracketed}:{port}{path}", encoded=True)


class WatchStream:
    """An accepted watch: the peer's incarnation and its lines."""

    def __init__(self, incarnation: str, content: aiohttp.StreamReader) -> None:
        self.incarnation = incarnation
        self._content = content

    async def line(self, timeout: float) -> bytes:
        """The next line without its newline; b"" when the stream ended. Raises PeerSilent, PeerUnreachable."""
        try:
            async with asyncio.timeout(timeout):
                return (await self._content.readline()).rstrip(b"\n")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _unreachable(error) from error


class RpcClient:
    """Signed HTTP requests to other nodes. One per node; `close()` it. Safe to make before the loop runs."""

    def __init__(self, me: ClusterIdentity, addresses: PeerAddresses, rng: random.Random) -> None:
        self.me = me
        self.addresses = addresses
        self._rng = rng
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def post(self, to: int, path: str, body: bytes, *, timeout: float) -> bytes:
        """POST `body` to node `to` and return the answer's body.

        Raises PeerRejected when the peer refuses, and PeerUnreachable (or one of its kinds) when there was no whole
        answer within `timeout` seconds.
        """
        return await self._post(self._address(to), to, path, body, timeout)

    async def ask(self, address: Address, path: str, body: bytes, *, timeout: float) -> bytes:
        """`post` to whoever listens there."""
        return await self._post(address, ANYBODY, path, body, timeout)

    async def _post(self, address: Address, to: int, path: str, body: bytes, timeout: float) -> bytes:
        url, headers = self._sign(address, to, "POST", path, body)
        try:
            async with (
                asyncio.timeout(timeout),
                self._open().post(url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                answer = await self._read(response)
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from error
        self._judge(response, headers[HEADER_SIGNATURE], answer)
        return answer

    @asynccontextmanager
    async def watch(self, to: int, path: str, *, timeout: float) -> AsyncIterator[WatchStream]:
        """Open a long-lived GET to node `to`. Raises as `post` does; `timeout` (s) bounds the time to the headers."""
        url, headers = self._prepare(to, "GET", path, b"")
        try:
            async with asyncio.timeout(timeout):
                response = await self._open().get(url, headers=headers, allow_redirects=False)
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from error
        try:
            incarnation = response.headers.get(HEADER_INCARNATION, "")
            self._judge(response, headers[HEADER_SIGNATURE], incarnation.encode())
            yield WatchStream(incarnation, response.content)
        finally:
            response.close()

    async def stream(
        self,
        to: int,
        path: str,
        deliver: Callable[[bytes], None],
        refuse: Callable[[str], None],
        *,
        timeout: float,
    ) -> RaftStream:
        """Open a stream to node `to`: see RaftStream. It has to stand within `timeout` s; raises as `post` does."""
        url, headers = self._prepare(to, "GET", path, b"")
        signature = headers[HEADER_SIGNATURE]
        headers |= {"Connection": "Upgrade", "Upgrade": PROTOCOL}
        try:
            async with asyncio.timeout(timeout):
                response = await self._open().get(
                    url,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=_STREAM_CONNECT_S),
                )
                refusal = b"" if response.status == 101 else await self._read(response)
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from error
        nonce = response.headers.get(HEADER_NONCE, "")
        connection = response.connection
        try:
            self._judge(response, signature, nonce.encode() if response.status == 101 else refusal)
            if response.status != 101 or connection is None or connection.transport is None:
                raise PeerUnreachable("the peer did not open a stream, or is gone already")
            keys = stream_keys(self.me, signature, nonce)
            assert connection.protocol is not None
            stream = RaftStream(connection.transport, connection.protocol, keys, deliver, refuse, accepted=False)
        except BaseException:
            response.close()
            raise
        stream.lost.add_done_callback(lambda _: response.close())
        return stream

    async def close(self) -> None:
        """Close every connection. Calls after this raise PeerUnreachable."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _address(self, to: int) -> Address:
        address = self.addresses.get(to)
        if address is None:
            raise PeerUnreachable(f"no address is known for node {to}")
        return address

    def _prepare(self, to: int, method: str, path: str, body: bytes) -> tuple[URL, dict[str, str]]:
        return self._sign(self._address(to), to, method, path, body)

    def _sign(self, address: Address, to: int, method: str, path: str, body: bytes) -> tuple[URL, dict[str, str]]:
        if self._closed:
            raise PeerUnreachable("this node is stopping")
        nonce = f"{self._rng.getrandbits(64):016x}"
        return _url(address, path), sign_request(self.me, to, method, path, body, nonce)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Each kind of caller bounds its own concurrency; one limit for all would let slow controller
                # requests hold back Raft.
                connector=LoopConnector(limit=0, keepalive_timeout=_KEEPALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            )
        return self._session

    @staticmethod
    async def _read(response: aiohttp.ClientResponse) -> bytes:
        size = response.content_length
        if response.status != 204 and (size is None or size > MAX_ANSWER_BYTES):
            raise PeerRejected(response.status, f"an answer of {size} bytes is not acceptable")
        return await response.read()

    def _judge(self, response: aiohttp.ClientResponse, request_signature: str, signed: bytes) -> None:
        status = response.status
        if status not in (101, 200, 204):
            reason = signed.decode("utf-8", "replace")[:_MAX_REASON]
            raise PeerRejected(status, reason or str(response.reason))
        if not answer_is_genuine(self.me, request_signature, status, signed, response.headers.get(HEADER_SIGNATURE)):
            raise PeerRejected(status, "the answer is not signed with this cluster's secret")
