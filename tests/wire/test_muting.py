"""A connection that is not listened to for a while (KIP-219), and who measures what requests take."""

from __future__ import annotations

from ottla.wire import Meter
from tests.wire.harness import ECHO, LATER, ManualLoop, World, request


def metered(world: World, waits: list[float]) -> list[int]:
    """Mute after each request for as long as the next of `waits` says. Returns which requests were charged, in turn."""
    seen: list[int] = []

    def charge(request, _seconds):
        if request.correlation_id in seen:
            return 0
        seen.append(request.correlation_id)
        wait = waits.pop(0) if waits else 0.0
        if wait:
            request.connection.mute(wait)
        return round(wait * 1000)

    world.registry.meter = Meter(charge, lambda: 0.0)
    return seen


def test_the_answer_leaves_at_once_and_the_next_request_waits(loop: ManualLoop, world: World):
    transport = world.connect()
    seen = metered(world, [2.0, 0.0, 1.0])
    transport.feed(b"".join(request(ECHO, number) for number in range(4)))
    assert transport.order == [0]
    loop.advance(1.9)
    assert transport.order == [0]
    loop.advance(0.2)
    assert transport.order == [0, 1, 2]
    loop.advance(1.1)
    assert transport.order == [0, 1, 2, 3]
    assert seen == [0, 1, 2, 3]


def test_the_longest_of_several_counts(loop: ManualLoop, world: World):
    transport = world.connect()
    session = transport.protocol
    session.connection.mute(3.0)
    session.connection.mute(1.0)
    transport.feed(request(ECHO, 1))
    loop.advance(2.9)
    assert transport.order == []
    loop.advance(0.2)
    assert transport.order == [1]


def test_what_was_asked_before_is_answered_meanwhile(loop: ManualLoop, world: World):
    transport = world.connect()
    transport.feed(request(LATER, 1))
    transport.protocol.connection.mute(5.0)
    transport.feed(request(ECHO, 2))
    world.waiting[0][1].set_result({"throttle_time_ms": 0})
    loop.advance(0.1)
    assert transport.order == [1]
    loop.advance(5)
    assert transport.order == [1, 2]


def test_a_client_that_goes_while_it_is_not_listened_to_is_forgotten(loop: ManualLoop, world: World):
    transport = world.connect()
    connection = transport.protocol.connection
    connection.mute(5.0)
    transport.feed(request(ECHO, 1))
    transport.close()
    loop.advance(10)
    connection.mute(1.0)
    assert connection.closed
    assert transport.order == []
    assert world.errors == []
