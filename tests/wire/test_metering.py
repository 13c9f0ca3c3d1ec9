"""What a request takes of the process's time, and who is charged for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ottla.wire import Later, Meter, Raw, Request, on_the_bill
from tests.wire.harness import ECHO, QUIET, SLOW, FakeTransport, ManualLoop, World, request

FIRST_BYTES_OF_THROTTLE = slice(8, 12)  # after the length and the correlation id


class Metered(World):
    """A world in which work is done by moving the timer, and every second of it costs two of waiting."""

    def __init__(self, loop: ManualLoop) -> None:
        super().__init__(loop)
        self.now = 0.0
        self.charged: list[float] = []
        self.registry.meter = Meter(self.charge, lambda: self.now)

    def charge(self, _request: Request, seconds: float) -> int:
        if seconds:
            self.charged.append(seconds)
        return round(seconds * 2000)

    def work(self, seconds: float) -> None:
        self.now += seconds


def throttle_ms(transport: FakeTransport) -> int:
    """Of Heartbeat's or LeaveGroup's answers, which begin with it."""
    return int.from_bytes(b"".join(transport.writes)[FIRST_BYTES_OF_THROTTLE])


def serve(loop: ManualLoop, handler: Any) -> tuple[Metered, FakeTransport]:
    """A world with `handler`, and a connection that has asked it."""
    world = Metered(loop)
    world.add(QUIET, "LeaveGroup", lambda request: handler(world, request))
    transport = world.connect()
    transport.feed(request(QUIET, 1, version=1))
    return world, transport


def test_what_a_handler_does_at_once(loop: ManualLoop):
    def handler(world: Metered, _request: Request):
        world.work(0.25)
        return {"error_code": 0}

    world, transport = serve(loop, handler)
    assert (world.charged, throttle_ms(transport)) == ([0.25], 500)


def test_the_steps_of_a_coroutine_and_not_what_it_waits_for(loop: ManualLoop):
    waited_for: asyncio.Future[str] = loop.create_future()

    async def handler(world: Metered, _request: Request):
        world.work(0.25)
        with pytest.raises(KeyError):
            await waited_for
        world.work(0.5)
        await asyncio.sleep(0)
        world.work(0.125)
        return {"error_code": 0}

    world, transport = serve(loop, handler)
    loop.turn()
    assert world.charged == []
    world.work(100)  # of others
    waited_for.set_exception(KeyError())
    loop.turn()
    assert (world.charged, throttle_ms(transport)) == ([0.875], 1750)


def test_a_coroutine_that_fails_is_the_same_as_without_a_meter(loop: ManualLoop):
    async def handler(world: Metered, _request: Request):
        await asyncio.sleep(0)
        raise ZeroDivisionError

    world, transport = serve(loop, handler)
    loop.turn()
    assert [type(error) for error in world.errors] == [ZeroDivisionError]
    assert transport.closed and not transport.writes


def test_who_answers_later_is_not_charged_for_the_time_between(loop: ManualLoop):
    later = Later(lambda: None)

    def handler(world: Metered, _request: Request):
        world.work(0.25)
        return later

    world, transport = serve(loop, handler)
    world.work(100)
    later.give({"error_code": 0})
    loop.turn()
    assert (world.charged, throttle_ms(transport)) == ([0.25], 500)


def test_what_is_done_when_the_wait_is_over_is_charged_and_a_second_wait_is_not(loop: ManualLoop):
    later = Later(lambda: None)
    steps: list[Any] = []

    def handler(world: Metered, request: Request):
        world.work(0.25)
        steps.append(on_the_bill(request, lambda: world.work(0.5)))
        return later

    world, transport = serve(loop, handler)
    world.work(100)
    steps[0]()
    world.work(100)
    later.give({"error_code": 0})
    loop.turn()
    assert (world.charged, throttle_ms(transport)) == ([0.75], 1500)


def test_a_future_is_waited_for_by_nobody_in_particular(loop: ManualLoop):
    future: asyncio.Future[Any] = loop.create_future()

    def handler(world: Metered, _request: Request):
        world.work(0.25)
        return future

    world, transport = serve(loop, handler)
    world.work(100)
    future.set_result({"error_code": 0})
    loop.turn()
    assert (world.charged, throttle_ms(transport)) == ([0.25], 500)


def test_who_encodes_for_himself_charges_for_himself_and_the_rest_is_charged_afterwards(loop: ManualLoop):
    waits: list[int] = []

    def handler(world: Metered, request: Request):
        world.work(0.25)
        assert request.bill is not None
        waits.append(request.bill.charge(request))
        world.work(0.5)
        return Raw([b""])

    world, _ = serve(loop, handler)
    assert (waits, world.charged) == ([500], [0.25, 0.5])


def test_without_a_meter_there_is_no_bill(loop: ManualLoop):
    world = World(loop)
    bills: list[object] = []

    def handler(request: Request):
        bills.append(request.bill)
        return Raw([b""])

    world.add(SLOW, "JoinGroup", handler)
    world.connect().feed(request(SLOW, 1) + request(ECHO, 2))
    assert bills == [None]
