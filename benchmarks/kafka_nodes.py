"""Apache Kafka's own brokers from its jars, as combined KRaft nodes on the loopback address: what to compare with.

``mvn dependency:copy-dependencies`` of ``org.apache.kafka:kafka_2.13`` fetches the jars. Settings are Kafka's defaults,
but for those that three nodes need; the virtual machine's are those of Kafka's own start scripts.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
JAVA = ("java", "-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")
_STOP_S = 30.0


class KafkaNodes:
    """Three nodes in `directory`, with two ports each from `base_port` on. Logs go to a file beside the data."""

    name = "Kafka"

    def __init__(self, jars: Path, directory: Path, base_port: int) -> None:
        self._classpath = f"{jars}/*"
        self._directory = directory
        self._ports = {node: (base_port + 2 * node, base_port + 2 * node + 1) for node in (1, 2, 3)}
        self._processes: dict[int, asyncio.subprocess.Process] = {}

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port, _ in self._ports.values())

    @property
    def pids(self) -> dict[int, int]:
        return {node: process.pid for node, process in self._processes.items()}

    async def format(self) -> None:
        """What has to be done once for every node, and is no part of its start."""
        for node in self._ports:
            self._path(node).write_text(self._properties(node), encoding="utf-8")
            arguments = ("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(self._path(node)))
            process = await self._java(node, *arguments)
            if await process.wait():
                raise RuntimeError(f"node {node} cannot be formatted; see {self._directory}")

    async def start(self, *nodes: int) -> None:
        """All nodes, or these. They are not ready yet."""
        for node in nodes or self._ports:
            self._processes[node] = await self._java(node, "kafka.Kafka", str(self._path(node)))

    async def kill(self, node: int) -> None:
        """kill -9."""
        process = self._processes.pop(node)
        process.kill()
        await process.wait()

    async def stop(self) -> None:
        """All of them; who does not stop in time is killed."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _java(self, node: int, *arguments: str) -> asyncio.subprocess.Process:
        with (self._directory / f"node-{node}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *JAVA, "-cp", self._classpath, *arguments, stdout=log, stderr=log
            )

    def _path(self, node: int) -> Path:
        return self._directory / f"node-{node}.properties"

    def _properties(self, node: int) -> str:
        port, controller = self._ports[node]
        voters = ",".join(f"{each}@127.0.0.1:{ports[1]}" for each, ports in self._ports.items())
        return f"""\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={self._directory}/data-{node}
min.insync.replicas=2
"""
