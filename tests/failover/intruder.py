"""A node process that should not be: configured like a real node but for some changes, and watched until it ends."""

from __future__ import annotations

import asyncio
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ottla.cluster import free_base_port
from ottla.cluster.layout import NodePlan, render_config

PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended and what it wrote to standard error; `code` is None when it had to be killed."""

    code: int | None
    said: str

    def refused_with(self, reason: str) -> bool:
        """It failed, and its last line says why, without a traceback."""
        last_line = self.said.rstrip().rpartition("\n")[2]
        return self.code == 1 and reason in last_line and "Traceback" not in self.said


def other_ports() -> dict[str, str]:
    """Settings with which the process of a node collides with no address of the cluster."""
    base = free_base_port(1)
    kafka, controller = f"127.0.0.1:{base}", f"127.0.0.1:{base + 100}"
    return {
        "listeners": f"PLAINTEXT://{kafka},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{kafka}",
        "ottla.http.listener": f"127.0.0.1:{base + 200}",
    }


async def run_like(plan: NodePlan, directory: Path, changes: Mapping[str, str | int | bool]) -> Ended:
    """Start a node with the configuration of `plan` but for `changes`; await its end."""
    settings = {**tomllib.loads(plan.config_file.read_text(encoding="utf-8")), **changes}
    config = directory / "intruder.toml"
    config.write_text(render_config(settings), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ottla.cli", "node", "--config", str(config), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    reading = asyncio.create_task(process.stderr.read())
    try:
        async with asyncio.timeout(PATIENCE_S):
            code: int | None = await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        code = None
    return Ended(code, (await reading).decode(errors="replace"))
