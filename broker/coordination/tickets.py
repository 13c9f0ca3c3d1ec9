"""Requests that are answered by a later event: by other members of a group, or when a write is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from kio.schema.errors import ErrorCode

Ticket: TypeAlias = int
"""The number of a request that is to be answered later."""
A = TypeVar("A")


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[A]):
    future: asyncio.Future[A]
    refuse: Callable[[ErrorCode], A]


class Tickets(Generic[A]):
    """Open requests by number. A client that goes away takes its ticket along; what it asked for stays."""

    def __init__(self) -> None:
        self._waiting: dict[Ticket, _Waiting[A]] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self, refuse: Callable[[ErrorCode], A]) -> tuple[Ticket, asyncio.Future[A]]:
        """A new ticket. `refuse` makes the answer when the coordinator can give no better one."""
        self._last = ticket = self._last + 1
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = _Waiting(future, refuse)
        future.add_done_callback(lambda _: self._waiting.pop(ticket, None))
        return ticket, future

    def answer(self, ticket: Ticket, answer: A) -> None:
        """Does nothing for a ticket that nobody waits for any more."""
        waiting = self._waiting.pop(ticket, None)
        if waiting is not None and not waiting.future.done():
            waiting.future.set_result(answer)

    def refuse_all(self, error: ErrorCode) -> None:
        for ticket, waiting in tuple(self._waiting.items()):
            self.answer(ticket, waiting.refuse(error))
