"""One node as an operating-system process: start, stop, kill -9, pause, resume, and word of its readiness or end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from ottla.cluster.layout import NodePlan

FORK_S = 30.0


class NodeFailed(Exception):
    """The node process ended before it was ready; the text holds the last lines that it wrote."""


class NodeState(Enum):
    """What is known of a node's process."""

    DOWN = "down"
    STARTING = "starting"
    READY = "ready"
    PAUSED = "paused"


class Nursery:
    """The way to the process that forks nodes (see ``ottla.cluster.nursery``), which is started when first needed."""

    def __init__(self) -> None:
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = asyncio.Lock()

    async def fork(self, plan: NodePlan, ready_out: int) -> int:
        """The process id of a new node that reports to the pipe ``ready_out``. Raises NodeFailed."""
        async with self._turn:
            channel = self._channel or self._open()
            order = {"config": str(plan.config_file), "log": str(plan.log_file), "name": f"ottla-node-{plan.id}"}
            try:
                socket.send_fds(channel, [json.dumps(order).encode()], [ready_out])
                async with asyncio.timeout(FORK_S):
                    answer = await asyncio.get_running_loop().sock_recv(channel, 1024)
                return int(json.loads(answer)["pid"])
            except (OSError, ValueError, TimeoutError) as error:
                self.close()
                raise NodeFailed(f"no process could be started for node {plan.id}: {error!r}") from error

    def _open(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ottla.cluster.nursery", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        ours.setblocking(False)
        self._channel = ours
        return ours

    def close(self) -> None:
        """Let the nursery end. Nodes that it has forked go on."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            self._process.wait()
            self._process = None


class NodeProcess:
    """A node that runs as a process.

    ``on_change`` is called whenever the state or the process id changes, also when the process dies by itself.
    """

    def __init__(self, plan: NodePlan, nursery: Nursery, on_change: Callable[[NodeProcess], None]) -> None:
        self.plan = plan
        self.state = NodeState.DOWN
        self.pid: int | None = None
        self._nursery = nursery
        self._on_change = on_change
        self._descriptor = -1
        self._gone: asyncio.Event = asyncio.Event()
        self._gone.set()

    async def start(self, *, ready_within: float = 30.0) -> None:
        """Start the process and wait until it says that it is ready.

        Raises:
            NodeFailed: the process ended first, or was not ready within ``ready_within`` seconds.
        """
        if self.state is not NodeState.DOWN:
            return
        self.state = NodeState.STARTING
        ready_in, ready_out = os.pipe()
        try:
            pid = await self._nursery.fork(self.plan, ready_out)
        except BaseException:
            os.close(ready_in)
            self.state = NodeState.DOWN
            raise
        finally:
            os.close(ready_out)
        self._begin(pid)
        await self._wait_ready(ready_in, ready_within)

    def _begin(self, pid: int) -> None:
        try:
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._become(NodeState.DOWN)
            return
        self.pid = pid
        self._gone.clear()
        asyncio.get_running_loop().add_reader(self._descriptor, self._ended)
        self._become(NodeState.STARTING)

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
        await self._gone.wait()

    def _signal(self, number: signal.Signals) -> bool:
        if self._descriptor < 0:
            return False
        try:
            # Through the descriptor, so that a process id which the system gave to another is never hit.
            signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError:
            return False
        return True

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        self.pid = None
        self._become(NodeState.DOWN)
        self._gone.set()

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
