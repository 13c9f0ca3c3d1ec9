"""The controller listener of a whole node: for whom it is, and what it does with everybody else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from ottla.controller import (
    AnyRequest,
    ClusterIdentity,
    ControllerClient,
    ControllerUnavailable,
    CreateTopics,
    DeleteTopics,
    Heartbeat,
    NewTopic,
    PeerAddresses,
    RpcClient,
    RpcResponse,
    TopicRef,
    encode_message,
)
from ottla.controller.client import MAX_CLIENT_CALLS
from ottla.controller.raft.messages import VoteRequest
from ottla.controller.rpc import PeerRejected
from ottla.controller.rpc.admission import MAX_STRANGERS
from ottla.controller.rpc.identity import sign_request
from ottla.controller.rpc.stream import MAX_FRAME_BYTES, PROTOCOL, RaftStream
from ottla.controller.rpc.stream_codec import HEAD, Sealer
from tests.badinput.node import CLUSTER, SECRET, TIMEOUT, Running, eventually

RAFT, CONTROLLER = "/v1/raft", "/v1/controller/"


def identity(node_id: int = 2, *, cluster: str = CLUSTER, secret: bytes = SECRET) -> ClusterIdentity:
    return ClusterIdentity(cluster, node_id, f"life of {node_id}", secret)


@pytest.fixture
async def member(node: Running) -> AsyncIterator[RpcClient]:
    client = RpcClient(identity(), PeerAddresses({1: ("127.0.0.1", node.controller_port)}), random.Random(1))
    yield client
    await client.close()


def term(node: Running) -> int:
    assert node.node.quorum is not None
    return node.node.quorum.driver.core.term


async def exchange(node: Running, *parts: bytes) -> bytes:
    """Send as it is, and everything that comes back until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.controller_port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(TIMEOUT):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def http(path: str, body: bytes = b"", *, me: ClusterIdentity | None = None, to: int = 1, length: int = -1) -> bytes:
    headers = {} if me is None else sign_request(me, to, "POST", path, body, "nonce")
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body) if length < 0 else length}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode() + body


def opening(me: ClusterIdentity | None, to: int) -> bytes:
    headers = {} if me is None else sign_request(me, to, "GET", RAFT, b"", "nonce")
    lines = [f"GET {RAFT} HTTP/1.1", "Host: x", "Connection: Upgrade", f"Upgrade: {PROTOCOL}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


def vote(node: Running) -> bytes:
    """A frame that would unseat the leader if it were believed."""
    message = VoteRequest(term=term(node) + 100, last_index=10**6, last_term=10**6, pre=False)
    return Sealer(b"some key").seal([encode_message(message)], 0)


CREATE = (
    CreateTopics(topics=(NewTopic(name="smuggled", partitions=1, replication_factor=1),)).model_dump_json().encode()
)


@pytest.mark.parametrize(
    ("me", "to", "status"),
    [
        (None, 1, b"401"),
        (identity(secret=b"not the secret of this cluster"), 1, b"401"),
        (identity(cluster="another"), 1, b"409"),
        (identity(cluster="another", secret=b"not the secret of this cluster"), 1, b"401"),
        (identity(), 3, b"409"),
        (identity(1), 1, b"409"),
    ],
    ids=["unsigned", "wrong secret", "wrong cluster", "wrong both", "wrong node", "our own id"],
)
async def test_only_members_of_this_cluster_are_heard(
    node: Running, me: ClusterIdentity | None, to: int, status: bytes
) -> None:
    before = term(node)
    async with node.unharmed():
        for request in (opening(me, to), http(CONTROLLER + "CreateTopics", CREATE, me=me, to=to)):
            assert status in (await exchange(node, request)).split(b"\r\n")[0]
            # Nor does a frame slip in behind a request, whatever becomes of that.
            assert (await exchange(node, request + vote(node))).split(b" ")[1] in (status, b"400")
    assert term(node) == before
    assert node.node.quorum is not None
    assert "smuggled" not in node.node.quorum.view.image.topics
    refusals = [line for line in node.lines if line["event"] == "rpc_refused"]
    assert len(refusals) <= 2


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x12\0\x12\0\4\0\0\0\1\0\4test\0\1\0\0",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
        b"\xff" * 20_000 + b"\r\n\r\n",
        b"POST /v1/raft HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/raft HTTP/1.1\r\nContent-Length: 9999999999999999999999\r\n\r\n",
        b"POST /v1/raft HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\nx",
        b"GET /v1/watch HTTP/1.1\r\nX-Ottla-Cluster: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /v1/watch HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % i for i in range(1000)) + b"\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    ],
    ids=["kafka", "tls", "bytes", "negative", "overflow", "chunked", "long header", "many headers", "long path"],
)
async def test_garbage_is_cut_off_with_one_line(node: Running, data: bytes) -> None:
    assert node.node.quorum is not None
    node.node.quorum._server._http._stranger_deadline = 0.2
    async with node.unharmed():
        answer = await exchange(node, data)
        assert answer[:12] in (b"", b"HTTP/1.1 401", b"HTTP/1.0 400", b"HTTP/1.1 400")
    said = [line for line in node.lines if line["event"] == "rpc_refused"]
    assert len(said) <= 1


async def test_headers_that_drip_in_have_a_deadline(node: Running) -> None:
    assert node.node.quorum is not None
    node.node.quorum._server._http._stranger_deadline = 0.2
    async with node.unharmed():
        reader, writer = await asyncio.open_connection("127.0.0.1", node.controller_port)
        end = asyncio.ensure_future(reader.read())
        drips = 0
        while not end.done():
            writer.write(b"POST /v1/raft HTTP/1.1\r\n"[drips : drips + 1] or b"a")
            drips += 1
            await asyncio.sleep(0.01)
        assert drips > 5
        assert end.exception() is not None or end.result() == b""
        writer.close()


async def test_huge_bodies_are_refused_before_they_come(node: Running) -> None:
    async with node.unharmed():
        huge = http(CONTROLLER + "X", me=identity(), length=65 * 1024 * 1024)
        assert b" 413 " in await exchange(node, huge, bytes(100_000))
        # A stranger's body is not waited for, however large he says it is.
        assert b" 401 " in await exchange(node, http(CONTROLLER + "X", length=60 * 1024 * 1024), bytes(100_000))


async def test_strangers_cannot_keep_members_out(node: Running, member: RpcClient) -> None:
    assert node.node.quorum is not None
    http_server = node.node.quorum._server._http
    async with node.unharmed():
        strangers = [
            await asyncio.open_connection("127.0.0.1", node.controller_port) for _ in range(MAX_STRANGERS + 20)
        ]
        await eventually(lambda: http_server.strangers == MAX_STRANGERS)
        stream = await opened(member)
        assert http_server.strangers <= MAX_STRANGERS
        async with asyncio.timeout(TIMEOUT):
            assert await strangers[0][0].read() == b""
        for _, writer in strangers:
            writer.close()
        await eventually(lambda: http_server.strangers == 0)
        assert stream.open


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (RAFT, b"", 404),
        (CONTROLLER + "Heartbeat", b"", 400),
        (CONTROLLER + "Heartbeat", b"[" * 100_000, 400),
        (CONTROLLER + "Heartbeat", b'{"node_id":1e999,"epoch":1,"applied_offset":1}', 400),
        (CONTROLLER + "CreateTopics", b'{"topics":[{"name":"\\ud800"}]}', 400),
        (CONTROLLER + "__class__", b"{}", 404),
        ("/v1/raft/../watch", b"", 404),
    ],
)
async def test_what_a_member_must_not_say(
    node: Running, member: RpcClient, path: str, body: bytes, status: int
) -> None:
    async with node.unharmed():
        with pytest.raises(PeerRejected) as refusal:
            await member.post(1, path, body, timeout=TIMEOUT)
        assert refusal.value.status == status


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"\xff" * 100,
        b"GET /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n",
        HEAD.pack(MAX_FRAME_BYTES + 1, 0, bytes(16)),
        HEAD.pack(0, 0, bytes(16)),
        Sealer(b"some key").seal([b""], 0),
    ],
    ids=["cut short", "bytes", "http", "too large", "not signed", "signed by somebody else"],
)
async def test_what_is_no_frame_ends_a_stream(node: Running, member: RpcClient, data: bytes) -> None:
    async with node.unharmed():
        stream = await opened(member)
        stream._transport.write(data)
        if len(data) == 1:
            stream.close()
        async with asyncio.timeout(TIMEOUT):
            await stream.lost
    assert len([line for line in node.lines if line["event"] == "rpc_refused"]) == (len(data) > 1)


@pytest.mark.parametrize("message", [b"\xff" * 50, b""])
async def test_what_is_no_message_of_raft_ends_a_stream(node: Running, member: RpcClient, message: bytes) -> None:
    async with node.unharmed():
        stream = await opened(member)
        stream.send([message])
        async with asyncio.timeout(TIMEOUT):
            await stream.lost
    (line,) = [line for line in node.lines if line["event"] == "rpc_refused"]
    assert "bad Raft message" in line["reason"]


async def opened(member: RpcClient) -> RaftStream:
    return await member.stream(1, RAFT, lambda _message: None, lambda _reason: None, timeout=TIMEOUT)


async def test_a_member_speaks_for_itself_only(node: Running, member: RpcClient) -> None:
    async with node.unharmed():
        beat = Heartbeat(node_id=1, epoch=2, applied_offset=0, want_shutdown=True)
        answer = await member.post(1, CONTROLLER + "Heartbeat", beat.model_dump_json().encode(), timeout=TIMEOUT)
        assert b'"error":31' in answer  # CLUSTER_AUTHORIZATION_FAILED
    assert node.node.broker is not None and node.node.broker.registration is not None
    assert not node.node.broker.registration.fenced


async def test_what_holds_of_a_replayed_request(node: Running) -> None:
    """Whoever can read the private network can send a request once more, as it was: not changed, and not to another.

    Nothing of a Raft stream can be sent once more (tests/rpc). Topics are made once, and by then have another id; a
    deletion by name hits whatever has that name now. Requests of an earlier life of a node are refused as soon as its
    next one is watched.
    """
    create = http(CONTROLLER + "CreateTopics", CREATE, me=identity())
    async with node.unharmed():
        assert b'"error":0' in await first_answer(node, create)
        again = await first_answer(node, create)
        assert b'"error":36' in again  # TOPIC_ALREADY_EXISTS
        assert b" 401 " in await exchange(node, create.replace(b"CreateTopics", b"DeleteTopics"))
        assert b" 401 " in await exchange(node, create.replace(b"X-Ottla-To: 1", b"X-Ottla-To: 3"))
        assert b" 401 " in await exchange(node, create.replace(b"X-Ottla-From: 2", b"X-Ottla-From: 3"))
        assert b" 400 " in await exchange(node, create.replace(b'"smuggled"', b'"SMUGGLED"'))
        delete = DeleteTopics(topics=(TopicRef(name="smuggled"),)).model_dump_json().encode()
        recorded = http(CONTROLLER + "DeleteTopics", delete, me=identity())
        assert b'"error":0' in await first_answer(node, recorded)
        assert b'"error":3' in await first_answer(node, recorded)  # UNKNOWN_TOPIC_OR_PARTITION
        assert node.node.quorum is not None
        handlers = node.node.quorum._server._handlers
        object.__setattr__(handlers, "incarnation_of", lambda _node: "the next life of 2")
        assert b" 423 " in await exchange(node, recorded)


async def first_answer(node: Running, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.controller_port)
    try:
        writer.write(request)
        async with asyncio.timeout(TIMEOUT):
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(size)
    finally:
        writer.close()
    return body[body.rindex(b'"topics"') :] if b'"topics"' in body else body


async def test_clients_requests_leave_room_for_heartbeats() -> None:
    """Whoever asks for topics faster than they are made must not have the broker fenced."""
    stuck = asyncio.Event()

    async def decide(request: AnyRequest, _caller: int) -> RpcResponse:
        if not isinstance(request, Heartbeat):
            await stuck.wait()
        return request.response_type()

    client = ControllerClient(
        1, RpcClient(identity(), PeerAddresses({}), random.Random(1)), leader=lambda: 1, local=decide, voters=[1]
    )
    asked = [asyncio.ensure_future(client.call(CreateTopics(topics=()), timeout=30)) for _ in range(400)]
    await asyncio.sleep(0)
    refused = [each for each in asked if each.done() and isinstance(each.exception(), ControllerUnavailable)]
    assert len(refused) == 400 - MAX_CLIENT_CALLS
    assert (await client.call(Heartbeat(node_id=1, epoch=1, applied_offset=1), timeout=1)).error == 0
    stuck.set()
    await asyncio.gather(*asked, return_exceptions=True)
