"""The server's end of one connection: frames in, handlers called, answers out in order.

Requests of one read are handled in one go and their answers leave in one write. A handler that answers
at once costs no Future and no Task, nor does a `Later`; one that returns a Future costs a callback.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING, cast

import structlog

from ottla.wire.api import CLOSE, NO_RESPONSE, Answer, Chunk, Connection, Later, Raw, Request, deaf
from ottla.wire.errors import ProtocolError
from ottla.wire.framing import Frame, FrameReader
from ottla.wire.heads import REQUEST_HEAD, ClientIds, encode_response
from ottla.wire.metering import Bill
from ottla.wire.registry import API_VERSIONS, Route
from ottla.wire.slot import Slot

if TYPE_CHECKING:
    from ottla.wire.server import KafkaServer

log = structlog.get_logger(__name__)

_JOIN_BELOW = 32 * 1024
_HIGH_WATER = 1024 * 1024
# After so long the next connection has its turn, however many requests one read has brought.
_TURN_S = 0.02


class Session(asyncio.BufferedProtocol):
    """Made by the server for each accepted connection."""

    def __init__(self, server: "KafkaServer", listener: str) -> None:
        self._server = server
        self._loop = server.loop
        self._limits = server.limits
        self._listener = listener
        self._reader = FrameReader(server.limits.max_request_bytes, server.spares)
        self._pending: deque[Slot] = deque()
        self._out: list[Chunk] = []
        self._transport: asyncio.Transport | None = None
        self.connection = Connection(listener, "?")
        self._serial: Slot | None = None
        self._allocated = 0
        self._write_paused = False
        self._read_paused = False
        self._starved = False
        self._closing = False
        self._flush_scheduled = False
        self._last_activity = 0.0
        self._frame_since: float | None = None
        self._out_size = 0
        self._held = 0
        self._resting = False
        self._muted_until = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self.connection.mute = self._mute
        self.unsent = 0
        self.address = ""
        self._client_ids = ClientIds()

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.address = str(peer[0])
            self.connection.peer = f"{peer[0]}:{peer[1]}"
        self._last_activity = self._loop.time()
        if not self._server.admit(self):
            self._closing = True
            self._transport.close()
            return
        wait = self._server.arrival_wait(self._listener)
        if wait > 0:
            self._mute(wait)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.closed = True
        self.connection.mute = deaf
        if self._alarm is not None:
            self._alarm.cancel()
        self._closing = True
        self._server.forget(self)
        self._server.account(arriving=-self._allocated)
        self._allocated = 0
        pending, self._pending = self._pending, deque()
        for slot in pending:
            self._server.account(waiting=-slot.size)
            future = slot.future
            # A coroutine may be half-way through a change; a bare future is only somebody's waiting.
            if isinstance(future, Later):
                future.unwanted()
                slot.future = None
            elif future is not None and not isinstance(future, asyncio.Task):
                future.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self._reader.received(nbytes)
        self._server.stats.bytes_in += nbytes
        self._last_activity = self._loop.time()
        self._process(self._last_activity)

    def eof_received(self) -> None:
        return None

    def pause_writing(self) -> None:
        self._write_paused = True
        self._server.stalled(self)

    def resume_writing(self) -> None:
        self._write_paused = False
        self._count_unsent()
        self._last_activity = self._loop.time()
        self._process(self._last_activity)

    # -- requests

    @property
    def _blocked(self) -> bool:
        """No further request is looked at before answers have gone: else they would pile up here."""
        if self._write_paused or self._serial is not None or self._resting:
            return True
        pending = self._pending
        if not pending:
            return False
        return len(pending) >= self._limits.max_pending or self._held >= _HIGH_WATER or self._server.full

    def _process(self, now: float) -> None:
        """Handle every whole frame that is there, as long as its answer has room."""
        reader = self._reader
        taken = False
        try:
            while not self._closing and not self._blocked:
                frame = reader.next()
                if frame is None:
                    break
                taken = True
                self._handle(frame, now)
                del frame  # or its memory could not be used again for the next one
                if self._out_size >= _HIGH_WATER:
                    self._flush()
                if not reader.partial:
                    break
                if self._loop.time() - now > _TURN_S:
                    self._resting = True
                    self._loop.call_soon(self._go_on)
        except ProtocolError as error:
            self._drop(str(error))
        if self._out:
            self._flush()
        if self._closing:
            return
        if not (reader.partial or self._allocated or self._starved or self._read_paused):
            # All that has come is handled, and nothing is held back: so it goes with nearly every read.
            self._frame_since = None
            return
        if not reader.partial or self._blocked:
            self._frame_since = None
        elif taken or self._frame_since is None:
            self._frame_since = now
        allocated = reader.allocated
        if allocated != self._allocated:
            if not allocated:
                self._server.frame_complete(self)
            self._server.account(arriving=allocated - self._allocated)
            self._allocated = allocated
        self._starved = reader.needs_memory and not self._server.grant_memory(self)
        # A blocked session reads on as long as it has room, or it would not notice that its client has gone.
        self._set_reading(not self._starved and (reader.has_room or not self._blocked))

    def _go_on(self) -> None:
        now = self._loop.time()
        if self._closing:
            return
        if now < self._muted_until:
            self._wake_at(self._muted_until)  # a timer may be early by its resolution
            return
        self._resting = False
        self._process(now)

    def _mute(self, seconds: float) -> None:
        self._muted_until = max(self._muted_until, self._loop.time() + seconds)
        self._resting = True
        self._wake_at(self._muted_until)

    def _wake_at(self, when: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(when, self._go_on)

    def _handle(self, frame: Frame, now: float) -> None:
        try:
            key, version, correlation_id, client_id_size = REQUEST_HEAD.unpack_from(frame)
        except struct.error as error:
            raise ProtocolError(f"a request of {len(frame)} bytes") from error
        route = self._server.registry.route(key, version)
        if route is None:
            if key != API_VERSIONS:
                raise ProtocolError(f"no API with key {key} and version {version}")
            self._answer_now(None, correlation_id, self._server.registry.unsupported_api_versions())
            return
        limit = route.api.max_request_bytes or self._server.request_limit(route.api)
        if len(frame) > limit:
            raise ProtocolError(f"{route.api.name} of {len(frame)} bytes, at most {limit} are taken")
        client_id, pos = self._client_ids.read(frame, client_id_size, route.flexible_request)
        meter = self._server.registry.meter
        bill = None if meter is None else Bill(meter)
        body = route.parse(frame, pos)
        request = Request(key, version, correlation_id, client_id, body, self.connection, now, bill)
        counts = self._server.stats.requests
        counts[key] = counts.get(key, 0) + 1
        try:
            answer = route.api.handler(request)
            if bill is not None:
                answer = bill.takes_up(answer)
        except ProtocolError:
            raise
        except Exception as error:  # noqa: BLE001  a bug in a handler takes its connection, not the server
            self._server.handler_failed(request, error)
            self._drop("its request could not be handled")
            return
        if answer.__class__ is Raw:
            self._answer_now(route, correlation_id, answer, request)
        elif answer.__class__ is Later or hasattr(answer, "__await__"):
            self._answer_later(route, request, answer, len(frame))
        else:
            self._answer_now(route, correlation_id, answer, request)

    # -- answers

    def _answer_now(
        self, route: Route | None, correlation_id: int, answer: Answer, request: Request | None = None
    ) -> None:
        if not self._pending:
            if answer is NO_RESPONSE:
                return
            if answer is CLOSE:
                self._close()
                return
            encoded = self._encoded(route, request, correlation_id, answer)
            if encoded is None:
                self._close()
            else:
                self._put_out(*encoded)
            return
        slot = Slot(route, request, 0)
        self._settle(slot, correlation_id, answer)
        self._pending.append(slot)

    def _answer_later(self, route: Route, request: Request, answer: Awaitable[Answer] | Later, size: int) -> None:
        slot = Slot(route, request, size)
        self._server.account(waiting=size)
        self._pending.append(slot)
        if route.api.serial:
            self._serial = slot
        if isinstance(answer, Later):
            slot.future = answer
            if answer.holds:
                self._serial = slot
                answer.let_go = partial(self._let_go, slot)
            answer.receive = partial(self._given, slot)
            return
        slot.future = future = asyncio.ensure_future(answer, loop=self._loop)
        future.add_done_callback(partial(self._answered, slot))

    def _let_go(self, slot: Slot) -> None:
        """Other requests may be looked at before this one is answered."""
        if self._serial is slot and not self.connection.closed:
            self._serial = None
            if self._reader.partial or self._read_paused or self._starved:
                self._process(self._loop.time())

    def _answered(self, slot: Slot, future: asyncio.Future[Answer]) -> None:
        error = None if future.cancelled() else future.exception()
        self._given(slot, CLOSE if future.cancelled() or error is not None else future.result(), error)

    def _given(self, slot: Slot, answer: Answer, error: BaseException | None) -> None:
        """The answer is there, or an error in its place."""
        request = slot.request
        if self.connection.closed:
            if error is not None and request is not None:
                self._server.handler_failed(request, error)
            return
        assert request is not None
        if error is None:
            self._settle(slot, request.correlation_id, answer)
        else:
            slot.chunks, slot.close = [], True
            if isinstance(error, ProtocolError):
                log.info("connection_dropped", peer=self.connection.peer, listener=self._listener, reason=str(error))
            else:
                self._server.handler_failed(request, error)
        self._server.account(waiting=-slot.size)
        slot.size = 0
        slot.future = None
        if self._serial is slot:
            self._serial = None
        if len(self._pending) == 1:
            self._flush_ready()
        elif not self._flush_scheduled:
            # Answers that become ready together leave together.
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_ready)

    def _settle(self, slot: Slot, correlation_id: int, answer: Answer) -> None:
        if answer is CLOSE:
            slot.chunks, slot.close = [], True
        elif answer is NO_RESPONSE:
            slot.chunks = []
        else:
            encoded = self._encoded(slot.route, slot.request, correlation_id, answer)
            slot.chunks, slot.held = encoded or ([], 0)
            slot.close = encoded is None
            self._held += slot.held
        slot.request = None

    def _encoded(
        self, route: Route | None, request: Request | None, correlation_id: int, answer: Answer
    ) -> tuple[list[Chunk], int] | None:
        """The whole response and its size; None if the answer cannot be written, which has been reported then."""
        try:
            if request is None or request.bill is None:
                return encode_response(route, correlation_id, answer)
            response = encode_response(route, correlation_id, request.bill.told(answer, request))
            request.bill.close(request)
            return response
        except Exception as error:  # noqa: BLE001  the answer is as much the handler's as its code
            self._server.handler_failed(request, error)
            return None

    def _flush_ready(self) -> None:
        self._flush_scheduled = False
        if self.connection.closed:
            return
        pending = self._pending
        while pending and pending[0].chunks is not None and not self._closing:
            slot = pending.popleft()
            assert slot.chunks is not None
            self._held -= slot.held
            self._put_out(slot.chunks, slot.held)
            if slot.close:
                self._close()
        self._last_activity = now = self._loop.time()
        if self._reader.partial or self._read_paused or self._starved:
            self._process(now)
        else:
            self._flush()  # nothing else has waited for it

    def _put_out(self, chunks: list[Chunk], size: int) -> None:
        self._out += chunks
        self._out_size += size

    def _flush(self) -> None:
        out, transport = self._out, self._transport
        if not out or transport is None:
            return
        size = self._out_size
        self._out, self._out_size = [], 0
        self._server.stats.bytes_out += size
        if size < _JOIN_BELOW:
            transport.write(b"".join(out))
        else:
            transport.writelines(out)
        if self._write_paused:
            self._count_unsent()

    def _count_unsent(self) -> None:
        """While a client does not take its answers, they count against what the server may hold for all of them."""
        assert self._transport is not None
        self._server.hold_unsent(self, self._transport.get_write_buffer_size() if self._write_paused else 0)

    # -- the end

    def check(self, now: float) -> None:
        """Called now and then by the server: is this connection past one of its deadlines?"""
        limits = self._limits
        if self._closing:
            if now - self._last_activity > limits.frame_deadline_s:
                self.abort()
        elif self._frame_since is not None and now - self._frame_since > limits.frame_deadline_s:
            self.give_up(f"a frame was not complete within {limits.frame_deadline_s:g} s")
        elif now - self._last_activity > limits.idle_s and (self._write_paused or not self._pending):
            self._close()
            if self._write_paused:
                self.abort()

    def memory_available(self) -> None:
        if self._starved and not self._closing:
            self._process(self._loop.time())

    def give_up(self, reason: str) -> None:
        """Drop the connection without sending what is still to be sent."""
        self._drop(reason)
        self.abort()

    def abort(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Send what is answered, then close."""
        self._close()

    def _drop(self, reason: str) -> None:
        if not self._closing:
            self._server.stats.errors += 1
            log.info("connection_dropped", peer=self.connection.peer, listener=self._listener, reason=reason)
            self._close()

    def _close(self) -> None:
        self._closing = True
        self._last_activity = self._loop.time()
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _set_reading(self, wanted: bool) -> None:
        if wanted is self._read_paused and self._transport is not None:
            self._read_paused = not wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()
