"""Machines and the processes on them, as the loop and the network see them."""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ottla.simulation.network import Listener
    from ottla.simulation.socket import Socket


class Standing(enum.Enum):
    RUNNING = "running"
    PAUSED = "paused"
    DEAD = "dead"


# As many tasks are kept before those that are done are let go.
_TIDY_FROM = 64
DISK_DELAY = (0.0001, 0.002)


class Machine:
    """Something with an address. Without power it is silent: it neither answers nor refuses.

    `disk_delay` is the range in seconds that blocking work (run_in_executor) takes here.
    """

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.powered = True
        self.disk_delay = DISK_DELAY
        self._port = 32767

    def __repr__(self) -> str:
        return f"<Machine {self.name}>"

    def ephemeral_port(self) -> int:
        self._port = self._port + 1 if self._port < 60999 else 32768
        return self._port


class Process:
    """A process: callbacks that wait for their turn in the order in which asyncio promises to run them.

    Every callback belongs to the process in whose context it was scheduled, so that a process can be stopped between
    two of them and never runs again once it is dead. What it awaits is kept: a coroutine that is collected runs its
    `finally` clauses, and a dead process must not.
    """

    def __init__(self, name: str, machine: Machine) -> None:
        self.name = name
        self.machine = machine
        self.standing = Standing.RUNNING
        self.ready: deque[asyncio.Handle] = deque()
        # What the next iteration will find besides: sockets and threads that are ready, and timers.
        self.noticed: list[asyncio.Handle] = []
        self.due: list[asyncio.Handle] = []
        self.queued = False
        # What looks after each of its callbacks, and who has said so (the loop's `watch`).
        self.look: Callable[[], None] | None = None
        self.watched_by: object = None
        self.sockets: dict[Socket, None] = {}
        self.listeners: dict[Listener, None] = {}
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._tidy_at = _TIDY_FROM

    def __repr__(self) -> str:
        return f"<Process {self.name} {self.standing.value}>"

    @property
    def dead(self) -> bool:
        return self.standing is Standing.DEAD

    @property
    def has_work(self) -> bool:
        return bool(self.ready or self.noticed or self.due)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        self._tasks[task] = None
        if len(self._tasks) > self._tidy_at:
            self.tidy()

    def tidy(self) -> None:
        """Let go of tasks that are done: the loop then hears of errors that nobody has asked for."""
        self._tasks = {each: None for each in self._tasks if not each.done()}
        self._tidy_at = 2 * len(self._tasks) + _TIDY_FROM

    def die(self) -> None:
        """Nothing of it runs any more. Called by the loop."""
        self.standing = Standing.DEAD
        self.ready.clear()
        self.noticed.clear()
        self.due.clear()

    def bury(self) -> None:
        """Take what is left of its coroutines apart. Only when nothing in the simulation can be reached any more."""
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if not task.done():
                _close(task.get_coro())
        self._tasks.clear()


def _close(coroutine: Any) -> None:
    # A `finally` that awaits makes close() raise and the coroutine go on; each call gets past one of them.
    for _ in range(100):
        try:
            coroutine.close()
        except BaseException:  # noqa: BLE001  the world of this code is gone: whatever it trips over is expected
            continue
        return


OWNER: ContextVar[Process] = ContextVar("ottla_simulation_owner")
"""The process that the running callback belongs to; unset for the network, the disk and whoever runs the simulation."""
