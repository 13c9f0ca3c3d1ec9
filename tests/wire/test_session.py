"""One connection of the server: what comes in, deadlines, and the order of what goes out."""

import struct

import pytest
from structlog.testing import capture_logs

from ottla.wire import CLOSE, NO_RESPONSE, Limits, Raw
from tests.wire.harness import (
    ECHO,
    LATER,
    QUIET,
    ManualLoop,
    World,
    dropped,
    framed,
    request,
)

# -- what comes in


@pytest.mark.parametrize("chunk", [1, 3, 2**30])
def test_requests_in_any_pieces(world: World, chunk: int) -> None:
    transport = world.connect()
    transport.feed(b"".join(request(ECHO, i, b"x" * i) for i in range(20)), chunk)
    assert transport.answers == [(i, b"x" * i) for i in range(20)]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        bytes.fromhex("16030100f8010000f40303") + bytes(30),
        struct.pack(">i", -1),
        struct.pack(">i", -(2**31)) + b"abc",
        struct.pack(">i", 2**31 - 1),
        framed(b""),
        framed(b"\0\0\0"),
        framed(struct.pack(">hhih", ECHO, 8, 1, 4) + b"te"),
        framed(struct.pack(">hhih", ECHO, 8, 1, 2) + b"\xff\xff"),
        framed(struct.pack(">hhih", 999, 0, 1, -1)),
        framed(struct.pack(">hhih", -1, 0, 1, -1)),
        framed(struct.pack(">hhih", ECHO, 9, 1, -1)),
        framed(struct.pack(">hhih", ECHO, 2, 1, -1)),
        framed(struct.pack(">hhih", ECHO, -1, 1, -1)),
        framed(struct.pack(">hhih", 18, 3, 1, -1)),
        framed(struct.pack(">hhih", 18, 3, 1, -1) + b"\x02\x00\xff"),
        framed(struct.pack(">hhih", 18, 3, 1, -1) + b"\xff\xff\xff\xff\x0f"),
        framed(struct.pack(">hhih", 18, 3, 1, -1) + b"\xff\xff\xff\xff\xff\x0f"),
        framed(struct.pack(">hhih", 18, 3, 1, -1) + b"\x00\x7f"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 2**30])
def test_what_is_not_a_request_ends_the_connection_with_one_line(
    loop: ManualLoop, world: World, data: bytes, chunk: int
) -> None:
    other = world.connect()
    transport = world.connect()
    with capture_logs() as logs:
        transport.feed(request(ECHO, 7), chunk)
        transport.feed(data, chunk)
        loop.turn()
    assert transport.closed
    assert transport.order == [7]
    assert len(dropped(logs)) == len(logs) == 1
    assert logs[0]["peer"] == "192.0.2.1:4242"
    assert world.server.stats.errors == 1
    other.feed(request(ECHO, 1))
    assert other.order == [1]
    assert world.server.connections == 1
    assert world.server.buffered == 0
    assert not world.errors


def test_an_unfinished_request_at_the_end_of_the_stream_is_nothing(loop: ManualLoop, world: World) -> None:
    data = request(ECHO, 1, b"body")
    for end in range(len(data)):
        transport = world.connect()
        transport.feed(data[:end])
        transport.protocol.connection_lost(None)
        assert transport.writes == []
    assert world.server.connections == 0
    assert world.server.buffered == 0


def test_only_produce_may_be_large(loop: ManualLoop) -> None:
    world = World(loop, Limits(max_request_bytes=300_000, max_small_request_bytes=100_000))
    transport = world.connect()
    transport.feed(request(ECHO, 1, bytes(200_000)))
    assert transport.answers == [(1, bytes(200_000))]
    transport.feed(request(LATER, 2, bytes(100_001)))
    assert transport.closed
    assert not world.waiting


# -- deadlines


def test_a_dripping_frame_is_cut_off(loop: ManualLoop) -> None:
    world = World(loop, Limits(frame_deadline_s=10))
    loop.run_until_complete(world.server.start(loop, "127.0.0.1", 0, "PLAINTEXT"))
    transport = world.connect()
    patient = world.connect()
    drip = struct.pack(">i", 1_000_000) + bytes(1000)
    sent = 0
    with capture_logs() as logs:
        while not transport.closed and sent < len(drip):
            transport.feed(drip[sent : sent + 1])
            patient.feed(request(ECHO, sent))
            sent += 1
            loop.advance(1)
    assert 10 <= sent <= 14
    assert dropped(logs) == ["a frame was not complete within 10 s"]
    assert not patient.closed
    loop.run_until_complete(world.server.stop())


def test_the_deadline_is_of_each_frame_and_not_of_the_stream(loop: ManualLoop) -> None:
    world = World(loop, Limits(frame_deadline_s=10))
    loop.run_until_complete(world.server.start(loop, "127.0.0.1", 0, "PLAINTEXT"))
    transport = world.connect()
    data = request(ECHO, 1)
    transport.feed(data[:5])
    for _ in range(30):  # every read ends one frame and begins the next
        loop.advance(2)
        transport.feed(data[5:] + data[:5])
    assert not transport.closed
    assert len(transport.order) == 30
    loop.run_until_complete(world.server.stop())


def test_an_idle_connection_is_closed_but_not_one_that_waits(loop: ManualLoop) -> None:
    world = World(loop, Limits(idle_s=60))
    loop.run_until_complete(world.server.start(loop, "127.0.0.1", 0, "PLAINTEXT"))
    idle, waiting = world.connect(), world.connect()
    waiting.feed(request(LATER, 1))
    loop.advance(100, 5)
    assert idle.closed
    assert not waiting.closed
    world.waiting[0][1].set_result(Raw([]))
    loop.turn()
    assert waiting.order == [1]
    loop.advance(100, 5)
    assert waiting.closed
    loop.run_until_complete(world.server.stop())


def test_a_reader_that_never_reads_is_closed(loop: ManualLoop) -> None:
    world = World(loop, Limits(idle_s=60))
    loop.run_until_complete(world.server.start(loop, "127.0.0.1", 0, "PLAINTEXT"))
    transport = world.connect()
    transport.feed(request(LATER, 1))
    transport.protocol.pause_writing()
    loop.advance(100, 5)
    assert transport.closed
    assert world.waiting[0][1].cancelled()
    loop.run_until_complete(world.server.stop())


# -- what goes out


def test_answers_keep_the_order_of_requests(loop: ManualLoop, world: World) -> None:
    transport = world.connect()
    transport.feed(request(LATER, 1) + request(ECHO, 2) + request(LATER, 3) + request(ECHO, 4) + request(LATER, 5))
    assert transport.writes == []
    (_, first), (_, third), (_, fifth) = world.waiting
    third.set_result(Raw([b"3"]))
    loop.turn()
    assert transport.writes == []
    first.set_result(Raw([b"1"]))
    loop.turn()
    assert transport.order == [1, 2, 3, 4]
    assert len(transport.writes) == 1
    fifth.set_result(Raw([b"5"]))
    loop.turn()
    assert transport.order == [1, 2, 3, 4, 5]


def test_answers_of_one_read_leave_in_one_write(world: World) -> None:
    transport = world.connect()
    transport.feed(b"".join(request(ECHO, i) for i in range(50)))
    assert len(transport.writes) == 1
    assert transport.order == list(range(50))


def test_answers_that_become_ready_together_leave_together(loop: ManualLoop, world: World) -> None:
    transport = world.connect()
    transport.feed(b"".join(request(LATER, i) for i in range(10)))
    for _, future in world.waiting:
        future.set_result(Raw([b"x"]))
    loop.turn()
    assert transport.order == list(range(10))
    assert len(transport.writes) == 1


def test_no_response_leaves_no_gap(loop: ManualLoop, world: World) -> None:
    world.add(QUIET, "Quiet", lambda _request: NO_RESPONSE)
    transport = world.connect()
    transport.feed(request(QUIET, 1) + request(ECHO, 2) + request(LATER, 3) + request(QUIET, 4) + request(ECHO, 5))
    world.waiting[0][1].set_result(NO_RESPONSE)
    loop.turn()
    assert transport.order == [2, 5]


def test_close_comes_after_the_answers_before_it(loop: ManualLoop, world: World) -> None:
    world.add(QUIET, "Quiet", lambda _request: CLOSE)
    transport = world.connect()
    transport.feed(request(LATER, 1) + request(QUIET, 2) + request(ECHO, 3))
    assert not transport.closed
    world.waiting[0][1].set_result(Raw([b""]))
    loop.turn()
    assert transport.closed
    assert transport.order == [1]
