"""Many nodes as one thing: starts them, keeps ``cluster.json`` current, and does what the companions ask."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable

from ottla.cluster.layout import ClusterLayout
from ottla.cluster.process import NodeProcess, Nursery


class Supervisor:
    """The parent of all node processes of a local cluster. A node that dies stays dead until somebody starts it."""

    def __init__(self, layout: ClusterLayout) -> None:
        self.layout = layout
        self._nursery = Nursery()
        self.nodes = {plan.id: NodeProcess(plan, self._nursery, self._changed) for plan in layout.nodes}
        self.listeners: list[Callable[[NodeProcess], None]] = []

    def node(self, node_id: int) -> NodeProcess:
        """The process of one node; raises LayoutError for an unknown id."""
        return self.nodes[self.layout.node(node_id).id]

    async def start(self) -> float:
        """Start every node and wait until all are ready; returns the seconds it took. Raises NodeFailed."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        starts = [asyncio.ensure_future(node.start()) for node in self.nodes.values()]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            await self.stop(within=5.0)
            raise
        return loop.time() - began

    async def stop(self, *, within: float = 30.0) -> None:
        """Stop every node cleanly, all at the same time."""
        await asyncio.gather(*(node.stop(within=within) for node in self.nodes.values()))
        # Last, because it is the parent that clears away what a dead process leaves.
        self._nursery.close()

    def _changed(self, node: NodeProcess) -> None:
        self.write_state()
        for listener in self.listeners:
            listener(node)

    def state(self) -> dict[str, object]:
        """What ``cluster.json`` says."""
        return {
            "cluster_id": self.layout.cluster_id,
            "bootstrap": self.layout.bootstrap,
            "nodes": [
                {
                    "id": plan.id,
                    "pid": self.nodes[plan.id].pid,
                    "kafka": plan.kafka,
                    "controller": plan.controller,
                    "http": plan.http,
                    "dir": str(plan.directory),
                }
                for plan in self.layout.nodes
            ],
        }

    def write_state(self) -> None:
        """Replace ``cluster.json`` in one step, so that a reader never sees half of it."""
        temporary = self.layout.state_file.with_suffix(".json.tmp")
        temporary.write_text(json.dumps(self.state(), indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, self.layout.state_file)
