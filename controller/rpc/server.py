"""The controller listener: Raft messages, controller requests and the death watch, for members of the cluster only.

    GET  /v1/raft               opens a stream of Raft messages (101, and frames from then on: see `stream_codec`)
    POST /v1/controller/<Name>  one request for the active controller, JSON both ways
    GET  /v1/watch              never ends while this process lives; `bye` when it stops on purpose

Every request is authenticated from its headers alone before its body is read (see `identity`).
"""

import asyncio
import hmac
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from aiohttp import web
from pydantic import ValidationError

from ottla.controller.rpc.admission import STRANGER_DEADLINE_S, AdmittingServer
from ottla.controller.rpc.identity import (
    HEADER_INCARNATION,
    HEADER_NONCE,
    HEADER_SIGNATURE,
    Caller,
    ClusterIdentity,
    Unauthenticated,
    WrongAddressee,
    digest_of,
    sign_answer,
    stream_keys,
    verify_request,
)
from ottla.controller.rpc.models.base import AnyRequest, RpcResponse
from ottla.controller.rpc.models.table import OF_NODES, REQUESTS
from ottla.controller.rpc.models.voters import FindVoters
from ottla.controller.rpc.peers import Address
from ottla.controller.rpc.refusals import HttpLog, Refusals
from ottla.controller.rpc.stream import PROTOCOL, RaftStream

log = structlog.get_logger(__name__)

RAFT_PATH = "/v1/raft"
WATCH_PATH = "/v1/watch"
CONTROLLER_PATH = "/v1/controller/"
FOR_ANYBODY = (CONTROLLER_PATH + FindVoters.__name__,)

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_CONTROLLER_REQUESTS = 512
MAX_CLIENT_REQUESTS = 384
BODY_DEADLINE_S = 30.0
WATCH_BEAT_S = 1.0
# Longer than a client keeps an idle connection, so that the client is the one to let go.
_KEEPALIVE_S = 3600.0
_STOP_S = 1.0
# How long the unread body of a refused request is drained, so that the refusal is not lost to a reset.
_LINGER_S = 0.2
_MAX_DETAIL = 300

ControllerHandler = Callable[[AnyRequest, int], Awaitable[RpcResponse]]


@dataclass(frozen=True, slots=True)
class Handlers:
    """What the listener hands requests to.

    `raft(from_node, frame)` gets one encoded Raft message and must not block; ValueError means it cannot be decoded.
    `raft_accepted(from_node, stream)` is told of each stream that a node has opened, to answer on.
    `controller(request, from_node)` answers a request; a node that is not the active controller says so in the answer.
    `incarnation_of(node_id)` is the life of that node that this node is watching right now, if it is.
    `introduced(node_id, address)` is told where a watching node that is not a configured voter listens.
    """

    raft: Callable[[int, bytes], None]
    controller: ControllerHandler
    raft_accepted: Callable[[int, RaftStream], None] = lambda _node_id, _stream: None
    incarnation_of: Callable[[int], str | None] = lambda _node_id: None
    introduced: Callable[[int, Address], None] = lambda _node_id, _address: None


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class RpcServer:
    """Serves one node's controller listener. `start` binds it, `stop` says goodbye to watchers and closes it."""

    def __init__(
        self,
        me: ClusterIdentity,
        handlers: Handlers,
        rng: random.Random,
        *,
        stranger_deadline: float = STRANGER_DEADLINE_S,
    ) -> None:
        self._me = me
        self._rng = rng
        self._streams: dict[RaftStream, None] = {}
        self._handlers = handlers
        self._stranger_deadline = stranger_deadline
        self._busy = 0

    async def start(self, host: str, port: int) -> int:
        """Listen on host:port (port 0: any free one) and return the port. Raises OSError when it cannot."""
        loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._refusals = Refusals(loop.time)
        self._http = AdmittingServer(
            self._serve,
            stranger_deadline=self._stranger_deadline,
            access_log=None,
            logger=HttpLog(self._refusals),
            keepalive_timeout=_KEEPALIVE_S,
            lingering_time=_LINGER_S,
            auto_decompress=False,
            max_headers=32,
        )
        self._listener = await loop.create_server(self._http, host, port, backlog=256)
        bound: int = self._listener.sockets[0].getsockname()[1]
        log.info("controller_listener_open", host=host, port=bound)
        return bound

    async def stop(self) -> None:
        """Stop accepting, end every watch with a goodbye, give running requests a second, close all connections."""
        self._listener.close()
        self._stopping.set()
        for stream in self._streams:
            stream.close()
        self._http.pre_shutdown()  # idle connections go at once, busy ones after their answer
        await self._http.shutdown(_STOP_S)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            caller = self._authenticate(request)
            return await self._route(request, caller)
        except _Refused as refused:
            return self._refuse(request, refused.status, str(refused))

    def _authenticate(self, request: web.BaseRequest) -> Caller:
        try:
            caller = verify_request(
                self._me, request.method, request.raw_path, request.headers, for_anybody=request.path in FOR_ANYBODY
            )
        except Unauthenticated as error:
            raise _Refused(401, str(error)) from None
        except WrongAddressee as error:
            raise _Refused(409, str(error)) from None
        self._http.admit(request.protocol)
        if self._is_another(caller):
            raise _Refused(423, f"node {caller.node_id} is already running as another process")
        return caller

    def _is_another(self, caller: Caller) -> bool:
        """Whether this node is watching another life of the caller's node."""
        living = self._handlers.incarnation_of(caller.node_id)
        return living is not None and living != caller.incarnation

    def _refuse(self, request: web.BaseRequest, status: int, reason: str) -> web.Response:
        self._refusals.note(f"{status} from {request.remote}"[:80], path=request.path[:80], reason=reason)
        response = web.Response(status=status, text=reason)
        response.force_close()
        return response

    async def _route(self, request: web.BaseRequest, caller: Caller) -> web.StreamResponse:
        path = request.path
        if path == WATCH_PATH and request.method == "GET":
            return await self._watch(request, caller)
        if path == RAFT_PATH and request.method == "GET":
            return await self._stream(request, caller)
        if request.method != "POST" or not path.startswith(CONTROLLER_PATH):
            raise _Refused(404, f"nothing is at {request.method} {path[:80]}")
        body = await self._body(request, caller)
        return await self._controller(path.removeprefix(CONTROLLER_PATH), caller, body)

    async def _body(self, request: web.BaseRequest, caller: Caller) -> bytes:
        size = request.content_length
        if size is None:
            raise _Refused(411, "a Content-Length is needed")
        if size > MAX_BODY_BYTES:
            raise _Refused(413, f"a body of {size} bytes is larger than {MAX_BODY_BYTES}")
        body, content = b"", request.content
        try:
            if content.is_eof():  # all of it is here
                body = await content.readexactly(size) if size else b""
            else:
                async with asyncio.timeout(BODY_DEADLINE_S):
                    body = await content.readexactly(size)
        except TimeoutError:
            raise _Refused(408, f"the body did not come within {BODY_DEADLINE_S:.0f} s") from None
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the peer left in the middle of a body") from error
        if not hmac.compare_digest(digest_of(body), caller.digest):
            raise _Refused(400, "the body does not match its digest")
        return body

    def _answer(self, caller: Caller, status: int, body: bytes = b"") -> web.Response:
        signature = sign_answer(self._me, caller.signature, status, body)
        return web.Response(status=status, body=body or None, headers={HEADER_SIGNATURE: signature})

    async def _stream(self, request: web.BaseRequest, caller: Caller) -> web.StreamResponse:
        """Take the connection over until it ends. aiohttp's own protocol waits meanwhile, and goes with it."""
        transport = request.transport
        if request.headers.get("Upgrade", "").lower() != PROTOCOL:
            raise _Refused(426, f"only a stream of {PROTOCOL} can be opened here")
        if transport is None or self._stopping.is_set():
            raise ConnectionResetError("the peer has left, or this node is stopping")
        nonce = f"{self._rng.getrandbits(128):032x}"
        transport.write(
            "HTTP/1.1 101 Switching Protocols\r\n"
            f"Connection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n{HEADER_NONCE}: {nonce}\r\n"
            f"{HEADER_SIGNATURE}: {sign_answer(self._me, caller.signature, 101, nonce.encode())}\r\n\r\n".encode()
        )
        theirs, ours = stream_keys(self._me, caller.signature, nonce)

        def deliver(message: bytes) -> None:
            if self._is_another(caller):
                raise ValueError("it is running as another process meanwhile")
            self._handlers.raft(caller.node_id, message)

        def refuse(reason: str) -> None:
            kind = f"stream from node {caller.node_id}"
            self._refusals.note(kind, path=RAFT_PATH, reason=f"bad Raft message: {reason}"[:_MAX_DETAIL])

        stream = RaftStream(transport, request.protocol, (ours, theirs), deliver, refuse, accepted=True)
        self._streams[stream] = None
        try:
            self._handlers.raft_accepted(caller.node_id, stream)
            await stream.lost
        finally:
            del self._streams[stream]
        raise ConnectionResetError("the stream has ended")

    async def _controller(self, name: str, caller: Caller, body: bytes) -> web.Response:
        model = REQUESTS.get(name)
        if model is None:
            raise _Refused(404, f"no controller request is named {name[:80]}")
        if self._busy >= (MAX_CONTROLLER_REQUESTS if issubclass(model, OF_NODES) else MAX_CLIENT_REQUESTS):
            raise _Refused(503, "too many controller requests are waiting")
        try:
            request = model.model_validate_json(body)
        except ValidationError as error:
            raise _Refused(400, f"bad {name}: {error}"[:_MAX_DETAIL]) from None
        self._busy += 1
        try:
            answer = await self._handlers.controller(request, caller.node_id)
        finally:
            self._busy -= 1
        return self._answer(caller, 200, answer.model_dump_json().encode())

    async def _watch(self, request: web.BaseRequest, caller: Caller) -> web.StreamResponse:
        if (address := _parse_address(request.query.get("address"))) is not None:
            self._handlers.introduced(caller.node_id, address)
        incarnation = self._me.incarnation
        signature = sign_answer(self._me, caller.signature, 200, incarnation.encode())
        stream = web.StreamResponse(headers={HEADER_SIGNATURE: signature, HEADER_INCARNATION: incarnation})
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        while not self._stopping.is_set():
            await stream.write(b"beat\n")
            try:
                async with asyncio.timeout(WATCH_BEAT_S):
                    await self._stopping.wait()
            except TimeoutError:
                continue
        await stream.write(b"bye\n")
        return stream


def _parse_address(text: str | None) -> Address | None:
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise _Refused(400, "address must be host:port")
    return host.strip("[]"), int(port)
