"""A session without a socket: what it reads is fed by hand, what it writes is kept, its clock is moved by hand."""

import asyncio
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ottla.wire import Api, KafkaServer, Limits, Raw, Registry, Request
from ottla.wire.session import Session

ECHO, LATER, SLOW, QUIET, SERIAL = 0, 10, 11, 12, 13


class ManualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def turn(self, times: int = 3) -> None:
        """Run what is ready."""

        async def pass_by() -> None:
            for _ in range(times):
                await asyncio.sleep(0)

        self.run_until_complete(pass_by())

    def advance(self, seconds: float, step: float = 0.5) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + step)
            self.turn()


@contextmanager
def manual_loop() -> Iterator[ManualLoop]:
    loop = ManualLoop()
    try:
        yield loop
    finally:
        loop.close()


class FakeTransport(asyncio.Transport):
    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: Session) -> None:
        super().__init__()
        self.loop = loop
        self.protocol = protocol
        self.writes: list[bytes] = []
        self.reading = True
        self.closed = False
        self.high_water = 1 << 62
        self.unsent = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self.peer, 4242) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        assert not self.closed
        self.writes.append(bytes(data))
        self.unsent += len(data)
        if self.unsent > self.high_water >= self.unsent - len(data):
            self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def drained(self) -> None:
        """The peer takes what was written."""
        self.unsent = 0
        self.protocol.resume_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.loop.call_soon(self.protocol.connection_lost, None)

    abort = close

    def feed(self, data: bytes, chunk: int = 2**30) -> int:
        """As much of `data` as is read, in pieces of at most `chunk` bytes; returns how much that was."""
        pos = 0
        while pos < len(data) and self.reading and not self.closed:
            buffer = self.protocol.get_buffer(-1)
            size = min(chunk, len(buffer), len(data) - pos)
            assert size > 0
            buffer[:size] = data[pos : pos + size]
            del buffer
            self.protocol.buffer_updated(size)
            pos += size
        return pos

    @property
    def answers(self) -> list[tuple[int, bytes]]:
        """(correlation id, body) of every response written."""
        data = b"".join(self.writes)
        found = []
        pos = 0
        while pos < len(data):
            size, correlation_id = struct.unpack_from(">ii", data, pos)
            found.append((correlation_id, data[pos + 8 : pos + 4 + size]))
            pos += 4 + size
        assert pos == len(data)
        return found

    @property
    def order(self) -> list[int]:
        return [correlation_id for correlation_id, _ in self.answers]


def body_bytes(frame: bytes | memoryview, version: int, pos: int) -> bytes:
    return bytes(frame[pos:])


class World:
    """A server whose APIs do nothing but answer, at once or when told to."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits | None = None) -> None:
        self.waiting: list[tuple[Request, asyncio.Future[Any]]] = []
        self.errors: list[BaseException] = []
        self.loop = loop
        self.registry = Registry()
        self.add(ECHO, "Echo", lambda request: Raw([request.body]))
        self.add(LATER, "Later", self.later)
        self.add(SERIAL, "Serial", self.later, serial=True)
        self.server = KafkaServer(
            self.registry, limits=limits, on_error=lambda _request, error: self.errors.append(error)
        )
        self.server.loop = loop

    def add(self, key: int, name: str, handler: Callable[[Request], Any], **options: Any) -> None:
        low = 3 if key == ECHO else 0
        high = {ECHO: 8, LATER: 2, SLOW: 5, QUIET: 3, SERIAL: 2}[key]
        self.registry.add(Api(key, name, low, high, handler, parser=body_bytes, **options))

    def later(self, request: Request) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = self.loop.create_future()
        self.waiting.append((request, future))
        return future

    def connect(self, peer: str = "192.0.2.1") -> FakeTransport:
        session = Session(self.server, "PLAINTEXT")
        transport = FakeTransport(self.loop, session)
        transport.peer = peer
        session.connection_made(transport)
        return transport


def framed(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def request(key: int, correlation_id: int, body: bytes = b"", *, version: int | None = None) -> bytes:
    """A request with header v1, length included."""
    version = (8 if key == ECHO else 0) if version is None else version
    return framed(struct.pack(">hhih", key, version, correlation_id, 4) + b"test" + body)


def dropped(logs: list[Any]) -> list[str]:
    """Why connections were closed, by the log."""
    return [entry["reason"] for entry in logs if entry["event"] == "connection_dropped"]
