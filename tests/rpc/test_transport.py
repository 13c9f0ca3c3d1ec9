"""Raft's messages: in order, batched while a POST is under way, bounded, and never in the sender's way."""

import asyncio

import pytest

from ottla.controller.rpc import RaftTransport
from ottla.controller.rpc.transport import QUEUE_MESSAGES
from tests.rpc.conftest import MakeNode
from tests.rpc.nodes import eventually


def plain(message: bytes) -> bytes:
    return message


async def test_messages_arrive_in_order_and_batched(make_node: MakeNode) -> None:
    one, two = await make_node(1), await make_node(2)
    transport = RaftTransport(two.client, plain)
    sent = [b"%d" % number for number in range(300)]
    for message in sent:
        transport.send(1, message)
    await eventually(lambda: len(one.frames) == len(sent))
    assert one.frames == [(2, message) for message in sent]
    assert one.server._http.requests_count == 1
    assert transport.dropped == 0
    await transport.close()


async def test_what_a_message_makes_the_peer_say_at_once_comes_in_the_answer(make_node: MakeNode) -> None:
    one, two = await make_node(1), await make_node(2)
    back = RaftTransport(one.client, plain)
    heard: list[tuple[int, bytes]] = []
    there = RaftTransport(two.client, plain, lambda peer, frame: heard.append((peer, frame)))

    def reply(peer: int) -> bytes:
        for message in (b"yes", b"and so on"):
            back.send(peer, message)
        return back.collect(peer)

    one.raft_answers = reply
    for number in range(1, 4):
        there.send(1, b"request")
        await eventually(lambda number=number: len(heard) == 2 * number)  # type: ignore[misc]
    back.send(2, b"later")
    await eventually(lambda: two.frames == [(1, b"later")])
    assert heard == [(1, b"yes"), (1, b"and so on")] * 3
    assert two.server._http.requests_count == 1
    await back.close()
    await there.close()


async def test_an_answer_that_makes_no_sense_is_only_dropped(make_node: MakeNode) -> None:
    one, two = await make_node(1), await make_node(2)
    one.raft_answers = lambda _peer: b"no frame"
    transport = RaftTransport(two.client, plain, lambda _peer, _frame: None)
    for number in range(1, 3):
        transport.send(1, b"request")
        await eventually(lambda number=number: len(one.frames) == number)  # type: ignore[misc]
    await transport.close()


async def test_a_full_queue_drops_the_oldest(make_node: MakeNode) -> None:
    one, two = await make_node(1), await make_node(2)
    transport = RaftTransport(two.client, plain)
    for number in range(QUEUE_MESSAGES + 100):
        transport.send(1, b"%d" % number)
    await eventually(lambda: len(one.frames) == QUEUE_MESSAGES)
    assert one.frames[0] == (2, b"100")
    assert transport.dropped == 100
    await transport.close()


async def test_a_dead_peer_costs_its_messages_and_the_link_recovers(make_node: MakeNode) -> None:
    one, two = await make_node(1), await make_node(2)
    transport = RaftTransport(two.client, plain)
    await one.server.stop()
    transport.send(1, b"lost")
    await eventually(lambda: transport.dropped == 1)
    await one.start()
    transport.send(1, b"heard")
    await eventually(lambda: one.frames == [(2, b"heard")])
    await transport.close()


async def test_one_silent_peer_does_not_hold_back_another(make_node: MakeNode) -> None:
    one, two = await make_node(1), await make_node(2)

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    two.addresses.learn(3, ("127.0.0.1", server.sockets[0].getsockname()[1]))
    transport = RaftTransport(two.client, plain)
    transport.send(3, b"into the void")
    transport.send(1, b"heard")
    await eventually(lambda: one.frames == [(2, b"heard")])
    assert transport.dropped == 0
    await transport.close()
    server.close()


async def test_sending_to_nobody_and_after_the_end_is_harmless(make_node: MakeNode) -> None:
    two = await make_node(2)
    transport = RaftTransport(two.client, plain)
    transport.send(99, b"x")
    await transport.close()
    transport.send(99, b"x")
    assert transport.dropped == 0


async def test_a_failing_encoder_is_the_senders_to_see(make_node: MakeNode) -> None:
    await make_node(1)
    two = await make_node(2)

    def broken(_message: bytes) -> bytes:
        raise TypeError("not a message")

    with pytest.raises(TypeError):
        RaftTransport(two.client, broken).send(1, b"x")
