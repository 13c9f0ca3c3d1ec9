"""CPU of a broker per plain Produce and per Fetch request, of this checkout and of others, in turns.

Run by hand: ``python benchmarks/path_cost.py [ROUNDS] [CHECKOUT ...]``. Each checkout has a ``.venv`` of its own
(``make .venv/.ready``), and runs one node as ``ottla up`` starts it. The load is this checkout's, so that only the node
differs. Records of 1 KiB, one to a request: nothing is batched, so the path is all that is measured.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import urllib.request
from pathlib import Path

from common import HERE, cpu_seconds, load, show

from ottla.cluster import free_base_port

PRODUCES = 5_000
READS = 5_000


async def main(rounds: int, checkouts: list[Path]) -> None:
    """Measure and print."""
    found: dict[Path, list[tuple[float, float]]] = {checkout: [] for checkout in checkouts}
    for _ in range(rounds):
        for checkout, costs in found.items():
            costs.append(await _measure(checkout))
    rows = []
    for checkout, costs in found.items():
        produce, fetch = zip(*costs, strict=True)
        rows.append([checkout.name, _spread(produce), _spread(fetch)])
    show(
        f"One node, acks=1, {PRODUCES:,} Produce requests at 1,000/s and {READS:,} records fetched one by one; "
        f"median (least to most) of {rounds}",
        ["checkout", "us a Produce request", "us a Fetch request"],
        rows,
    )


async def _measure(checkout: Path) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="ottla-benchmark-") as directory:
        ottla = str(checkout / ".venv/bin/ottla")
        port = free_base_port(1)
        await _run(ottla, "up", "-n", "1", "-d", "--dir", directory, "--base-port", str(port))
        try:
            (node,) = json.loads((Path(directory) / "cluster.json").read_text(encoding="utf-8"))["nodes"]
            bootstrap = f"127.0.0.1:{port}"
            await _run(ottla, "topic", "create", "load", "-p", "4", "-r", "1", "--bootstrap", bootstrap)
            await load(bootstrap, "load", 1_000, "1", "--latency")
            produce = await _cost(node, "produce", bootstrap, PRODUCES, "--latency")
            fetch = await _cost(node, "fetch", bootstrap, READS, "--read-singly")
        finally:
            await _run(ottla, "down", "--dir", directory)
    return produce, fetch


async def _cost(node: dict[str, object], kind: str, bootstrap: str, records: int, how: str) -> float:
    """Microseconds of the node's CPU for each request of this kind."""
    pid, http = int(str(node["pid"])), str(node["http"])
    cpu, requests = cpu_seconds(pid), _requests(http, kind)
    await load(bootstrap, "load", records, "1", how)
    return (cpu_seconds(pid) - cpu) / (_requests(http, kind) - requests) * 1e6


def _requests(http: str, kind: str) -> float:
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=5) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f"kafka_server_brokertopicmetrics_total{kind}requests_total"):
                return float(line.split()[-1])
    raise RuntimeError(f"no count of {kind} requests at {http}")


async def _run(*words: str) -> None:
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.DEVNULL)
    if await process.wait():
        raise RuntimeError(f"{' '.join(words)} failed")


def _spread(values: tuple[float, ...]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


if __name__ == "__main__":
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    asyncio.run(main(turns, [HERE.parent, *(Path(word).resolve() for word in sys.argv[2:])]))
