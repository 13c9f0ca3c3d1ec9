"""What a connection, and all of them together, may ask for at once."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ottla.wire import Later, Limits, Raw
from ottla.wire.arrivals import BURST_S, Arrivals
from tests.wire.harness import (
    ECHO,
    LATER,
    SERIAL,
    SLOW,
    ManualLoop,
    World,
    request,
)


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
