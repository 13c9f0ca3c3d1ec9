"""Group commit: one fsync answers for everybody who waited for it. The one place where disk work leaves the loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Protocol, TypeVar

from ottla.log.errors import LogError

T = TypeVar("T")


class Syncable(Protocol):
    """What GroupCommit needs of a log. `flush` blocks and returns the new recovery point."""

    @property
    def recovery_point(self) -> int: ...

    @property
    def log_end_offset(self) -> int: ...

    def flush(self) -> int: ...


class Truncated(LogError):
    """The offset waited for was truncated away before it was synced: it was never promised."""


class _Queue:
    __slots__ = ("running", "waiters")

    def __init__(self) -> None:
        self.waiters: list[tuple[int, asyncio.Future[None]]] = []
        self.running: asyncio.Task[None] | None = None


class GroupCommit:
    """Syncs logs in an executor, one flush per log at a time, as many logs side by side as the executor has threads.

    A waiter that comes while a flush runs is answered by the next one, which covers all that came in between. With a
    simulated loop the executor may be None: `loop.run_in_executor` is then the loop's own affair.
    """

    def __init__(self, executor: Executor | None = None) -> None:
        self._executor = executor
        self._queues: dict[Syncable, _Queue] = {}

    async def run_blocking(self, function: Callable[[], T]) -> T:
        """Run `function` in the executor, in this context, and return its result or raise its error."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._executor, context.run, function)

    def synced(self, log: Syncable, offset: int) -> asyncio.Future[None]:
        """A future, done once everything below `offset` is durable in `log`.

        Raises (from the future) DiskError or LogOffline when the sync failed, Truncated when the log was cut below
        `offset` meanwhile.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if log.recovery_point >= offset:
            future.set_result(None)
            return future
        queue = self._queues.get(log)
        if queue is None:
            queue = self._queues[log] = _Queue()
        queue.waiters.append((offset, future))
        if queue.running is None:
            queue.running = asyncio.get_running_loop().create_task(self._drain(log, queue))
        return future

    async def _drain(self, log: Syncable, queue: _Queue) -> None:
        """Flush until nobody waits. The log is forgotten afterwards, so that a deleted log leaves nothing behind."""
        try:
            while queue.waiters:
                try:
                    await self.run_blocking(log.flush)
                except (LogError, OSError) as error:
                    self._fail(queue, error)
                    return
                self._answer(log, queue)
        except BaseException as error:
            # A cancelled or broken drain must not leave its waiters hanging for ever.
            self._fail(queue, error if isinstance(error, Exception) else LogError("group commit stopped"))
            raise
        finally:
            del self._queues[log]

    @staticmethod
    def _answer(log: Syncable, queue: _Queue) -> None:
        done, end = log.recovery_point, log.log_end_offset
        waiting = []
        for offset, future in queue.waiters:
            if future.done():
                continue
            if offset <= done:
                future.set_result(None)
            elif offset > end:
                future.set_exception(Truncated(f"offset {offset} is above the log end {end}"))
            else:
                waiting.append((offset, future))
        queue.waiters = waiting

    @staticmethod
    def _fail(queue: _Queue, error: Exception) -> None:
        waiters, queue.waiters = queue.waiters, []
        for _, future in waiters:
            if not future.done():
                future.set_exception(error)
