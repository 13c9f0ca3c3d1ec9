"""A node as a process of its own, whose memory can be looked at."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.badinput.node import CLUSTER


class NodeProcess:
    def __init__(self, process: asyncio.subprocess.Process, port: int, controller_port: int, log: Path) -> None:
        self._process = process
        self.port = port
        self.controller_port = controller_port
        self._log = log

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def peak_mib(self) -> int:
        """The most memory that the process has had in RAM since `reset_peak`."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) // 1024

    def reset_peak(self) -> None:
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    @property
    def log(self) -> str:
        return self._log.read_text()


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@asynccontextmanager
async def node_process(
    directory: Path, *, config: str = "", descriptors: int | None = None
) -> AsyncIterator[NodeProcess]:
    """`config` is more of the TOML file, `descriptors` the process's limit of open files."""
    port, controller_port = _free_ports(2)
    file = directory / "node.toml"
    file.write_text(
        f'"node.id" = 1\n"cluster.id" = "{CLUSTER}"\n"log.dirs" = "{directory / "data"}"\n'
        f'"controller.quorum.voters" = "1@127.0.0.1:{controller_port}"\n'
        f'"listeners" = "PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"\n{config}\n'
    )
    arguments = [sys.executable, "-m", "ottla.cli", "node", "--config", str(file)]
    if descriptors is not None:
        arguments = ["/bin/sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh", *arguments]
    read_end, write_end = os.pipe()
    log = directory / "node.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *arguments, "--ready-fd", str(write_end), pass_fds=(write_end,), stdout=output, stderr=output
        )
    os.close(write_end)
    try:
        ready = await asyncio.wait_for(asyncio.to_thread(os.read, read_end, 100), 30)
        assert ready, log.read_text()
        yield NodeProcess(process, port, controller_port, log)
    finally:
        os.close(read_end)
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 15)
            except TimeoutError:
                process.kill()
                await process.wait()
