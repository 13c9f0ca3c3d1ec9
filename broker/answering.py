"""Answers that come with a later event, without a task for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
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


def together(all_of: Sequence[asyncio.Future[A]]) -> asyncio.Future[list[A]]:
    """A future for the results of one or more futures, in order. Cancelling it cancels them; a failure is its own."""
    answer: asyncio.Future[list[A]] = all_of[0].get_loop().create_future()
    left = len(all_of)

    def came(done: asyncio.Future[A]) -> None:
        nonlocal left
        left -= 1
        if answer.done():
            return
        if done.cancelled():
            answer.cancel()
        elif (error := done.exception()) is not None:
            answer.set_exception(error)
        elif left == 0:
            answer.set_result([each.result() for each in all_of])

    def given_up(done: asyncio.Future[list[A]]) -> None:
        if done.cancelled():
            for each in all_of:
                each.cancel()

    for each in all_of:
        each.add_done_callback(came)
    answer.add_done_callback(given_up)
    return answer
