"""The controller listener takes members of its own cluster and nobody else."""

import asyncio
import random
import socket

import pytest
import structlog

from ottla.controller.rpc import Heartbeat, PeerAddresses, PeerHungUp, PeerRefused, PeerRejected, PeerSilent, RpcClient
from ottla.controller.rpc.admission import MAX_STRANGERS
from ottla.controller.rpc.identity import sign_request
from ottla.controller.rpc.server import MAX_BODY_BYTES, RAFT_PATH
from ottla.controller.rpc.stream import RaftStream
from tests.rpc.conftest import MakeNode
from tests.rpc.nodes import Node, eventually, identity


def stranger(node: Node, **options: str | bytes) -> RpcClient:
    me = identity(7, **options)  # type: ignore[arg-type]
    return RpcClient(me, PeerAddresses({1: ("127.0.0.1", node.port), 3: ("127.0.0.1", node.port)}), random.Random(3))


async def opened(client: RpcClient, to: int = 1) -> RaftStream:
    """A stream whose answers are of no interest."""
    return await client.stream(to, RAFT_PATH, lambda _message: None, lambda _reason: None, timeout=5)


BEAT = Heartbeat(node_id=2, epoch=5, applied_offset=17).model_dump_json().encode()


async def beat(client: RpcClient, to: int = 1) -> None:
    """A small request that is answered."""
    await client.post(to, "/v1/controller/Heartbeat", BEAT, timeout=5)


async def raw(node: Node, data: bytes) -> bytes:
    """Send bytes as they are, and everything that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(data)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_raft_frames_arrive_in_order_with_their_authenticated_sender(make_node: MakeNode) -> None:
    one, two = await make_node(1), await make_node(2)
    stream = await opened(two.client)
    stream.send([b"a", b"bc", b""])
    await eventually(lambda: len(one.frames) == 3)
    assert one.frames == [(2, b"a"), (2, b"bc"), (2, b"")]


async def test_a_controller_request_is_answered_with_its_own_model(make_node: MakeNode) -> None:
    one, two = await make_node(1), await make_node(2)
    request = Heartbeat(node_id=2, epoch=5, applied_offset=17)
    answer = await two.client.post(1, "/v1/controller/Heartbeat", request.model_dump_json().encode(), timeout=5)
    assert one.requests == [(2, request)]
    assert Heartbeat.response_type.model_validate_json(answer).session_ms == 9000


@pytest.mark.parametrize(
    ("options", "to", "status"),
    [
        ({"secret": b"another cluster's secret"}, 1, 401),
        ({"cluster": "c2"}, 1, 409),
        ({"cluster": "c2", "secret": b"another cluster's secret"}, 1, 401),
        ({}, 3, 409),
    ],
)
async def test_strangers_other_clusters_and_wrong_addressees_are_refused(
    make_node: MakeNode, options: dict[str, str | bytes], to: int, status: int
) -> None:
    one = await make_node(1)
    client = stranger(one, **options)
    with pytest.raises(PeerRejected) as refusal:
        await beat(client, to)
    assert refusal.value.status == status
    with pytest.raises(PeerRejected) as refusal:
        await opened(client, to)
    assert refusal.value.status == status
    assert one.frames == one.requests == []
    await client.close()


async def test_a_second_process_with_a_living_nodes_id_is_refused(make_node: MakeNode) -> None:
    one = await make_node(1)
    one.lives[7] = "the life that node 1 is watching"
    client = stranger(one)
    with pytest.raises(PeerRejected, match=r"423.*already running"):
        await opened(client)
    del one.lives[7]
    stream = await opened(client)
    stream.send([b"alone"])
    await eventually(lambda: one.frames == [(7, b"alone")])
    one.lives[7] = "the life that node 1 is watching"
    stream.send([b"not any more"])
    await asyncio.wait_for(stream.lost, 5)
    assert one.frames == [(7, b"alone")]
    await client.close()


async def test_a_node_does_not_take_requests_from_its_own_id(make_node: MakeNode) -> None:
    one = await make_node(1)
    one.addresses.learn(1, ("127.0.0.1", one.port))
    with pytest.raises(PeerRejected, match="two processes claim"):
        await opened(one.client)


async def test_wrong_secrets_make_one_log_line_however_many_come(make_node: MakeNode) -> None:
    one = await make_node(1)
    client = stranger(one, secret=b"another cluster's secret")
    with structlog.testing.capture_logs() as lines:
        for _ in range(20):
            with pytest.raises(PeerRejected):
                await opened(client)
    assert [line["log_level"] for line in lines] == ["warning"]
    assert "secret" not in str(lines[0].get("kind"))
    await client.close()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/raft", b"", 404),
        ("/v1/controller/Heartbeat", b"{", 400),
        ("/v1/controller/Heartbeat", b'{"node_id":1,"epoch":1,"applied_offset":1,"surprise":1}', 400),
        ("/v1/controller/Nonsense", b"{}", 404),
        ("/metrics", b"", 404),
    ],
)
async def test_bad_requests_of_members_are_refused_and_the_next_good_one_is_served(
    make_node: MakeNode, path: str, body: bytes, status: int
) -> None:
    one, two = await make_node(1), await make_node(2)
    with pytest.raises(PeerRejected) as refusal:
        await two.client.post(1, path, body, timeout=5)
    assert refusal.value.status == status
    await beat(two.client)
    assert len(one.requests) == 1


async def test_a_body_that_is_not_the_signed_one_is_refused(make_node: MakeNode) -> None:
    one = await make_node(1)
    headers = sign_request(identity(2), 1, "POST", "/v1/controller/X", b"signed", "nonce")
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join(["POST /v1/controller/X HTTP/1.1", "Host: x", "Content-Length: 6", *lines, "", ""])
    assert b"does not match its digest" in await raw(one, head.encode() + b"forged")


async def test_a_huge_declared_body_is_refused_before_it_comes(make_node: MakeNode) -> None:
    one = await make_node(1)
    headers = sign_request(identity(2), 1, "POST", "/v1/controller/X", b"", "nonce")
    lines = [f"{name}: {value}" for name, value in headers.items()]
    length = f"Content-Length: {MAX_BODY_BYTES + 1}"
    head = "\r\n".join(["POST /v1/controller/X HTTP/1.1", "Host: x", length, *lines, "", ""])
    assert b" 413 " in await raw(one, head.encode())


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00\x00\x12\x00\x12\x00\x04\x00\x00\x00\x01\x00\x04test\x00\x01\x00\x00",  # a Kafka ApiVersions request
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),  # a TLS hello
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/raft HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"GET /v1/watch HTTP/1.1\r\nHost: x\r\nX-Ottla-Cluster: " + b"a" * 20_000 + b"\r\n\r\n",
    ],
)
async def test_garbage_ends_the_connection_with_one_line(make_node: MakeNode, data: bytes) -> None:
    one = await make_node(1, stranger_deadline=0.05)
    with structlog.testing.capture_logs() as lines:
        answer = await raw(one, data)
    assert answer[:12] in (b"", b"HTTP/1.1 401", b"HTTP/1.0 400", b"HTTP/1.1 400")
    assert len(lines) <= 1
    assert one.frames == []


async def test_connections_that_never_authenticate_are_counted_and_the_oldest_goes(make_node: MakeNode) -> None:
    one, two = await make_node(1), await make_node(2)
    stream = await opened(two.client)
    drips = [await asyncio.open_connection("127.0.0.1", one.port) for _ in range(MAX_STRANGERS)]
    await eventually(lambda: one.server._http.strangers == MAX_STRANGERS)
    _, extra = await asyncio.open_connection("127.0.0.1", one.port)
    async with asyncio.timeout(5):
        assert await drips[0][0].read() == b""  # so that a member can always come in
    stream.send([b"a"])  # a member's kept connection is not affected
    await eventually(lambda: one.frames == [(2, b"a")])
    for _, writer in drips:
        writer.close()
    extra.close()


async def test_connections_that_never_authenticate_are_cut(make_node: MakeNode) -> None:
    one, two = await make_node(1, stranger_deadline=0.2), await make_node(2)
    stream = await opened(two.client)
    drips = [await asyncio.open_connection("127.0.0.1", one.port) for _ in range(3)]
    async with asyncio.timeout(5):
        assert [await reader.read() for reader, _ in drips] == [b""] * 3
    await eventually(lambda: one.server._http.strangers == 0)
    stream.send([b"a"])
    await eventually(lambda: one.frames == [(2, b"a")])
    for _, writer in drips:
        writer.close()


async def test_an_answer_from_somebody_without_the_secret_is_not_believed(make_node: MakeNode) -> None:
    two = await make_node(2)

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(impostor, "127.0.0.1", 0)
    two.addresses.learn(1, ("127.0.0.1", server.sockets[0].getsockname()[1]))
    with pytest.raises(PeerRejected, match="not signed"):
        await two.client.post(1, "/v1/controller/Heartbeat", b"{}", timeout=5)
    server.close()


async def test_refused_silent_and_broken_connections_are_told_apart(make_node: MakeNode) -> None:
    two = await make_node(2)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        two.addresses.learn(1, ("127.0.0.1", unused.getsockname()[1]))
        with pytest.raises(PeerRefused):
            await beat(two.client)
        with pytest.raises(PeerRefused):
            await opened(two.client)
        unused.listen()
        with pytest.raises(PeerSilent):
            await two.client.post(1, "/v1/controller/Heartbeat", BEAT, timeout=0.05)
        with pytest.raises(PeerSilent):
            await two.client.stream(1, RAFT_PATH, lambda _message: None, lambda _reason: None, timeout=0.05)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    two.addresses.learn(1, ("127.0.0.1", server.sockets[0].getsockname()[1]))
    with pytest.raises(PeerHungUp):
        await beat(two.client)
    with pytest.raises(PeerHungUp):
        await opened(two.client)
    server.close()
