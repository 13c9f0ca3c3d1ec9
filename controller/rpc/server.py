"""The controller listener: Raft messages, controller requests and the death watch, for members of the cluster only.

    POST /v1/raft               a batch of Raft messages, answered (204) as soon as they are handed over
    POST /v1/controller/<Name>  one request for the active controller, JSON both ways
    GET  /v1/watch              never ends while this process lives; `bye` when it stops on purpose

Every request is authenticated from its headers alone before its body is read (see `identity`).
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from aiohttp import web
from pydantic import ValidationError

from ottla.controller.rpc.admission import STRANGER_DEADLINE_S, AdmittingServer
from ottla.controller.rpc.framing import BadFrame, split_frames
from ottla.controller.rpc.identity import (
    HEADER_INCARNATION,
    HEADER_SIGNATURE,
    Caller,
    ClusterIdentity,
    Unauthenticated,
    WrongAddressee,
    digest_of,
    sign_answer,
    verify_request,
)
from ottla.controller.rpc.models import OF_NODES, REQUESTS, AnyRequest, RpcResponse
from ottla.controller.rpc.peers import Address
from ottla.controller.rpc.refusals import HttpLog, Refusals

log = structlog.get_logger(__name__)

RAFT_PATH = "/v1/raft"
WATCH_PATH = "/v1/watch"
CONTROLLER_PATH = "/v1/controller/"

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
    `raft_answers(to_node)` is asked one turn of the loop later for what is to be said in return, as frames.
    `controller(request, from_node)` answers a request; a node that is not the active controller says so in the answer.
    `incarnation_of(node_id)` is the life of that node that this node is watching right now, if it is.
    `introduced(node_id, address)` is told where a watching node that is not a configured voter listens.
    """

    raft: Callable[[int, bytes], None]
    controller: ControllerHandler
    raft_answers: Callable[[int], bytes] = lambda _node_id: b""
    incarnation_of: Callable[[int], str | None] = lambda _node_id: None
    introduced: Callable[[int, Address], None] = lambda _node_id, _address: None


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class RpcServer:
    """Serves one node's controller listener. `start` binds it, `stop` says goodbye to watchers and closes it."""

    def __init__(
        self, me: ClusterIdentity, handlers: Handlers, *, stranger_deadline: float = STRANGER_DEADLINE_S
    ) -> None:
        self._me = me
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
            caller = verify_request(self._me, request.method, request.raw_path, request.headers)
        except Unauthenticated as error:
            raise _Refused(401, str(error)) from None
        except WrongAddressee as error:
            raise _Refused(409, str(error)) from None
        self._http.admit(request.protocol)
        living = self._handlers.incarnation_of(caller.node_id)
        if living is not None and living != caller.incarnation:
            raise _Refused(423, f"node {caller.node_id} is already running as another process")
        return caller

    def _refuse(self, request: web.BaseRequest, status: int, reason: str) -> web.Response:
        self._refusals.note(f"{status} from {request.remote}"[:80], path=request.path[:80], reason=reason)
        response = web.Response(status=status, text=reason)
        response.force_close()
        return response

    async def _route(self, request: web.BaseRequest, caller: Caller) -> web.StreamResponse:
        path = request.path
        if path == WATCH_PATH and request.method == "GET":
            return await self._watch(request, caller)
        if request.method != "POST" or not (path == RAFT_PATH or path.startswith(CONTROLLER_PATH)):
            raise _Refused(404, f"nothing is at {request.method} {path[:80]}")
        body = await self._body(request, caller)
        if path == RAFT_PATH:
            return await self._raft(caller, body)
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

    async def _raft(self, caller: Caller, body: bytes) -> web.Response:
        try:
            for frame in split_frames(body):
                self._handlers.raft(caller.node_id, frame)
        except (BadFrame, ValueError) as error:
            raise _Refused(400, f"bad Raft message: {error}"[:_MAX_DETAIL]) from error
        await asyncio.sleep(0)
        answers = self._handlers.raft_answers(caller.node_id)
        return self._answer(caller, 200 if answers else 204, answers)

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
