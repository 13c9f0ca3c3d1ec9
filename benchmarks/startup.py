"""A cluster of three nodes from nothing: time to ready, and the memory of each node.

Run by hand: ``python benchmarks/startup.py [ROUNDS]``. The first start of a round includes all imports; a restart
is what ``ottla start`` takes.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from pathlib import Path

from common import memory_mb, show

from ottla.cluster import Supervisor, free_base_port, prepare


async def main(rounds: int) -> None:
    """Measure and print."""
    results = [await _round() for _ in range(rounds)]
    columns = list(zip(*results, strict=True))
    show(
        f"Three nodes from nothing, {rounds} rounds",
        ["", "median", "worst"],
        [
            [name, f"{statistics.median(column):.2f}", f"{max(column):.2f}"]
            for name, column in zip(
                ("ready after, s", "one node again after kill -9, s", "resident MB a node", "proportional MB a node"),
                columns,
                strict=True,
            )
        ],
    )


async def _round() -> tuple[float, float, float, float]:
    with tempfile.TemporaryDirectory(prefix="ottla-benchmark-") as directory:
        supervisor = Supervisor(prepare(Path(directory), nodes=3, base_port=free_base_port(3)))
        ready = await supervisor.start()
        try:
            sizes = [memory_mb(node.pid) for node in supervisor.nodes.values() if node.pid is not None]
            node = supervisor.node(1)
            node.kill()
            await node.gone()
            loop = asyncio.get_running_loop()
            began = loop.time()
            await node.start()
            again = loop.time() - began
        finally:
            await supervisor.stop()
    return ready, again, max(size[0] for size in sizes), max(size[1] for size in sizes)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
