"""Handlers that fail, and how connections end."""

import asyncio
import struct
from typing import Any

import pytest
from structlog.testing import capture_logs

from ottla.wire import ProtocolError, Raw
from tests.wire.harness import (
    ECHO,
    LATER,
    QUIET,
    SLOW,
    FakeTransport,
    ManualLoop,
    World,
    dropped,
    framed,
    request,
)


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
