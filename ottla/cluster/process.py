"""One node as an operating-system process: start, stop, kill -9, pause, resume, and word of its readiness or end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from ottla.cluster.layout import NodePlan


class NodeFailed(Exception):
    """The node process ended before it was ready; the text holds the last lines that it wrote."""


class NodeState(Enum):
    """What is known of a node's process."""

    DOWN = "down"
    STARTING = "starting"
    READY = "ready"
    PAUSED = "paused"


class NodeProcess:
    """A node that is run as a child process.

    ``on_change`` is called whenever the state or the process id changes, also when the process dies by itself.
    """

    def __init__(self, plan: NodePlan, on_change: Callable[[NodeProcess], None]) -> None:
        self.plan = plan
        self.state = NodeState.DOWN
        self._on_change = on_change
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while the process lives."""
        return self._process.pid if self._process is not None else None

    async def start(self, *, ready_within: float = 30.0) -> None:
        """Start the process and wait until it says that it is ready.

        Raises:
            NodeFailed: the process ended first, or was not ready within ``ready_within`` seconds.
        """
        if self._process is not None:
            return
        ready_in, ready_out = os.pipe()
        try:
            with self.plan.log_file.open("ab") as output:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "ottla.cli", "node"),
                    *("--config", str(self.plan.config_file), "--ready-fd", str(ready_out)),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(ready_out,),
                    # A Ctrl-C in the terminal is for the supervisor, which stops the nodes in its own order.
                    start_new_session=True,
                )
        except BaseException:
            os.close(ready_in)
            raise
        finally:
            os.close(ready_out)
        self._watcher = asyncio.create_task(self._watch(self._process), name=f"watch node {self.plan.id}")
        self._become(NodeState.STARTING)
        await self._wait_ready(ready_in, ready_within)

    async def _wait_ready(self, ready_in: int, ready_within: float) -> None:
        try:
            async with asyncio.timeout(ready_within):
                said = await _read_pipe(ready_in)
        except TimeoutError as error:
            raise NodeFailed(f"node {self.plan.id} was not ready within {ready_within:g} s\n{self._tail()}") from error
        if not said:
            await self.gone()
            raise NodeFailed(f"node {self.plan.id} ended before it was ready\n{self._tail()}")
        if self.state is NodeState.STARTING:
            self._become(NodeState.READY)

    def kill(self) -> None:
        """SIGKILL; the death itself is reported through ``on_change``."""
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: the process keeps its connections and says nothing."""
        if self._signal(signal.SIGSTOP):
            self._become(NodeState.PAUSED)

    def resume(self) -> None:
        """SIGCONT."""
        if self._signal(signal.SIGCONT) and self.state is NodeState.PAUSED:
            self._become(NodeState.READY)

    async def stop(self, *, within: float = 30.0) -> None:
        """SIGTERM and wait for the end; a node that has not ended after ``within`` seconds is killed."""
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(within):
                await self.gone()
        except TimeoutError:
            self.kill()
            await self.gone()

    async def gone(self) -> None:
        """Wait until the process has ended and was reported."""
        if self._watcher is not None:
            await asyncio.shield(self._watcher)

    def _signal(self, number: signal.Signals) -> bool:
        if self._process is None or self._process.returncode is not None:
            return False
        try:
            self._process.send_signal(number)
        except ProcessLookupError:
            return False
        return True

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        self._process = None
        self._become(NodeState.DOWN)

    def _become(self, state: NodeState) -> None:
        self.state = state
        self._on_change(self)

    def _tail(self, lines: int = 5) -> str:
        return tail(self.plan.log_file, lines)


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file, "" if there is none."""
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


async def _read_pipe(descriptor: int) -> bytes:
    """The first bytes that come through a pipe, b"" when it is closed without any; closes the descriptor."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    try:
        return await reader.read(16)
    finally:
        transport.close()


async def wait_for_exit(pid: int, within: float) -> bool:
    """Wait until a process that is not our child has ended; False if it has not within ``within`` seconds."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(within):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return True
