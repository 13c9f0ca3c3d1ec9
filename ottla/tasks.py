"""Background tasks whose death is never silent."""

import asyncio
from collections.abc import Coroutine, Iterable

BROKEN = "broken"
"""In the context of the loop's exception handler: a part of this process has ended that must not."""


def _surface(task: asyncio.Task[None]) -> None:
    # Now, and not when the task is collected: whoever runs the loop decides what becomes of the process.
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": f"{task.get_name()} ended", "exception": error, "task": task, BROKEN: True}
        task.get_loop().call_exception_handler(context)


def report_broken(message: str, error: Exception) -> None:
    """Tell whoever runs the loop that an invariant does not hold, where what raised may be called by anybody."""
    context = {"message": message, "exception": error, BROKEN: True}
    asyncio.get_running_loop().call_exception_handler(context)


def start_task(work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
    """Run `work` in the background; an exception that ends it reaches the loop's exception handler at once."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(_surface)
    return task


async def stop_tasks(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel the tasks and wait until all have ended."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)
