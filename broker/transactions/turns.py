"""Whose turn it is: requests for one transactional id are decided one after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from kio.schema.errors import ErrorCode

from ottla.broker.transactions.model import NO_PRODUCER, Decision, Producer, Transaction

MAX_WAITING: Final = 1000
"""Requests of one id that wait for its record; and for its markers."""
PATIENCE_S: Final = 0.05
"""How long requests wait for the markers of the last transaction, counted from its end, before their producer has to
ask again. Markers take a few milliseconds, and a client's backoff many; what is stuck holds nobody up for long."""

Decide = Callable[[Transaction | None, int | None], Decision]
"""From the committed state, and a new producer id if one was asked for."""


class Outcome(NamedTuple):
    """The answer to a request. `producer` is NO_PRODUCER where there is none to tell."""

    error: ErrorCode
    producer: Producer = NO_PRODUCER


@dataclass(slots=True, eq=False)
class Turn:
    """A request. Whoever asked may be gone, and its future cancelled."""

    decide: Decide
    future: asyncio.Future[Outcome]

    def settle(self, outcome: Outcome) -> None:
        if not self.future.done():
            self.future.set_result(outcome)


@dataclass(slots=True, eq=False)
class Line:
    """An id whose requests stand in line. `waiting`: for a record or a producer id. `refused` is why nobody waits for
    the record any more."""

    turns: deque[Turn] = field(default_factory=deque)
    waiting: bool = False
    running: bool = False
    refused: ErrorCode | None = None


@dataclass(slots=True, eq=False)
class _Prepared:
    """An id whose partitions are being told. `turns` wait for the end of that, at most until `until`."""

    until: float
    turns: deque[Turn] = field(default_factory=deque)


class Turns:
    """By id. `take` decides a turn, and sets `waiting` of its line when the next one has to wait for what comes of it;
    `go_on` is to be called when that is over."""

    def __init__(self, take: Callable[[str, Line, Turn], None]) -> None:
        self._take = take
        self._lines: dict[str, Line] = {}
        self._prepared: dict[str, _Prepared] = {}

    def line_up(self, transactional_id: str, turns: Iterable[Turn]) -> None:
        line = self._lines.get(transactional_id)
        if line is None:
            line = self._lines[transactional_id] = Line()
        for turn in turns:
            if line.refused is not None or len(line.turns) >= MAX_WAITING:
                turn.settle(Outcome(ErrorCode.coordinator_not_available))
            else:
                line.turns.append(turn)
        self.go_on(transactional_id, line)

    def go_on(self, transactional_id: str, line: Line) -> None:
        """Take the turns that need not wait. Nothing happens when that is being done already, further up the stack."""
        if line.running:
            return
        line.running = True
        while line.turns and not line.waiting:
            turn = line.turns.popleft()
            if not turn.future.done():
                self._take(transactional_id, line, turn)
        line.running = False
        if not line.waiting:
            self._lines.pop(transactional_id, None)

    # While the partitions are being told

    def prepared(self, transactional_id: str, now_s: float) -> None:
        """From now on requests may wait for the end of that, for a moment."""
        self._prepared[transactional_id] = _Prepared(now_s + PATIENCE_S)

    def completed(self, transactional_id: str) -> None:
        """It is over: who waited for it is next, in a turn of the loop of its own."""
        prepared = self._prepared.pop(transactional_id, None)
        if prepared is not None and prepared.turns:
            asyncio.get_running_loop().call_soon(self.line_up, transactional_id, prepared.turns)

    def wait(self, transactional_id: str, turn: Turn, now_s: float) -> float | None:
        """Let it wait for that, if it may be over soon: until when at most. None: it may not wait."""
        prepared = self._prepared.get(transactional_id)
        if prepared is None or now_s >= prepared.until or len(prepared.turns) >= MAX_WAITING:
            return None
        prepared.turns.append(turn)
        return prepared.until

    def time(self, transactional_id: str, now_s: float) -> None:
        """Who has waited long enough is sent away."""
        prepared = self._prepared.get(transactional_id)
        if prepared is not None and now_s >= prepared.until:
            self._send_away(prepared, ErrorCode.concurrent_transactions)

    def lost(self) -> None:
        """Another broker coordinates. (Who waits for a record is told by whoever writes it.)"""
        for prepared in self._prepared.values():
            self._send_away(prepared, ErrorCode.not_coordinator)
        self._prepared.clear()

    @staticmethod
    def _send_away(prepared: _Prepared, error: ErrorCode) -> None:
        while prepared.turns:
            prepared.turns.popleft().settle(Outcome(error))
