"""Callers that wait for the Raft driver: proposals, read barriers, hand-overs; and what can become of them."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from ottla.controller.raft.config import Role
from ottla.controller.raft.errors import Refusal
from ottla.controller.raft.messages import Entry


class RaftStatus(NamedTuple):
    """``leading``: this node is the leader *and* has applied an entry of its own term, so that its state is current."""

    role: Role
    term: int
    leader_id: int | None
    leading: bool


class NotLeader(Exception):
    """Nothing was written. ``leader`` is who leads instead, if known."""

    def __init__(self, leader: int | None) -> None:
        super().__init__(f"not the leader; it is {leader}")
        self.leader = leader


class OutcomeUnknown(NotLeader):
    """Leadership was lost before the entry was committed here: it may or may not come to pass."""


class ChangeRefused(Exception):
    """The voters stay as they are, for this reason; nothing was written."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


class Overloaded(Exception):
    """Too much waits to be committed; nothing was written."""


class RaftStopped(Exception):
    """This node does not take part (any more)."""


class Waiters:
    def __init__(self) -> None:
        self._proposals: dict[int, tuple[int, asyncio.Future[int]]] = {}  # index -> (term, future), in index order
        self._barriers: dict[int, asyncio.Future[int]] = {}
        self._confirmed: deque[tuple[int, asyncio.Future[int]]] = deque()  # (index to apply, future), index order
        self._changes: dict[int, asyncio.Future[int]] = {}  # token -> a node that is to become a voter
        self._departures: list[asyncio.Future[None]] = []
        self._next_token = 0

    def proposal(self, index: int, term: int, loop: asyncio.AbstractEventLoop) -> asyncio.Future[int]:
        future: asyncio.Future[int] = loop.create_future()
        self._proposals[index] = (term, future)
        return future

    def change(self, loop: asyncio.AbstractEventLoop) -> tuple[int, asyncio.Future[int]]:
        self._next_token += 1
        future: asyncio.Future[int] = loop.create_future()
        self._changes[self._next_token] = future
        return self._next_token, future

    def forget_change(self, token: int) -> None:
        self._changes.pop(token, None)

    def changed(self, token: int, outcome: int | Refusal, term: int) -> None:
        """The entry of a change is in the log, and now waits to be committed, or never will be."""
        future = self._changes.pop(token, None)
        if future is None:
            return
        if not isinstance(outcome, Refusal):
            self._proposals[outcome] = (term, future)
        elif not future.done():
            future.set_exception(ChangeRefused(outcome))

    def barrier(self, loop: asyncio.AbstractEventLoop) -> tuple[int, asyncio.Future[int]]:
        self._next_token += 1
        future: asyncio.Future[int] = loop.create_future()
        self._barriers[self._next_token] = future
        return self._next_token, future

    def forget_barrier(self, token: int) -> None:
        self._barriers.pop(token, None)

    def confirm_barrier(self, token: int, index: int, applied: int) -> None:
        future = self._barriers.pop(token, None)
        if future is None:
            return
        if index <= applied:
            _resolve(future, applied)
        else:
            self._confirmed.append((index, future))

    def on_step_down(self, future: asyncio.Future[None]) -> None:
        self._departures.append(future)

    def applied(self, entries: Sequence[Entry]) -> None:
        """Only an entry of the proposal's term is the proposal: another leader may have taken its place."""
        for entry in entries:
            waiting = self._proposals.pop(entry.index, None)
            if waiting is None:
                continue
            term, future = waiting
            if term == entry.term:
                _resolve(future, entry.index)
            elif not future.done():
                future.set_exception(NotLeader(None))
        last = entries[-1].index
        while self._confirmed and self._confirmed[0][0] <= last:
            _resolve(self._confirmed.popleft()[1], last)

    def step_down(self, leader: int | None) -> None:
        self._fail(OutcomeUnknown(leader))
        for future in self._departures:
            if not future.done():
                future.set_result(None)
        self._departures.clear()

    def fail_all(self, kind: type[RaftStopped]) -> None:
        self._fail(kind("the Raft node has stopped"))

    def _fail(self, error: Exception) -> None:
        futures = [future for _, future in self._proposals.values()]
        futures += self._barriers.values()
        futures += self._changes.values()
        futures += [future for _, future in self._confirmed]
        self._proposals.clear()
        self._barriers.clear()
        self._changes.clear()
        self._confirmed.clear()
        for future in futures:
            if not future.done():
                future.set_exception(error)


def _resolve(future: asyncio.Future[int], value: int) -> None:
    if not future.done():
        future.set_result(value)
