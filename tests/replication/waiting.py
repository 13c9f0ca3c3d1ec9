"""Waits of requests as Futures."""

import asyncio
from collections.abc import Mapping

from kio.schema.errors import ErrorCode

from ottla.broker.replication import FetchWait, ProduceWait


def errors_of(wait: ProduceWait, timeout_s: float) -> asyncio.Future[Mapping[int, ErrorCode]]:
    """Begin to wait. The Future has the errors, by slot."""
    future: asyncio.Future[Mapping[int, ErrorCode]] = asyncio.get_running_loop().create_future()
    wait.start(timeout_s, future.set_result)
    return future


def over(wait: FetchWait) -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    wait.then(lambda: future.set_result(None))
    return future
