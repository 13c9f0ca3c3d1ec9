"""An event loop in virtual time: nothing waits, time jumps to the next timer, and every choice comes from a seed.

Within a process callbacks run in the order that asyncio promises: first come, first served, timers by their deadlines.
What a real loop leaves open is drawn: which process is next, the order of timers with equal deadlines, and the order in
which sockets and threads that are ready together are noticed. Production code may rely on the first and must not
depend on the second. As in a real loop, a process notices sockets and threads before timers, once per iteration.
"""

from __future__ import annotations

import asyncio
import gc
import random
import socket
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, TypeVar

from ottla.simulation.errors import Deadlock
from ottla.simulation.handles import SimulatedHandle, SimulatedTimer
from ottla.simulation.process import OWNER, Machine, Process, Standing

if TYPE_CHECKING:
    from ottla.simulation.network import Network, SimulatedServer

T = TypeVar("T")

START = 1000.0
# What one callback takes. It is not nothing, so that a loop without a pause cannot hold the clock still for ever.
TICK = 1e-6
# Garbage is collected at these times, in seconds, never by chance: a collected object may act.
COLLECT_EVERY = 120.0
_COMPACT_FROM = 512
_RUNNING, _DEAD = Standing.RUNNING, Standing.DEAD

# Deadline, a draw between equal ones, a number that makes it unique; a process and what it runs, or an event of nobody.
Timer = tuple[float, float, int, Process | None, Any]


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
        # Says what is to be called after each callback of a process, if anything; what that raises ends the run.
        self.watch: Callable[[Process], Callable[[], None] | None] | None = None
        self._now = START
        self._timers: list[Timer] = []
        self._serial = 0
        self.cancelled = 0  # of those timers, about
        self._collect_at = START + COLLECT_EVERY
        self._runnable: list[Process] = []
        self._draw = rng.random

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
            if process.has_work and not process.queued:
                process.queued = True
                self._runnable.append(process)

    # -- scheduling

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if context is None:
            context, process = copy_context(), OWNER.get(self.home)
        else:
            process = context.get(OWNER, self.home)
        handle = SimulatedHandle(callback, args, self, context)
        standing = process.standing
        if standing is not _DEAD:
            process.ready.append(handle)
            if standing is _RUNNING and not process.queued:
                process.queued = True
                self._runnable.append(process)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if context is None:
            context, process = copy_context(), OWNER.get(self.home)
        else:
            process = context.get(OWNER, self.home)
        handle = SimulatedTimer(when, callback, args, self, context)
        if process.standing is not _DEAD:
            handle._scheduled = True
            self._serial += 1
            heappush(self._timers, (when, self._draw(), self._serial, process, handle))
        return handle

    def at(self, when: float, event: Callable[..., object], *args: Any) -> None:
        """Something that no process does: it happens at that time, between two turns of processes."""
        self._serial += 1
        heappush(self._timers, (when, self._draw(), self._serial, None, partial(event, *args) if args else event))

    def notice(self, process: Process, handle: asyncio.Handle) -> None:
        """A socket or thread of the process is ready: it runs this once it looks, in its next iteration. The handle may
        be used again once it has run."""
        standing = process.standing
        if standing is not _DEAD:
            process.noticed.append(handle)
            if standing is _RUNNING and not process.queued:
                process.queued = True
                self._runnable.append(process)

    def _forget_cancelled(self) -> None:
        """Timers that were cancelled stay where they are until they are due, or until they are most of all."""
        timers = self._timers
        if self.cancelled * 2 > len(timers):
            timers[:] = [timer for timer in timers if timer[3] is None or not (timer[4]._cancelled or timer[3].dead)]
            heapify(timers)
            self.cancelled = 0

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
            self._run()
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

    def _run(self) -> None:
        """Turns of processes, as long as there are any; else time moves to the next timer."""
        timers, runnable, draw = self._timers, self._runnable, self._draw
        while not self._stop:
            if not runnable:
                if not timers:
                    raise Deadlock("nothing is left that could ever happen")
                if timers[0][0] > self._now:
                    self._now = timers[0][0]
                self._fire()
                continue
            if timers and timers[0][0] <= self._now:
                self._fire()
            process = runnable.pop()
            if runnable:
                others = len(runnable)
                at = int(draw() * (others + 1))
                if at < others:
                    runnable[at], process = process, runnable[at]
            self._turn(process)

    def _turn(self, process: Process) -> None:
        """One iteration of a process: what was ready, then sockets and threads, then timers that are due."""
        if process.standing is not _RUNNING:
            process.queued = False
            return
        self.current = process
        if process.watched_by is not self.watch:
            process.watched_by = self.watch
            process.look = None if self.watch is None else self.watch(process)
        ready, noticed, due, look = process.ready, process.noticed, process.due, process.look
        if noticed:
            if len(noticed) > 1:
                self._rng.shuffle(noticed)
            ready += noticed
            noticed.clear()
        if due:
            ready += due
            due.clear()
        for _ in range(len(ready)):
            handle: Any = ready.popleft()
            if handle._cancelled:
                continue
            self._now += TICK
            self.callbacks += 1
            try:
                handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001  as asyncio: it goes to the handler, and the loop goes on
                self._failed(handle, error)
            if look is not None:
                look()
            if process.standing is not _RUNNING:
                break
        # It counted as queued so far, so that what it scheduled has not queued it.
        if (ready or noticed or due) and process.standing is _RUNNING:
            self._runnable.append(process)
        else:
            process.queued = False

    def _failed(self, handle: asyncio.Handle, error: BaseException) -> None:
        self.call_exception_handler(
            {"message": f"Exception in callback {handle!r}", "exception": error, "handle": handle}
        )

    def _fire(self) -> None:
        """What is due by now: events happen, timers of processes wait for their turn."""
        timers, now = self._timers, self._now
        if now >= self._collect_at:
            self._collect_at = now + COLLECT_EVERY
            gc.collect()
        if self.cancelled > _COMPACT_FROM:
            self._forget_cancelled()
        while timers and timers[0][0] <= now:
            _, _, _, process, what = heappop(timers)
            if process is None:
                what()
                continue
            what._scheduled = False
            if what._cancelled:
                self.cancelled -= 1
            elif process.standing is not _DEAD:
                process.due.append(what)
                if not process.queued and process.standing is _RUNNING:
                    process.queued = True
                    self._runnable.append(process)

    # -- what asyncio does with threads and sockets

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """The function runs in one piece as a later callback of the same process."""
        future: asyncio.Future[T] = self.create_future()
        process, context = self.owner(), copy_context()

        def work() -> None:
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001  whatever it is, it is the caller's
                if not future.cancelled():
                    future.set_exception(error)
            else:
                if not future.cancelled():
                    future.set_result(result)

        done = SimulatedHandle(work, (), self, context)
        self.at(self._now + self._rng.uniform(*process.machine.disk_delay), self.notice, process, done)
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
