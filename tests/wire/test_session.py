"""One connection of the server: order, back-pressure, deadlines, and what a peer cannot do to it."""

import asyncio
import itertools
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ottla.wire import CLOSE, NO_RESPONSE, Later, Limits, ProtocolError, Raw
from ottla.wire.arrivals import BURST_S, Arrivals
from tests.wire.harness import (
    ECHO,
    LATER,
    QUIET,
    SERIAL,
    SLOW,
    FakeTransport,
    ManualLoop,
    World,
    framed,
    manual_loop,
    request,
)


@pytest.fixture
def loop() -> Iterator[ManualLoop]:
    with manual_loop() as loop:
        yield loop


@pytest.fixture
def world(loop: ManualLoop) -> World:
    return World(loop)


def dropped(logs: list[Any]) -> list[str]:
    return [entry["reason"] for entry in logs if entry["event"] == "connection_dropped"]


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


# -- back-pressure


def test_no_more_than_the_allowed_requests_wait(loop: ManualLoop) -> None:
    world = World(loop, Limits(max_pending=3))
    transport = world.connect()
    transport.feed(b"".join(request(LATER, i) for i in range(10)))
    assert len(world.waiting) == 3
    assert transport.reading  # or the end of the connection would not be noticed
    for done in range(10):
        world.waiting[done][1].set_result(Raw([b""]))
        loop.turn()
        assert transport.order == list(range(done + 1))
        assert len(world.waiting) == min(10, done + 4)
    assert transport.reading
    assert world.server.buffered == 0


def test_nothing_is_handled_while_the_peer_does_not_read(world: World) -> None:
    transport = world.connect()
    transport.protocol.pause_writing()
    transport.feed(request(ECHO, 1) + request(ECHO, 2))
    assert transport.writes == []
    assert transport.reading
    transport.protocol.resume_writing()
    assert transport.order == [1, 2]


def test_a_serial_api_holds_back_what_follows(loop: ManualLoop, world: World) -> None:
    transport = world.connect()
    transport.feed(request(ECHO, 0) + request(SERIAL, 1) + request(LATER, 2) + request(ECHO, 3))
    assert transport.order == [0]
    assert len(world.waiting) == 1
    world.waiting[0][1].set_result(Raw([b""]))
    loop.turn()
    assert transport.order == [0, 1]
    world.waiting[1][1].set_result(Raw([b""]))
    loop.turn()
    assert transport.order == [0, 1, 2, 3]


def test_an_answer_may_hold_back_what_follows_for_a_while(loop: ManualLoop, world: World) -> None:
    held: list[Later] = []

    def hold(_request: object) -> Later:
        held.append(Later(lambda: None, holds=True))
        return held[-1]

    world.add(SLOW, "Slow", hold)
    transport = world.connect()
    transport.feed(request(ECHO, 0) + request(SLOW, 1) + request(LATER, 2) + request(ECHO, 3))
    assert transport.order == [0] and not world.waiting
    held[0].let_go()
    assert len(world.waiting) == 1, "looked at, though not answered before its turn"
    held[0].let_go()
    world.waiting[0][1].set_result(Raw([b""]))
    loop.turn()
    assert transport.order == [0]
    held[0].give(Raw([b""]))
    loop.turn()
    assert transport.order == [0, 1, 2, 3]


@pytest.mark.parametrize("how", ["answered", "failed", "closed"])
def test_what_holds_back_need_not_be_let_go_of(loop: ManualLoop, world: World, how: str) -> None:
    held = Later(lambda: None, holds=True)
    world.add(SLOW, "Slow", lambda _request: held)
    transport = world.connect()
    transport.feed(request(SLOW, 1) + request(ECHO, 2))
    if how == "answered":
        held.give(Raw([b""]))
    elif how == "failed":
        held.fail(RuntimeError("ours"))
    else:
        transport.close()
        loop.turn()
        held.let_go()
    loop.turn()
    assert transport.order == ([1, 2] if how == "answered" else [])
    assert transport.closed is (how != "answered")


def test_large_frames_wait_for_the_common_memory(loop: ManualLoop) -> None:
    world = World(loop, Limits(max_buffered_bytes=1_000_000))
    one, two = world.connect(), world.connect()
    one.feed(request(LATER, 1, bytes(1_200_000)))
    assert world.server.buffered >= 1_200_000
    data = request(ECHO, 2, bytes(2_000_000))
    sent = two.feed(data)
    assert sent < len(data)
    assert not two.reading
    two_small = world.connect()
    two_small.feed(request(ECHO, 3))
    assert two_small.order == [3]
    world.waiting[0][1].set_result(Raw([b""]))
    loop.turn()
    assert two.reading
    two.feed(data[sent:])
    assert two.order == [2]
    assert world.server.buffered == 0


def test_frames_that_hold_all_the_memory_between_them_still_arrive(loop: ManualLoop) -> None:
    world = World(loop, Limits(max_buffered_bytes=1_000_000))
    data = request(ECHO, 1, bytes(3_000_000))
    transports = [world.connect() for _ in range(4)]
    sent = [0] * 4
    for _ in range(200):
        for i, transport in enumerate(transports):
            if transport.reading:
                sent[i] += transport.feed(data[sent[i] : sent[i] + 100_000])
        assert world.server.buffered <= 1_000_000 + 4 * 512_000 + 3_000_000
        loop.turn()
    assert [transport.order for transport in transports] == [[1]] * 4
    assert world.server.buffered == 0


def test_one_connection_too_many(loop: ManualLoop) -> None:
    world = World(loop, Limits(max_connections=2))
    first, second = world.connect(), world.connect()
    with capture_logs() as logs:
        third, fourth = world.connect(), world.connect()
    loop.turn()
    assert (first.closed, second.closed, third.closed, fourth.closed) == (False, False, True, True)
    assert [entry["event"] for entry in logs] == ["connections_full"]
    assert world.server.connections == 2
    first.close()
    loop.turn()
    assert not world.connect().closed


def test_one_connection_too_many_from_one_address(loop: ManualLoop) -> None:
    """max.connections.per.ip and its overrides: others are not concerned, and a place is free again afterwards."""
    world = World(loop, Limits(max_connections_per_ip=2, per_ip={"192.0.2.7": 1, "192.0.2.8": 3}))

    def connected(address: str, count: int) -> list[bool]:
        transports = [world.connect(address) for _ in range(count)]
        loop.turn()
        return [not transport.closed for transport in transports]

    assert connected("192.0.2.7", 2) == [True, False]
    assert connected("192.0.2.8", 4) == [True, True, True, False]
    first = world.connect("192.0.2.1")
    assert connected("192.0.2.1", 2) == [True, False]
    assert world.server.stats.refused == 3
    first.close()
    loop.turn()
    assert connected("192.0.2.1", 2) == [True, False]


def test_connections_that_come_too_fast_stand_still_in_turn(loop: ManualLoop) -> None:
    """KIP-612, and the limit may change meanwhile."""
    world = World(loop, Limits(max_connection_rate=2))
    for _ in range(20):
        world.connect()
    transports = [world.connect() for _ in range(5)]
    for transport in transports:
        transport.feed(request(ECHO, 1))

    def heard() -> int:
        return sum(transport.order == [1] for transport in transports)

    loop.turn()
    assert heard() == 1, "ten seconds' worth, and the first beyond it"
    assert not any(transport.closed for transport in transports)
    seen = []
    for _ in range(4):
        loop.advance(0.5)
        seen.append(heard())
    assert seen == [2, 3, 4, 5]
    world.server.limits = Limits()
    assert world.server.arrival_wait("any") == 0
    world.server.limits = Limits(max_connection_rate=2, unhurried="brokers")
    assert [world.server.arrival_wait(name) for name in ("brokers", "clients", "clients")] == [0, 0.5, 1.0]


@given(st.lists(st.floats(0, 5), min_size=1, max_size=200), st.floats(0.1, 1000))
def test_no_more_connections_are_heard_than_the_rate_allows(gaps: list[float], rate: float) -> None:
    arrivals, now, heard = Arrivals(), 0.0, []
    for gap in gaps:
        now += gap
        heard.append(now + arrivals.wait(rate, now))
    assert heard == sorted(heard)
    for first, last in itertools.combinations(range(len(heard)), 2):
        assert last - first <= rate * (heard[last] - heard[first] + BURST_S) + 1e-6


# -- faults of handlers, and ends


@pytest.mark.parametrize("late", [False, True])
def test_a_handler_that_raises_costs_its_connection_only(loop: ManualLoop, world: World, late: bool) -> None:
    fault = RuntimeError("a bug")

    def fail(_request: Any) -> Any:
        raise fault

    async def fail_late(_request: Any) -> Any:
        raise fault

    world.add(SLOW, "Slow", fail_late if late else fail)
    other, transport = world.connect(), world.connect()
    transport.feed(request(ECHO, 1) + request(SLOW, 2) + request(ECHO, 3))
    loop.turn()
    assert transport.closed
    assert transport.order == [1]
    assert world.errors == [fault]
    assert world.server.stats.failures == 1
    other.feed(request(ECHO, 1))
    assert other.order == [1]


@pytest.mark.parametrize("late", [False, True])
def test_an_answer_that_cannot_be_written_is_the_handlers_fault(loop: ManualLoop, world: World, late: bool) -> None:
    def answer(_request: Any) -> Any:
        return {"error_code": "what"}

    async def answer_late(request_: Any) -> Any:
        return answer(request_)

    world.add(SLOW, "Slow", answer_late if late else answer)
    transport = world.connect()
    transport.feed(request(SLOW, 2))
    loop.turn()
    assert transport.closed
    assert len(world.errors) == 1


def test_a_handler_may_find_the_request_malformed(loop: ManualLoop, world: World) -> None:
    def refuse(_request: Any) -> Any:
        raise ProtocolError("no")

    async def refuse_late(_request: Any) -> Any:
        raise ProtocolError("not now")

    world.add(SLOW, "Slow", refuse)
    world.add(QUIET, "Quiet", refuse_late)
    with capture_logs() as logs:
        for key in (SLOW, QUIET):
            transport = world.connect()
            transport.feed(request(key, 1))
            loop.turn()
            assert transport.closed
    assert dropped(logs) == ["no", "not now"]
    assert world.errors == []


def test_a_lost_connection_cancels_waiting_but_not_work(loop: ManualLoop, world: World) -> None:
    finished = []
    gate = loop.create_future()

    async def work(_request: Any) -> Any:
        await gate
        finished.append(True)
        return Raw([b""])

    world.add(SLOW, "Slow", work)
    transport = world.connect()
    transport.feed(request(LATER, 1) + request(SLOW, 2))
    connection = transport.protocol.connection
    transport.close()
    loop.turn()
    assert connection.closed
    assert world.waiting[0][1].cancelled()
    gate.set_result(None)
    loop.turn()
    assert finished == [True]
    assert transport.writes == []
    assert world.server.buffered == 0


def test_a_cancelled_answer_closes(loop: ManualLoop, world: World) -> None:
    transport = world.connect()
    transport.feed(request(LATER, 1))
    world.waiting[0][1].cancel()
    loop.turn()
    assert transport.closed


def test_stop_sends_what_is_answered(loop: ManualLoop, world: World) -> None:
    transport = world.connect()
    transport.feed(request(ECHO, 1) + request(LATER, 2))
    loop.run_until_complete(world.server.stop())
    assert transport.closed
    assert transport.order == [1]
    assert world.server.connections == 0


def test_the_request_says_where_it_comes_from(loop: ManualLoop, world: World) -> None:
    transport = world.connect()
    transport.feed(request(LATER, 9, b"body", version=2))
    got, _ = world.waiting[0]
    assert (got.api_key, got.api_version, got.correlation_id, got.client_id) == (LATER, 2, 9, "test")
    assert (got.body, got.received_at) == (b"body", 1000.0)
    connection = got.connection
    assert (connection.listener, connection.peer, connection.principal) == (
        "PLAINTEXT",
        "192.0.2.1:4242",
        "ANONYMOUS",
    )
    anonymous = framed(struct.pack(">hhih", LATER, 0, 1, -1))
    transport.feed(anonymous)
    assert world.waiting[1][0].client_id is None


def test_many_tasks_are_not_made_for_answers_at_once(loop: ManualLoop, world: World) -> None:
    transport: FakeTransport = world.connect()
    before = len(asyncio.all_tasks(loop))
    transport.feed(b"".join(request(ECHO, i) + request(LATER, i) for i in range(50)))
    assert len(asyncio.all_tasks(loop)) == before
