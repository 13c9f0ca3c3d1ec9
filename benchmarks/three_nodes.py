"""Three nodes, replication factor 3, acks=all: throughput, latency, and CPU per request on the leader.

Run by hand: ``python benchmarks/three_nodes.py [RECORDS]``. Once with records
in the page cache when they are acknowledged, and once with records synced by then.
"""

from __future__ import annotations

import asyncio
import sys
import urllib.request

from common import cluster, cpu_seconds, load, make_topic, megabytes, show

from ottla.client import Admin, NewTopic
from ottla.cluster import Supervisor


async def main(records: int) -> None:
    """Measure and print."""
    rows = [await _measure(flush, records) for flush in ("os", "synced")]
    show(
        f"Three nodes, RF 3, min.insync.replicas 2, acks=all, 4 partitions, {records:,} records of 1 KiB",
        ["flush", "MB/s", "p50 ms at 1,000/s", "p99 ms", "leader's CPU us a request", "all nodes' CPU us a record"],
        rows,
    )


async def _measure(flush: str, records: int) -> list[str]:
    async with cluster(3, {"ottla.flush": flush}) as supervisor:
        bootstrap = supervisor.layout.bootstrap
        await make_topic(supervisor, "load", 4, 3)
        await load(bootstrap, "load", 20_000, "all")
        fast_cpu = _cpu(supervisor)
        fast = await load(bootstrap, "load", records, "all")
        fast_cpu = _cpu(supervisor) - fast_cpu
        await _make_led_by(supervisor, "led", 1)
        leader, requests = _cpu(supervisor, 1), _produce_requests(supervisor)
        slow = await load(bootstrap, "led", 5_000, "all", "--latency")
        leader, requests = _cpu(supervisor, 1) - leader, _produce_requests(supervisor) - requests
    return [
        flush,
        f"{megabytes(fast):.0f}",
        f"{slow['p50_ms']:.1f}",
        f"{slow['p99_ms']:.1f}",
        f"{leader / requests * 1e6:.0f}",
        f"{fast_cpu / fast['records'] * 1e6:.1f}",
    ]


async def _make_led_by(supervisor: Supervisor, name: str, leader: int) -> None:
    """A topic whose partitions are all led by one node, so that its CPU is that of a leader."""
    others = [node for node in supervisor.nodes if node != leader]
    assignment = dict.fromkeys(range(4), (leader, *others))
    async with Admin(bootstrap_servers=supervisor.layout.bootstrap) as admin:
        await admin.create_topics([NewTopic(name, replica_assignments=assignment)])


def _cpu(supervisor: Supervisor, *nodes: int) -> float:
    """CPU seconds of these nodes so far, of all by default."""
    pids = [supervisor.nodes[node].pid for node in nodes or supervisor.nodes]
    return sum(cpu_seconds(pid) for pid in pids if pid is not None)


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
