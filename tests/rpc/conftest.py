from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.rpc.nodes import Node, identity

MakeNode = Callable[..., Awaitable[Node]]


@pytest.fixture
async def make_node() -> AsyncIterator[MakeNode]:
    """Starts listeners on free ports that know each other's addresses; all are stopped afterwards."""
    from ottla.controller.rpc import PeerAddresses

    nodes: list[Node] = []

    async def make(node_id: int, **options: object) -> Node:
        start = {key: options.pop(key) for key in ("stranger_deadline",) if key in options}
        node = Node(identity(node_id, **options), PeerAddresses({}))  # type: ignore[arg-type]
        await node.start(**start)  # type: ignore[arg-type]
        for other in nodes:
            node.addresses.learn(other.me.node_id, ("127.0.0.1", other.port))
            other.addresses.learn(node_id, ("127.0.0.1", node.port))
        nodes.append(node)
        return node

    yield make
    for node in reversed(nodes):
        await node.stop()
