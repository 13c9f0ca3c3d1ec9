"""ControllerClient finds the active controller, follows hints, and wakes when the leader changes."""

import asyncio
from collections.abc import Callable

import pytest
from kio.schema.errors import ErrorCode

from ottla.controller.client import ControllerClient
from ottla.controller.rpc import (
    AnyRequest,
    ControllerUnavailable,
    Heartbeat,
    HeartbeatResponse,
    PeerRefused,
    PeerRejected,
    RpcError,
    RpcResponse,
)
from tests.rpc.conftest import MakeNode

REQUEST = Heartbeat(node_id=1, epoch=5, applied_offset=17)
NOT_CONTROLLER = ErrorCode.not_controller.value


class Remote:
    """Other nodes, as functions that answer or raise; every attempt is recorded."""

    def __init__(self, **nodes: Callable[[], RpcResponse] | asyncio.Future[RpcResponse]) -> None:
        self.nodes = nodes
        self.attempts: list[int] = []
        self.asked = asyncio.Event()

    async def post(self, to: int, path: str, body: bytes, *, timeout: float) -> bytes:
        assert path == "/v1/controller/Heartbeat"
        assert Heartbeat.model_validate_json(body) == REQUEST
        self.attempts.append(to)
        self.asked.set()
        node = self.nodes[f"n{to}"]
        answer = await node if isinstance(node, asyncio.Future) else node()
        return answer.model_dump_json().encode()


def ok(session: int) -> Callable[[], RpcResponse]:
    return lambda: HeartbeatResponse(fenced=False, session_ms=session)


def not_controller(hint: int | None) -> Callable[[], RpcResponse]:
    return lambda: HeartbeatResponse(error=NOT_CONTROLLER, controller_id=hint)


def refused() -> RpcResponse:
    raise PeerRefused("nobody listens")


class Raft:
    leader: int | None = None


def client(remote: Remote, raft: Raft, local: Callable[[], RpcResponse] | None = None) -> ControllerClient:
    async def handle(request: AnyRequest, sender: int) -> RpcResponse:
        assert (request, sender) == (REQUEST, 1)
        assert local is not None
        return local()

    return ControllerClient(1, remote, leader=lambda: raft.leader, local=handle if local else None, voters=[1, 2, 3])


async def test_the_leader_is_asked_and_typed_answers_come_back() -> None:
    remote, raft = Remote(n2=ok(2)), Raft()
    raft.leader = 2
    answer = await client(remote, raft).call(REQUEST, timeout=5)
    assert (answer.session_ms, remote.attempts) == (2, [2])


async def test_a_leader_in_this_process_is_called_without_the_network() -> None:
    remote, raft = Remote(), Raft()
    raft.leader = 1
    answer = await client(remote, raft, ok(1)).call(REQUEST, timeout=5)
    assert (answer.session_ms, remote.attempts) == (1, [])


async def test_a_hint_is_followed_at_once() -> None:
    remote, raft = Remote(n2=not_controller(3), n3=ok(3)), Raft()
    raft.leader = 2
    answer = await client(remote, raft).call(REQUEST, timeout=5)
    assert (answer.session_ms, remote.attempts) == (3, [2, 3])


async def test_two_nodes_that_point_at_each_other_are_not_asked_in_a_tight_circle() -> None:
    remote, raft = Remote(n2=not_controller(3), n3=not_controller(2)), Raft()
    raft.leader = 2
    with pytest.raises(ControllerUnavailable, match="not the active controller"):
        await client(remote, raft).call(REQUEST, timeout=0.2)
    assert 2 <= len(remote.attempts) <= 12


async def test_a_change_of_leader_wakes_a_waiting_call_at_once() -> None:
    remote, raft = Remote(n2=refused, n3=ok(3)), Raft()
    raft.leader = 2
    controller = client(remote, raft)
    call = asyncio.ensure_future(controller.call(REQUEST, timeout=5))
    await remote.asked.wait()
    raft.leader = 3
    controller.leader_changed()
    for _ in range(20):  # loop iterations, not time: nothing is waited for
        await asyncio.sleep(0)
    assert call.done()
    assert call.result().session_ms == 3
    assert remote.attempts == [2, 3]


async def test_an_attempt_at_a_replaced_leader_is_given_up() -> None:
    hung: asyncio.Future[RpcResponse] = asyncio.get_running_loop().create_future()
    remote, raft = Remote(n2=hung, n3=ok(3)), Raft()
    raft.leader = 2
    controller = client(remote, raft)
    call = asyncio.ensure_future(controller.call(REQUEST, timeout=5))
    await remote.asked.wait()
    raft.leader = None  # nobody leads yet: the old leader may still answer
    controller.leader_changed()
    await asyncio.sleep(0)
    assert remote.attempts == [2]
    raft.leader = 3
    controller.leader_changed()
    assert (await call).session_ms == 3
    assert hung.cancelled()


async def test_without_a_known_leader_the_voters_are_asked_in_turn() -> None:
    remote, raft = Remote(n2=refused, n3=not_controller(2)), Raft()
    with pytest.raises(ControllerUnavailable) as failure:
        await client(remote, raft).call(REQUEST, timeout=0.1)
    assert {2, 3} <= set(remote.attempts)
    assert isinstance(failure.value.__cause__, RpcError)


async def test_a_refusal_that_time_does_not_cure_is_raised() -> None:
    def rejected() -> RpcResponse:
        raise PeerRejected(409, "this is cluster c1, the request is of cluster c2")

    raft = Raft()
    raft.leader = 2
    with pytest.raises(PeerRejected, match="cluster c1"):
        await client(Remote(n2=rejected), raft).call(REQUEST, timeout=5)


@pytest.mark.parametrize("status", [408, 423, 500, 503])
async def test_a_refusal_that_is_the_peers_own_fault_is_followed_by_another_attempt(status: int) -> None:
    def rejected() -> RpcResponse:
        raise PeerRejected(status, "not now")

    remote = Remote(n2=rejected, n3=ok(3))
    assert (await client(remote, Raft()).call(REQUEST, timeout=5)).session_ms == 3
    # Without a known leader the others are asked in turn, and either may be the first.
    raft = Raft()
    raft.leader = 2
    remote = Remote(n2=rejected)
    with pytest.raises(ControllerUnavailable):
        await client(remote, raft).call(REQUEST, timeout=0.1)
    assert len(remote.attempts) > 1


async def test_an_error_other_than_not_controller_is_an_answer() -> None:
    raft = Raft()
    raft.leader = 2
    stale = ErrorCode.stale_broker_epoch.value
    remote = Remote(n2=lambda: HeartbeatResponse(error=stale))
    assert (await client(remote, raft).call(REQUEST, timeout=5)).error == stale


async def test_over_the_real_listener(make_node: MakeNode) -> None:
    one, two = await make_node(1), await make_node(2)
    raft = Raft()
    raft.leader = 2
    controller = ControllerClient(1, one.client, leader=lambda: raft.leader, local=None, voters=[1, 2])
    assert (await controller.call(REQUEST, timeout=5)).session_ms == 9000
    assert two.requests == [(1, REQUEST)]
