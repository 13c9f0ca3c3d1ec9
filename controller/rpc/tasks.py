"""Background tasks whose death is never silent."""

import asyncio
from collections.abc import Coroutine, Iterable


def _surface(task: asyncio.Task[None]) -> None:
    # Raising in a callback brings the failure to the loop's exception handler now, not when the task is collected.
    if not task.cancelled():
        task.result()


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
