"""The client's connection against our server and against peers that misbehave, on both event loops."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import uvloop

from ottla.wire import (
    Api,
    ConnectionLost,
    KafkaConnection,
    KafkaServer,
    ProtocolError,
    Raw,
    Registry,
    Request,
    RequestTimedOut,
    encode,
    response_type,
)
from tests.wire.harness import body_bytes


class Peer:
    """A server on a real socket."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.never: list[asyncio.Future[Any]] = []
        registry = Registry()
        registry.add(Api(0, "Produce", 3, 12, lambda request: Raw([bytes(4), request.body]), parser=body_bytes))
        registry.add(Api(3, "Metadata", 0, 13, self.metadata))
        registry.add(Api(12, "Heartbeat", 0, 4, self.silence))
        self.server = KafkaServer(registry)
        self.port = 0

    async def metadata(self, request: Request) -> Any:
        await asyncio.sleep(0)
        return {"brokers": [{"node_id": 1, "host": str(request.client_id), "port": 9}], "cluster_id": "c"}

    def silence(self, request: Request) -> Any:
        self.never.append(asyncio.get_running_loop().create_future())
        self.asked.set()
        return self.never[-1]

    async def __aenter__(self) -> "Peer":
        self.port = await self.server.start(asyncio.get_running_loop(), "127.0.0.1", 0, "PLAINTEXT")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.server.stop()

    async def open(self, **options: Any) -> KafkaConnection:
        return await KafkaConnection.open("127.0.0.1", self.port, client_id="me", **options)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with Peer() as peer:
        yield peer


async def conversation() -> None:
    async with Peer() as peer:
        connection = await peer.open()
        assert await connection.negotiate() == {0: (3, 12), 3: (0, 13), 12: (0, 4), 18: (0, 4)}
        for version in (0, 8, 9, 12):
            response = await connection.call(3, version, {"topics": None if version else []})
            assert response.brokers[0].host == "me"
        for size in (0, 100, 65_536, 65_537, 3_000_000):
            data = bytes(range(256)) * (size // 256 + 1)
            body = await connection.call_raw(0, 9, [data[:7], memoryview(data)[7:size]])
            assert bytes(body[4:]) == data[: max(size, 7)] or size < 7
            assert isinstance(body, memoryview)
        many = await asyncio.gather(*(connection.call_raw(0, 8, [b"%d" % i]) for i in range(500)))
        assert [bytes(body[4:]) for body in many] == [b"%d" % i for i in range(500)]
        await connection.close()
        assert connection.closed.done()
        with pytest.raises(ConnectionLost):
            await connection.call(3, 12, {})


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_conversation(run: Callable[[Any], None]) -> None:
    run(conversation())


async def test_picking_a_version(peer: Peer) -> None:
    connection = await peer.open()
    await connection.negotiate()
    assert connection.pick(0, 0, 99) == 12
    assert connection.pick(3, 1, 5) == 5
    for key, low, high in ((0, 0, 2), (3, 14, 20), (77, 0, 1)):
        with pytest.raises(ProtocolError, match="speaks versions"):
            connection.pick(key, low, high)


async def test_no_answer_in_time_ends_the_connection(peer: Peer) -> None:
    connection = await peer.open()
    first = connection.call_raw(12, 0, [b"\0\0\0\0\0\0\0\0"], timeout=0.01)
    second = connection.call_raw(0, 8, [b""])
    with pytest.raises(RequestTimedOut):
        await first
    with pytest.raises(ConnectionLost):
        await second
    await connection.closed
    with pytest.raises(ConnectionLost):
        connection.send(0, 8, [b""])


async def test_the_waiting_of_a_cancelled_call_is_over_and_its_answer_goes_unheard(peer: Peer) -> None:
    connection = await peer.open()
    call = connection.call_raw(12, 0, [b"\0\0\0\0\0\0\0\0"])
    await peer.asked.wait()
    call.cancel()
    peer.never[0].set_result({})
    assert (await connection.call(3, 12, {"topics": None})).cluster_id == "c"


async def test_who_is_called_with_the_answers_hears_them_in_order_and_may_ask_again_at_once(peer: Peer) -> None:
    connection = await peer.open()
    heard: list[bytes] = []
    done = asyncio.Event()

    def receive(answer: memoryview | Exception) -> None:
        assert isinstance(answer, memoryview)
        heard.append(bytes(answer[4:]))
        if len(heard) < 20:
            connection.call_then(0, 8, [b"%d" % (len(heard) + 1)], receive)
        elif len(heard) == 21:
            done.set()

    connection.call_then(0, 8, [b"0"], receive)
    connection.call_then(0, 8, [b"1"], receive)
    await done.wait()
    assert heard == [b"%d" % number for number in range(21)]


async def test_who_is_called_hears_of_errors_later_and_of_each_once(peer: Peer) -> None:
    connection = await peer.open()
    heard: list[tuple[int, Exception]] = []
    done = asyncio.Event()

    def receive(number: int, answer: memoryview | Exception) -> None:
        assert isinstance(answer, Exception)
        heard.append((number, answer))
        if number == 2:
            connection.call_then(0, 8, [b""], partial(receive, 3))
            assert len(heard) == 3, "not before the call has returned"
        elif number == 3:
            done.set()

    for number in range(2):
        connection.call_then(12, 0, [b"\0\0\0\0\0\0\0\0"], partial(receive, number), timeout=30 - number)
    await peer.asked.wait()
    connection.abort()
    connection.call_then(0, 8, [b""], partial(receive, 2))
    assert not heard
    await done.wait()
    assert [number for number, _ in heard] == [0, 1, 2, 3]
    assert all(isinstance(error, ConnectionLost) for _, error in heard)


async def test_a_request_without_an_answer(peer: Peer) -> None:
    connection = await peer.open()
    connection.send(18, 0, [b""])
    # Our server answers ApiVersions: to a client that wants no answer that is a breach.
    await connection.closed


async def test_nobody_listens() -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(ConnectionLost, match=str(port)):
        await KafkaConnection.open("127.0.0.1", port)


async def against(script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> KafkaConnection:
    """A connection to a peer that does what the script says."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await script(reader, writer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return await KafkaConnection.open("127.0.0.1", server.sockets[0].getsockname()[1], timeout=5)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", ConnectionLost),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ProtocolError),
        (struct.pack(">i", -5), ProtocolError),
        (struct.pack(">i", 2) + b"ab", ProtocolError),
        (struct.pack(">ii", 4, 77), ProtocolError),
        (struct.pack(">ii", 4, 1), ProtocolError),
        (struct.pack(">ii", 5, 1) + b"\x01", ProtocolError),
        (struct.pack(">ii", 5, 1) + b"\0", ProtocolError),
        (struct.pack(">ii", 500, 1) + b"\0", ConnectionLost),
    ],
)
async def test_answers_that_are_none(answer: bytes, error: type[Exception]) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        writer.write(answer)

    connection = await against(script)
    with pytest.raises(error):
        await connection.call(3, 12, {"topics": None})


async def test_an_old_broker_is_asked_again_in_the_first_version() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for error in (35, 0):
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            frame = await reader.readexactly(size)
            _key, version, correlation_id = struct.unpack_from(">hhi", frame)
            assert version == (3 if error else 0)
            keys = [{"api_key": 18, "min_version": 0, "max_version": 2}, {"api_key": 3, "max_version": 4}]
            body = encode(response_type(18, 0), {"error_code": error, "api_keys": keys})
            writer.write(struct.pack(">ii", 4 + len(body), correlation_id) + body)

    connection = await against(script)
    assert await connection.negotiate() == {18: (0, 2), 3: (0, 4)}


async def test_a_cancellation_just_as_the_connection_is_there_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cancels a task waits for its end: a fetcher that went on kept its node from stopping."""
    loop = asyncio.get_running_loop()
    there = loop.create_future()

    async def create_connection(*_: object, **__: object) -> object:
        return await there

    monkeypatch.setattr(loop, "create_connection", create_connection)
    task = loop.create_task(KafkaConnection.open("127.0.0.1", 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    there.set_result((None, KafkaConnection(None, 1.0)))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
