"""One node, one topic of 4 partitions, 1 KB records, acks=1, in turns with the bare spike: the spike is the ceiling.

Run by hand: ``python benchmarks/single_node.py [RECORDS] [ROUNDS]``. Rounds alternate, so that noise hits both.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile

from common import HERE, cluster, cpu_seconds, load, make_topic, megabytes, show

from ottla.cluster import free_base_port


async def main(records: int, rounds: int) -> None:
    """Measure both and print the ratio."""
    port = free_base_port(1)
    with tempfile.TemporaryDirectory(prefix="ottla-spike-") as directory:
        spike = await asyncio.create_subprocess_exec(
            *(sys.executable, str(HERE / "spike.py"), str(port), directory), stdout=asyncio.subprocess.PIPE
        )
        assert spike.stdout is not None
        await spike.stdout.readline()
        try:
            async with cluster(1) as supervisor:
                await make_topic(supervisor, "load", 4, 1)
                pid = supervisor.node(1).pid
                assert pid is not None
                results = [
                    await _round(records, f"127.0.0.1:{port}", spike.pid, supervisor.layout.bootstrap, pid)
                    for _ in range(rounds)
                ]
        finally:
            spike.terminate()
            await spike.wait()
    rows = [
        [
            str(number),
            *(f"{value:.0f}" for value in row[:2]),
            *(f"{value:.2f}" for value in row[2:]),
            f"{row[1] / row[0]:.0%}",
        ]
        for number, row in enumerate(results, 1)
    ]
    medians = [statistics.median(column) for column in zip(*results, strict=True)]
    rows.append(
        [
            "median",
            *(f"{value:.0f}" for value in medians[:2]),
            *(f"{value:.2f}" for value in medians[2:]),
            f"{statistics.median(row[1] / row[0] for row in results):.0%}",
        ]
    )
    show(
        f"One node, acks=1, {records:,} records of 1 KiB",
        ["round", "spike MB/s", "node MB/s", "spike CPU s", "node CPU s", "node / spike"],
        rows,
    )


async def _round(
    records: int, spike: str, spike_pid: int, node: str, node_pid: int
) -> tuple[float, float, float, float]:
    before = cpu_seconds(spike_pid), cpu_seconds(node_pid)
    bare = megabytes(await load(spike, "load", records, "1"))
    real = megabytes(await load(node, "load", records, "1"))
    return bare, real, cpu_seconds(spike_pid) - before[0], cpu_seconds(node_pid) - before[1]


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    asyncio.run(main(*(arguments + [500_000, 5][len(arguments) :])))
