"""Whether this broker still led a shard's partition when it was asked, before it answers for what stands there."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final, Protocol

from kio.schema.errors import ErrorCode

from ottla.broker.coordination.shard_log import Done

MAX_ASKING: Final = 100_000


class Confirmable(Protocol):
    """The part of `ShardLog` that is needed."""

    @property
    def alone(self) -> bool: ...
    def mark(self, done: Done) -> None: ...


class Confirmations:
    """A leader that was replaced may not know it yet: it would tell what was committed long ago, after its successor
    has told more.

    So a mark is written to the log, as a batch without records. Once it is committed whoever could have been elected
    before the question has followed this leader after it. All who ask while a mark is under way share the next one.
    Raft reads in the same way (section 8 of its paper), though it needs no mark: there an answer to a heartbeat says
    it, and here a fetch could have been on its way since before an election.
    """

    def __init__(self, log: Confirmable) -> None:
        self._log = log
        self._asking: list[asyncio.Future[bool]] = []
        self._marking = False

    def ask(self) -> asyncio.Future[bool]:
        """True when this broker led at a moment after the call; False when that is not known, though it may have."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self._log.alone:
            answer.set_result(True)
        elif len(self._asking) >= MAX_ASKING:
            answer.set_result(False)
        else:
            self._asking.append(answer)
            if not self._marking:
                self._mark()
        return answer

    def _mark(self) -> None:
        asking, self._asking = self._asking, []
        self._marking = True
        self._log.mark(partial(self._marked, asking))

    def _marked(self, asking: list[asyncio.Future[bool]], error: ErrorCode) -> None:
        self._marking = False
        for answer in asking:
            if not answer.done():
                answer.set_result(error is ErrorCode.none)
        if self._asking:
            self._mark()
