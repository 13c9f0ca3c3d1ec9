"""Answers that come with a later event, without a task for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def then(first: asyncio.Future[A], convert: Callable[[A], B]) -> asyncio.Future[B]:
    """A future for `convert` of what `first` gives. Cancelling it (the client has gone) cancels `first`."""
    answer: asyncio.Future[B] = first.get_loop().create_future()

    def came(done: asyncio.Future[A]) -> None:
        if answer.done():
            return
        if done.cancelled():
            answer.cancel()
            return
        try:
            answer.set_result(convert(done.result()))
        except Exception as error:  # noqa: BLE001 - handed on to whoever awaits the answer
            answer.set_exception(error)

    def given_up(done: asyncio.Future[B]) -> None:
        if done.cancelled():
            first.cancel()

    first.add_done_callback(came)
    answer.add_done_callback(given_up)
    return answer
