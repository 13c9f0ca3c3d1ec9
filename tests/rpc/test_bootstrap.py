"""Who votes, asked of whoever listens at an address (controller.quorum.bootstrap.servers, KIP-853)."""

import asyncio

import pytest
from kio.schema.errors import ErrorCode

from ottla.controller.rpc import (
    AnyRequest,
    FindVoters,
    FindVotersResponse,
    PeerAddresses,
    PeerRejected,
    QuorumFinder,
    RpcClient,
    RpcResponse,
)
from ottla.controller.rpc.bootstrap import PATH
from ottla.controller.rpc.identity import ANYBODY, sign_request
from tests.rpc.conftest import MakeNode
from tests.rpc.nodes import Node, identity

VOTERS = ((1, "node-1", 9093), (2, "node-2", 9093))
BODY = FindVoters().model_dump_json().encode()


def knows(node: Node, *voters: tuple[int, str, int]) -> None:
    async def answer(_request: AnyRequest) -> RpcResponse:
        if not voters:
            return FindVotersResponse(error=ErrorCode.leader_not_available.value, message="not yet")
        return FindVotersResponse(voters=voters)

    node.answer = answer


def finder(asker: Node, *asked: Node) -> QuorumFinder:
    return QuorumFinder(asker.client, [("127.0.0.1", node.port) for node in asked])


async def test_the_first_who_knows_is_believed(make_node: MakeNode) -> None:
    gone, starting, one, me = await make_node(4), await make_node(3), await make_node(1), await make_node(5)
    await gone.stop()
    knows(starting)
    knows(me)
    knows(one, *VOTERS)
    assert await finder(me, gone, me, starting).ask() is None
    assert await finder(me, gone, me, starting, one).ask() == {1: ("node-1", 9093), 2: ("node-2", 9093)}
    assert [sender for sender, _ in one.requests] == [5]


async def test_it_is_asked_until_somebody_knows(make_node: MakeNode) -> None:
    one, me = await make_node(1), await make_node(5)
    knows(one)
    finding = asyncio.ensure_future(finder(me, one).find())
    while len(one.requests) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert not finding.done()
    knows(one, *VOTERS)
    async with asyncio.timeout(10):
        assert set(await finding) == {1, 2}


@pytest.mark.parametrize(
    ("options", "status"), [({"secret": b"another cluster's secret"}, 401), ({"cluster": "c2"}, 409)]
)
async def test_only_members_are_told(make_node: MakeNode, options: dict[str, str | bytes], status: int) -> None:
    one, me = await make_node(1), await make_node(5)
    knows(one, *VOTERS)
    stranger = RpcClient(identity(7, **options), PeerAddresses({}), me.client._rng)  # type: ignore[arg-type]
    with pytest.raises(PeerRejected) as refused:
        await stranger.ask(("127.0.0.1", one.port), PATH, BODY, timeout=5)
    assert refused.value.status == status
    assert not one.requests
    await stranger.close()


async def test_another_process_of_the_same_id_is_found_out(make_node: MakeNode) -> None:
    one, me = await make_node(1), await make_node(5)
    twin = RpcClient(identity(1, incarnation="another life"), PeerAddresses({}), me.client._rng)
    with pytest.raises(PeerRejected, match="two processes claim the same node id"):
        await twin.ask(("127.0.0.1", one.port), PATH, BODY, timeout=5)
    await twin.close()


@pytest.mark.parametrize("path", ["/v1/controller/Heartbeat", "/v1/raft", "/v1/watch"])
async def test_nothing_else_is_for_anybody(make_node: MakeNode, path: str) -> None:
    one, me = await make_node(1), await make_node(5)
    method = "POST" if "controller" in path else "GET"
    headers = sign_request(me.me, ANYBODY, method, path, b"", "nonce")
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{lines}\r\n".encode())
    async with asyncio.timeout(5):
        assert b" 409 " in await reader.readline()
    writer.close()
    assert not one.requests and not one.frames
