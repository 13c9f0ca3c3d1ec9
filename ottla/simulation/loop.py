"""An event loop in virtual time: nothing waits, time jumps to the next timer, and every choice comes from a seed.

Within a process callbacks run in the order that asyncio promises; which process is next is drawn. Production code may
rely on the first and must not depend on the second.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import heapq
import random
import socket
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from ottla.simulation.errors import Deadlock
from ottla.simulation.process import OWNER, Machine, Process, Standing

if TYPE_CHECKING:
    from ottla.simulation.network import Network, SimulatedServer

T = TypeVar("T")

START = 1000.0
# What one callback takes. It is not nothing, so that a loop without a pause cannot hold the clock still for ever.
TICK = 1e-6
# Garbage is collected at these times, in seconds, never by chance: a collected object may act.
COLLECT_EVERY = 20.0
_COMPACT_FROM = 512

Timer = tuple[float, int, Process, asyncio.TimerHandle]


class SimulatedLoop(asyncio.BaseEventLoop):
    """`home` is the process of whoever runs the simulation. `network` has to be set before anything connects.

    There are no file descriptors, signals, subprocesses or threads: what needs them raises NotImplementedError.
    """

    network: Network

    def __init__(self, rng: random.Random, home: Machine) -> None:
        self._running = self._stop = False
        super().__init__()
        self.set_debug(False)
        self._rng = rng
        self.home = Process("home", home)
        self.processes: list[Process] = [self.home]
        self.current = self.home
        self.callbacks = 0
        self._now = START
        self._timers: list[Timer] = []
        self._serial = 0
        self._cancelled = 0
        self._collect_at = START
        self._runnable: list[Process] = []
        self.outside = Context()

    # -- processes

    def spawn(self, name: str, machine: Machine) -> tuple[Process, Context]:
        """A new process and the context in which its first callback has to be scheduled."""
        process = Process(name, machine)
        self.processes.append(process)
        context = Context()
        context.run(OWNER.set, process)
        return process, context

    def owner(self) -> Process:
        """The process that is running now."""
        return OWNER.get(self.home)

    def kill(self, process: Process) -> None:
        """No callback of this process runs any more. Its connections are the network's affair."""
        process.die()

    def pause(self, process: Process) -> None:
        if process.standing is Standing.RUNNING:
            process.standing = Standing.PAUSED

    def resume(self, process: Process) -> None:
        if process.standing is Standing.PAUSED:
            process.standing = Standing.RUNNING
            self._enqueue(process)

    def _enqueue(self, process: Process) -> None:
        if process.ready and not process.queued and process.standing is Standing.RUNNING:
            process.queued = True
            self._runnable.append(process)

    # -- scheduling

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if context is None:
            context = contextvars.copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        process = context.get(OWNER, self.home)
        if process.standing is not Standing.DEAD:
            process.ready.append(handle)
            if not process.queued:
                self._enqueue(process)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if context is None:
            context = contextvars.copy_context()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        handle._scheduled = True  # type: ignore[attr-defined]
        process = context.get(OWNER, self.home)
        if process.standing is not Standing.DEAD:
            self._serial += 1
            heapq.heappush(self._timers, (when, self._serial, process, handle))
        return handle

    def _timer_handle_cancelled(self, _handle: asyncio.TimerHandle) -> None:
        self._cancelled += 1
        if self._cancelled > _COMPACT_FROM and self._cancelled * 2 > len(self._timers):
            self._timers = [timer for timer in self._timers if not (timer[3].cancelled() or timer[2].dead)]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = super().create_task(coro, **options)
        context = options.get("context")
        (self.owner() if context is None else context.get(OWNER, self.home)).adopt(task)
        return task

    # -- running

    def run_forever(self) -> None:
        self._running = True
        asyncio.events._set_running_loop(self)
        try:
            while not self._stop:
                self._turn()
        finally:
            self._running = self._stop = False
            asyncio.events._set_running_loop(None)

    def stop(self) -> None:
        self._stop = True

    def is_running(self) -> bool:
        return self._running

    def close(self) -> None:
        super().close()
        self._timers.clear()
        self._runnable.clear()

    def _turn(self) -> None:
        """Run what is ready of one process, or move time to where something is."""
        self._fire(self._now)
        runnable = self._runnable
        if not runnable:
            while self._timers and (self._timers[0][3].cancelled() or self._timers[0][2].dead):
                heapq.heappop(self._timers)
            if not self._timers:
                raise Deadlock("nothing is left that could ever happen")
            self._now = max(self._now, self._timers[0][0])
            if self._now >= self._collect_at:
                self._collect_at = self._now + COLLECT_EVERY
                gc.collect()
            return
        at = self._rng.randrange(len(runnable)) if len(runnable) > 1 else 0
        runnable[at], runnable[-1] = runnable[-1], runnable[at]
        process = runnable.pop()
        process.queued = False
        self.current = process
        ready = process.ready
        for _ in range(len(ready)):
            if process.standing is not Standing.RUNNING or not ready:
                break
            handle = ready.popleft()
            if not handle.cancelled():
                self._now += TICK
                self.callbacks += 1
                handle._run()
        self._enqueue(process)

    def _fire(self, until: float) -> None:
        timers = self._timers
        while timers and timers[0][0] <= until:
            _, _, process, handle = heapq.heappop(timers)
            if process.standing is not Standing.DEAD and not handle.cancelled():
                # A later cancellation must not be counted: the timer is not in the heap any more.
                handle._scheduled = False  # type: ignore[attr-defined]
                process.ready.append(handle)
                if not process.queued:
                    self._enqueue(process)

    # -- what asyncio does with threads and sockets

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """The function runs in one piece as a later callback of the same process."""
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001  whatever it is, it is the caller's
                if not future.cancelled():
                    future.set_exception(error)
            else:
                if not future.cancelled():
                    future.set_result(result)

        self.call_later(self._rng.uniform(*self.owner().machine.disk_delay), work)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""

    async def getaddrinfo(  # type: ignore[override]
        self, host: str | None, port: int | str | None, **_options: Any
    ) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        address = self.network.resolve(host or self.owner().machine.name)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, int(port or 0)))]

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int = 0,
        *,
        ssl: object = None,
        backlog: int = 100,
        **_options: Any,
    ) -> SimulatedServer:
        if ssl is not None:
            raise NotImplementedError("TLS is not simulated")
        return self.network.listen(self.owner(), protocol_factory, host, port, backlog)

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        *,
        ssl: object = None,
        sock: object = None,
        **_options: Any,
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        if ssl is not None or sock is not None or host is None or port is None:
            raise NotImplementedError("only host and port are simulated, without TLS")
        return await self.network.connect(self.owner(), protocol_factory, host, port)
