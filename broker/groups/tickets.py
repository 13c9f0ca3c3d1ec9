"""Requests that are answered by a later event: JoinGroup and SyncGroup wait for other members, or for a write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from kio.schema.errors import ErrorCode

from ottla.broker.groups.classic import Answer, Ticket


class _Waiting(NamedTuple):
    future: asyncio.Future[Answer]
    refuse: Callable[[ErrorCode], Answer]


class Tickets:
    """Open requests by number. A client that goes away takes its ticket along; the member that it was stays."""

    def __init__(self) -> None:
        self._waiting: dict[Ticket, _Waiting] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self, refuse: Callable[[ErrorCode], Answer]) -> tuple[Ticket, asyncio.Future[Answer]]:
        """A new ticket. `refuse` makes the answer when the coordinator can give no better one."""
        self._last = ticket = self._last + 1
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = _Waiting(future, refuse)
        future.add_done_callback(lambda _: self._waiting.pop(ticket, None))
        return ticket, future

    def answer(self, ticket: Ticket, answer: Answer) -> None:
        """Does nothing for a ticket that nobody waits for any more."""
        waiting = self._waiting.pop(ticket, None)
        if waiting is not None and not waiting.future.done():
            waiting.future.set_result(answer)

    def refuse_all(self, error: ErrorCode) -> None:
        for ticket, waiting in tuple(self._waiting.items()):
            self.answer(ticket, waiting.refuse(error))
