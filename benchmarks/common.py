"""What the benchmarks share: a cluster for the time of a measurement, the load process, and the table at the end."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ottla.client import Admin, NewTopic
from ottla.cluster import Supervisor, free_base_port, prepare

HERE = Path(__file__).parent
LOAD_S = 240.0


@asynccontextmanager
async def cluster(nodes: int, settings: dict[str, str | int | bool] | None = None) -> AsyncIterator[Supervisor]:
    """A local cluster in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="ottla-benchmark-") as directory:
        layout = prepare(Path(directory), nodes=nodes, base_port=free_base_port(nodes), settings=settings)
        supervisor = Supervisor(layout)
        await supervisor.start()
        try:
            yield supervisor
        finally:
            await supervisor.stop()


async def make_topic(supervisor: Supervisor, name: str, partitions: int, replicas: int) -> None:
    """Create a topic."""
    async with Admin(bootstrap_servers=supervisor.layout.bootstrap) as admin:
        await admin.create_topics([NewTopic(name, partitions, replicas)])


async def load(bootstrap: str, topic: str, records: int, acks: str, *flags: str) -> dict[str, float]:
    """Run ``load.py`` and return what it measured."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(HERE / "load.py"), bootstrap, topic, str(records), acks, *flags),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(LOAD_S):
        output, _ = await process.communicate()
    result: dict[str, float] = json.loads(output)
    if result["failed"]:
        raise RuntimeError(f"{result['failed']} records were not acknowledged")
    return result


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def memory_mb(pid: int) -> tuple[float, float]:
    """Resident and proportional (shared pages divided among their users) memory of a process, in MB."""
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
        name, _, rest = line.partition(":")
        sizes[name] = int(rest.split()[0]) / 1024
    return sizes["Rss"], sizes["Pss"]


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def megabytes(result: dict[str, float]) -> float:
    """MB of 1 KiB records a second."""
    return result["records"] * 1024 / result["seconds"] / 1e6
