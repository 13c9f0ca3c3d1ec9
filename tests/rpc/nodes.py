"""Small controller listeners for the tests: real sockets, recording handlers."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ottla.controller.rpc import (
    AnyRequest,
    ClusterIdentity,
    Handlers,
    HeartbeatResponse,
    PeerAddresses,
    RpcClient,
    RpcResponse,
    RpcServer,
)
from ottla.controller.rpc.stream import RaftStream

SECRET = b"the secret of the test cluster"


def identity(node_id: int, *, cluster: str = "c1", secret: bytes = SECRET, incarnation: str = "") -> ClusterIdentity:
    return ClusterIdentity(cluster, node_id, incarnation or f"life-of-{node_id}", secret)


async def eventually(condition: Callable[[], object], deadline: float = 5.0) -> None:
    """Until the condition holds. Looks once per loop iteration; fails after `deadline` seconds."""
    async with asyncio.timeout(deadline):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)


@dataclass
class Node:
    me: ClusterIdentity
    addresses: PeerAddresses
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    requests: list[tuple[int, AnyRequest]] = field(default_factory=list)
    introduced: list[tuple[int, tuple[str, int]]] = field(default_factory=list)
    lives: dict[int, str] = field(default_factory=dict)
    answer: Callable[[AnyRequest], Awaitable[RpcResponse]] | None = None
    raft_accepted: Callable[[int, RaftStream], None] = lambda _node_id, _stream: None
    port: int = 0

    async def start(self, *, stranger_deadline: float = 10.0) -> "Node":
        handlers = Handlers(
            raft=lambda sender, frame: self.frames.append((sender, frame)),
            controller=self._controller,
            raft_accepted=lambda node_id, stream: self.raft_accepted(node_id, stream),
            incarnation_of=self.lives.get,
            introduced=lambda node_id, address: self.introduced.append((node_id, address)),
        )
        self.server = RpcServer(self.me, handlers, random.Random(-self.me.node_id), stranger_deadline=stranger_deadline)
        self.port = await self.server.start("127.0.0.1", self.port)
        self.client = RpcClient(self.me, self.addresses, random.Random(self.me.node_id))
        return self

    async def _controller(self, request: AnyRequest, sender: int) -> RpcResponse:
        self.requests.append((sender, request))
        if self.answer is not None:
            return await self.answer(request)
        return HeartbeatResponse(fenced=False, session_ms=9000)

    async def stop(self) -> None:
        await self.client.close()
        await self.server.stop()
