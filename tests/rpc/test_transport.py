"""Raft's messages: in order, on one stream, batched while it takes no more, bounded, and never in the sender's way."""

import asyncio

import pytest
import structlog

from ottla.controller.rpc import RaftTransport
from ottla.controller.rpc.identity import HEADER_NONCE, HEADER_SIGNATURE, sign_request, stream_keys
from ottla.controller.rpc.server import RAFT_PATH
from ottla.controller.rpc.stream import PROTOCOL
from ottla.controller.rpc.stream_codec import Sealer
from ottla.controller.rpc.transport import QUEUE_MESSAGES
from tests.rpc.conftest import MakeNode
from tests.rpc.nodes import eventually, identity


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


async def test_answers_go_back_on_the_stream_that_the_peer_has_opened(make_node: MakeNode) -> None:
    one, two = await make_node(1), await make_node(2)
    heard: list[tuple[int, bytes]] = []
    there = RaftTransport(two.client, plain, lambda peer, message: heard.append((peer, message)))
    back = RaftTransport(one.client, plain, is_answer=lambda message: message.startswith(b"yes"))
    one.raft_accepted = back.accepted
    for number in range(1, 4):
        there.send(1, b"request")
        await eventually(lambda number=number: len(one.frames) == number)  # type: ignore[misc]
        back.send(2, b"yes")
        await eventually(lambda number=number: len(heard) == number)  # type: ignore[misc]
    assert heard == [(1, b"yes")] * 3
    assert two.server._http.requests_count == 0
    back.send(2, b"question")
    await eventually(lambda: two.frames == [(1, b"question")])
    await there.close()
    await eventually(lambda: not one.server._streams)
    back.send(2, b"yes, late")
    await eventually(lambda: two.frames[1:] == [(1, b"yes, late")])
    await back.close()


async def test_the_newest_stream_of_a_peer_counts(make_node: MakeNode) -> None:
    one, two = await make_node(1), await make_node(2)
    back = RaftTransport(one.client, plain, is_answer=lambda _message: True)
    one.raft_accepted = back.accepted
    heard: list[bytes] = []
    older, newer = (
        RaftTransport(two.client, plain),
        RaftTransport(two.client, plain, lambda _, each: heard.append(each)),
    )
    for number, transport in enumerate((older, newer), 1):
        transport.send(1, b"question")
        await eventually(lambda number=number: len(one.frames) == number)  # type: ignore[misc]
    await eventually(lambda: len(one.server._streams) == 1)
    back.send(2, b"answer")
    await eventually(lambda: heard == [b"answer"])
    for transport in (back, older, newer):
        await transport.close()


async def test_a_peer_that_takes_nothing_is_given_up(make_node: MakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ottla.controller.rpc.transport.PROBE_S", 0.05)
    monkeypatch.setattr("ottla.controller.rpc.transport.SILENCE_S", 0.1)
    one, two = await make_node(1), await make_node(2)
    transport = RaftTransport(two.client, plain)
    transport.send(1, b"first")
    await eventually(lambda: one.frames == [(2, b"first")])
    # Nobody answers, but who accepts says when it is asked that it is there.
    await eventually(lambda: not transport._links[1]._unheard)
    (stream,) = one.server._streams
    stream._transport.pause_reading()
    transport.send(1, b"second")
    await eventually(lambda: transport.dropped == 1)
    transport.send(1, b"third")
    await eventually(lambda: one.frames == [(2, b"first"), (2, b"third")])
    await transport.close()


async def test_a_large_message_that_takes_long_is_no_silence(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who accepts tells how far it has come."""
    monkeypatch.setattr("ottla.controller.rpc.stream._PROGRESS_S", 0.0)
    one, two = await make_node(1), await make_node(2)
    stream = await two.client.stream(1, RAFT_PATH, lambda _: None, lambda _: None, timeout=5)
    steps: list[int] = []
    stream.on_progress = lambda: steps.append(stream.heard)
    message = bytes(4 * 1024 * 1024)
    stream.send([message])
    await eventually(lambda: one.frames == [(2, message)])
    await eventually(lambda: steps)
    assert 0 < steps[0] < stream.sent
    assert steps == sorted(steps)
    stream.abort()


@pytest.mark.parametrize("harm", ["repeated", "altered", "left out", "cut short in the middle"])
async def test_a_frame_has_one_place_only(make_node: MakeNode, harm: str) -> None:
    one, two = await make_node(1), await make_node(2)
    stream = await two.client.stream(1, RAFT_PATH, lambda _: None, lambda _: None, timeout=5)
    first, second = (stream._sealer.seal([message], 0) for message in (b"first", b"second"))
    bad = {
        "repeated": first + first,
        "altered": first + second[:-1] + b"!",
        "left out": first + stream._sealer.seal([b"third"], 0),
        "cut short in the middle": first + second[:-1] + first,
    }[harm]
    with structlog.testing.capture_logs() as lines:
        stream._transport.write(bad)
        await asyncio.wait_for(stream.lost, 5)
    assert one.frames == [(2, b"first")]
    assert [line["event"] for line in lines] == ["rpc_refused"]


async def test_what_was_recorded_of_a_stream_opens_no_other(make_node: MakeNode) -> None:
    """Whoever can read the network may repeat the request that opens one, but has no key for it."""
    one, _ = await make_node(1), await make_node(2)
    headers = sign_request(identity(2), 1, "GET", RAFT_PATH, b"", "nonce")
    lines = [f"GET {RAFT_PATH} HTTP/1.1", "Host: x", "Connection: Upgrade", f"Upgrade: {PROTOCOL}"]
    request = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()
    frames = b""
    for attempt in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        writer.write(request)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert answer.startswith("HTTP/1.1 101 ")
        nonce = answer.split(f"{HEADER_NONCE}: ")[1].split("\r\n")[0]
        if not frames:
            key, _ = stream_keys(identity(2), headers[HEADER_SIGNATURE], nonce)
            frames = Sealer(key).seal([b"once"], 0)
        writer.write(frames)
        if attempt:
            assert await reader.read() == b""
        await eventually(lambda: one.frames == [(2, b"once")])
        writer.close()
    assert one.frames == [(2, b"once")]


async def test_an_answer_that_makes_no_sense_ends_the_stream_with_one_line(make_node: MakeNode) -> None:
    one, two = await make_node(1), await make_node(2)
    back = RaftTransport(one.client, plain, is_answer=lambda _message: True)
    one.raft_accepted = back.accepted

    def refuses(_peer: int, _message: bytes) -> None:
        raise ValueError("not a message")

    transport = RaftTransport(two.client, plain, refuses)
    with structlog.testing.capture_logs() as lines:
        transport.send(1, b"request")
        await eventually(lambda: one.frames == [(2, b"request")])
        back.send(2, b"nonsense")
        await eventually(lambda: not one.server._streams)
    assert [line["event"] for line in lines] == ["raft_answer_not_understood"]
    transport.send(1, b"again")
    await eventually(lambda: one.frames[1:] == [(2, b"again")])
    for each in (back, transport):
        await each.close()


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
