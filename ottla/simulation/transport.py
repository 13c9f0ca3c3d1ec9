"""What a protocol sees of a simulated connection: asyncio's transport, with the same rules as the real one."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ottla.simulation.handles import SimulatedHandle
from ottla.simulation.socket import DATA, WINDOW

if TYPE_CHECKING:
    from ottla.simulation.loop import SimulatedLoop
    from ottla.simulation.socket import Socket

# How often a read brings only a part of what is there, as it may.
_PARTIAL = 0.03
_HIGH = 64 * 1024


class SimulatedTransport(asyncio.Transport):
    """Belongs to the process in whose context it was made: everything that it calls runs there."""

    def __init__(self, loop: SimulatedLoop, socket: Socket, protocol: asyncio.BaseProtocol) -> None:
        super().__init__(
            {"peername": socket.peer.address, "sockname": socket.address, "socket": None, "sslcontext": None}
        )
        self._loop = loop
        self._socket = socket
        self._context = context = contextvars.copy_context()
        # Each is with the loop once at most, so that one will do for all times.
        self._to_read = SimulatedHandle(self._read, (), loop, context)
        self._to_write = SimulatedHandle(self._room_again, (), loop, context)
        self.set_protocol(protocol)
        self._buffer = bytearray()
        self._high, self._low = _HIGH, _HIGH // 4
        self._writing_paused = False
        self._reading = False
        self._paused = False
        self._read_scheduled = False
        self._write_scheduled = False
        self._closing = False
        self._lost = False
        self._eof_written = False
        self._eof_seen = False
        socket.transport = self

    def __repr__(self) -> str:
        return f"<SimulatedTransport {self._socket!r}>"

    def begin(self) -> asyncio.Future[None]:
        """Tell the protocol, then read. Called once; the future is done when the protocol has been told."""
        made: asyncio.Future[None] = self._loop.create_future()
        self._soon(self._protocol.connection_made, self)
        self._soon(self._start_reading, made)
        return made

    def _start_reading(self, made: asyncio.Future[None]) -> None:
        self._reading = True
        self.readable()
        if not made.done():
            made.set_result(None)

    def _soon(self, callback: Any, *args: Any) -> None:
        self._loop.call_soon(callback, *args, context=self._context)

    # -- protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)
        if isinstance(protocol, asyncio.BufferedProtocol):
            self._get_buffer, self._buffer_updated = protocol.get_buffer, protocol.buffer_updated

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    # -- reading

    def is_reading(self) -> bool:
        return not self._closing and not self._paused

    def pause_reading(self) -> None:
        if not self._closing:
            self._paused = True

    def resume_reading(self) -> None:
        if self._paused and not self._closing:
            self._paused = False
            self.readable()

    def readable(self) -> None:
        """There may be something to read. Called by the socket too."""
        socket = self._socket
        if not self._reading or self._paused or self._closing or self._read_scheduled:
            return
        if socket.inbox or socket.error is not None or (socket.ended and not self._eof_seen):
            self._read_scheduled = True
            self._loop.notice(socket.process, self._to_read)

    def _read(self) -> None:
        self._read_scheduled = False
        if self._closing or self._paused:
            return
        socket = self._socket
        if socket.error is not None:
            self._force_close(socket.error)
            return
        try:
            if socket.inbox:
                self._hand_over()
            elif socket.ended and not self._eof_seen:
                self._eof_seen = True
                if not self._protocol.eof_received():  # type: ignore[attr-defined]
                    self.close()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  as asyncio: what a protocol raises ends its connection
            self._fatal(error)
        if socket.inbox or socket.ended or socket.error is not None:
            self.readable()

    def _hand_over(self) -> None:
        socket = self._socket
        size = len(socket.inbox)
        if size > 1 and socket.network.draw() < _PARTIAL:
            size = socket.network.rng.randrange(1, size)
        if self._buffered:
            buffer = memoryview(self._get_buffer(-1))
            room = len(buffer)
            if size > room:
                size = room
                if not room:
                    raise RuntimeError("get_buffer() returned an empty buffer")
            buffer[:size] = socket.read(size)
            del buffer
            self._buffer_updated(size)
        else:
            self._protocol.data_received(bytes(socket.read(size)))  # type: ignore[attr-defined]

    # -- writing

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high if high is not None else (_HIGH if low is None else 4 * low)
        self._low = low if low is not None else self._high // 4
        self._pause_or_resume_writing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        size = len(data)
        if self._lost or not size:
            return
        socket = self._socket
        if socket.error is not None:
            self._force_close(socket.error)
            return
        if self._buffer or size > WINDOW - socket.outstanding or self._closing:
            self._buffer += data
            self._flush()
        else:
            socket.outstanding += size
            socket.push(DATA, bytes(data))  # copied at once: the caller may use its memory again

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._closing and not self._eof_written:
            self._eof_written = True
            self._flush()

    def writable(self) -> None:
        """There may be room again. Called by the socket."""
        if self._buffer and not self._write_scheduled and not self._lost:
            self._write_scheduled = True
            self._loop.notice(self._socket.process, self._to_write)

    def _room_again(self) -> None:
        self._write_scheduled = False
        if not self._lost:
            self._flush()

    def _flush(self) -> None:
        socket = self._socket
        room = min(WINDOW - socket.outstanding, len(self._buffer))
        if room:
            socket.outstanding += room
            socket.push(DATA, bytes(self._buffer[:room]))
            del self._buffer[:room]
        if not self._buffer:
            if self._closing:
                self._lose(None)
                return
            if self._eof_written:
                self._socket.finish()
        self._pause_or_resume_writing()

    def _pause_or_resume_writing(self) -> None:
        if not self._writing_paused and len(self._buffer) > self._high:
            self._writing_paused = True
            self._protocol.pause_writing()
        elif self._writing_paused and len(self._buffer) <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()

    # -- the end

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._buffer:
                self._lose(None)

    def abort(self) -> None:
        self._force_close(None)

    def _force_close(self, error: BaseException | None) -> None:
        if not self._lost:
            self._buffer.clear()
            self._closing = True
            self._lose(error)

    def _fatal(self, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": "a protocol failed", "exception": error, "transport": self, "protocol": self._protocol}
        )
        self._force_close(error)

    def _lose(self, error: BaseException | None) -> None:
        if not self._lost:
            self._lost = True
            self._soon(self._connection_lost, error)

    def _connection_lost(self, error: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(error)  # type: ignore[arg-type]
        finally:
            self._socket.close()
            # They refer to this transport, which would be garbage that has to be searched for.
            del self._to_read, self._to_write
