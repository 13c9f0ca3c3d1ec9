"""What the faults have in common that are an operator's requests. These are a real admin client's: they may come late,
or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from ottla.client import Admin, KafkaError
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.errors import SimulationError

PATIENCE_S = 5.0
POLL_S = 0.3
_MOST_ADDED = 2


def admin_of(cluster: SimulatedCluster) -> Admin:
    return cluster.admin(request_timeout_ms=PATIENCE_S * 1000)


def in_the_background(cluster: SimulatedCluster, work: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
    """An operator whose request fails gives up."""

    async def attempt() -> None:
        try:
            await work
        except (KafkaError, TimeoutError, SimulationError) as error:
            cluster.world.trace.note("nemesis", f"{what} failed", error=repr(error))

    return cluster.world.loop.create_task(attempt(), name=what)


def added(cluster: SimulatedCluster) -> list[int]:
    """Nodes that were not there when the cluster began."""
    return [node_id for node_id in cluster.nodes if node_id not in cluster.electorate.founders]


def has_room(cluster: SimulatedCluster) -> bool:
    """Whether one more node may be added."""
    return len(added(cluster)) < _MOST_ADDED
