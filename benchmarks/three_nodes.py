"""Three nodes, replication factor 3, acks=all: throughput, latency, and CPU per request on the leaders.

Run by hand: ``python benchmarks/three_nodes.py [RECORDS]``. Once with records
in the page cache when they are acknowledged, and once with records synced by then.
"""

from __future__ import annotations

import asyncio
import sys
import urllib.request

from common import cluster, cpu_seconds, load, make_topic, megabytes, show

from ottla.cluster import Supervisor


async def main(records: int) -> None:
    """Measure and print."""
    rows = [await _measure(flush, records) for flush in ("os", "synced")]
    show(
        f"Three nodes, RF 3, min.insync.replicas 2, acks=all, 4 partitions, {records:,} records of 1 KiB",
        ["flush", "MB/s", "p50 ms at 1,000/s", "p99 ms", "CPU us per request, all nodes", "CPU us per record"],
        rows,
    )


async def _measure(flush: str, records: int) -> list[str]:
    async with cluster(3, {"ottla.flush": flush}) as supervisor:
        bootstrap = supervisor.layout.bootstrap
        await make_topic(supervisor, "load", 4, 3)
        await load(bootstrap, "load", 20_000, "all")
        slow = await load(bootstrap, "load", 5_000, "all", "--latency")
        cpu, requests = _cpu(supervisor), _produce_requests(supervisor)
        fast = await load(bootstrap, "load", records, "all")
        cpu, requests = _cpu(supervisor) - cpu, _produce_requests(supervisor) - requests
    return [
        flush,
        f"{megabytes(fast):.0f}",
        f"{slow['p50_ms']:.1f}",
        f"{slow['p99_ms']:.1f}",
        f"{cpu / requests * 1e6:.0f}",
        f"{cpu / fast['records'] * 1e6:.1f}",
    ]


def _cpu(supervisor: Supervisor) -> float:
    return sum(cpu_seconds(node.pid) for node in supervisor.nodes.values() if node.pid is not None)


def _produce_requests(supervisor: Supervisor) -> float:
    """Produce requests that all nodes have taken so far, from their metrics."""
    total = 0.0
    for plan in supervisor.layout.nodes:
        with urllib.request.urlopen(f"http://{plan.http}/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("kafka_server_brokertopicmetrics_totalproducerequests_total"):
                    total += float(line.split()[-1])
    return total


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000))
