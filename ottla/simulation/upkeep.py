"""Who looks after the nodes once nothing does harm any more: a supervisor that starts again what ends by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.node import SimulatedNode

RESTART_S = 0.5


@contextlib.asynccontextmanager
async def kept_up(cluster: SimulatedCluster) -> AsyncIterator[None]:
    """Within this a node is started again when it ends by itself because of what a fault has left on its disk: damage
    that nobody has come across before is found when somebody reads there. Any other end is a failure, and stays so."""
    keepers = [asyncio.create_task(_keep_up(node), name=f"keeper of {node}") for node in cluster.nodes.values()]
    try:
        yield
    finally:
        for keeper in keepers:
            keeper.cancel()
        ends = await asyncio.gather(*keepers, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end


async def _keep_up(node: SimulatedNode) -> None:
    while True:
        await node.ended()
        if not node.excused:
            return
        await asyncio.sleep(RESTART_S)
        if not node.alive:
            node.start()
