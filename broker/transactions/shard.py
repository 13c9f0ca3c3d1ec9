"""The transactional ids of one partition of `__transaction_state`, for as long as this broker leads it.

Requests are decided one after the other for each id, on its committed state only: while a record of the id is on its
way the next ones wait for it. When it is not committed in time nobody waits any longer, but nothing is decided either
before it is certain what became of it. So a fence whose record fails has burnt no epoch (KAFKA-9666).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.coordination import Appender, Codec, Confirmations, Place, ShardLog
from ottla.broker.replication import Partition
from ottla.broker.transactions.decisions import complete, expires_at, is_expired, time_out
from ottla.broker.transactions.markers import Pending
from ottla.broker.transactions.model import PREPARED, Decision, State, Transaction
from ottla.broker.transactions.records import Entry, decode, encode
from ottla.broker.transactions.table import BrokenTransition, TransactionTable
from ottla.broker.transactions.turns import Decide, Line, Outcome, Turn, Turns
from ottla.tasks import report_broken

log = structlog.get_logger(__name__)

RETRY_S: Final = 0.5
"""After which a record that could not be written is tried again."""
WRITE_TIMEOUT_S: Final = 5.0
"""The longest that a request waits for its record to be replicated."""
ROOM_BYTES: Final = 256
"""What the record of an ended transaction may need beyond that of one under way."""


class Host(Protocol):
    """What a shard needs of the coordinator."""

    @property
    def replicas(self) -> Appender: ...
    def now_s(self) -> float: ...
    def clock(self) -> int: ...
    def max_bytes(self) -> int: ...
    def version(self) -> int: ...
    def fresh_id(self, then: Callable[[int | None], None]) -> None: ...
    def send_markers(self, pending: Pending) -> None: ...
    def wake(self, shard: Shard, transactional_id: str, at: float) -> None: ...
    def shard_lost(self, shard: Shard) -> None: ...


class Shard:
    """`log.ready` once it serves. Every method is one step; what takes longer comes as a future."""

    def __init__(self, partition: Partition, host: Host) -> None:
        self.transactions = TransactionTable()
        self.failed = False
        self._host = host
        self._turns = Turns(self._take)
        self._marked: set[str] = set()
        self.log = ShardLog(
            partition,
            host.replicas,
            Codec(self._encode, decode),
            clock=host.clock,
            max_bytes=host.max_bytes,
            timeout_s=WRITE_TIMEOUT_S,
            replay=self._replay,
            ended=lambda _producer_id, _marker: None,  # nobody's transaction has a part in this topic
            loaded=self._loaded,
            lost=self._lost,
        )
        self.confirmations = Confirmations(self.log)

    # Log

    def _encode(self, entry: Entry) -> tuple[bytes, bytes | None]:
        return encode(entry, self._host.version())

    def _replay(self, entry: Entry, _place: Place) -> None:
        """The one place that changes what is known."""
        try:
            self.transactions.replay(entry)
        except BrokenTransition as error:
            report_broken("the log of transactions contradicts itself", error)
            raise
        if self.transactions.live and entry.value is not None:
            self._go_on(entry.id, entry.value)

    def _loaded(self) -> None:
        self.transactions.live = True
        for transactional_id, transaction in self.transactions:
            self._go_on(transactional_id, transaction)
        log.info(
            "transactions_loaded",
            partition=self.log.partition.index,
            leader_epoch=self.log.epoch,
            transactional_ids=len(self.transactions),
        )

    def _go_on(self, transactional_id: str, transaction: Transaction) -> None:
        """What has to happen by itself from this state on."""
        if transaction.state in PREPARED:
            self._turns.prepared(transactional_id, self._host.now_s())
            self._host.send_markers(Pending(transactional_id, transaction, self, self.log.epoch))
            return
        self._turns.completed(transactional_id)
        self._watch_time(transactional_id, transaction)

    def _watch_time(self, transactional_id: str, transaction: Transaction) -> None:
        deadline = expires_at(transaction)
        if deadline is not None:
            seconds = max(deadline - self._host.clock(), 0) / 1000
            self._host.wake(self, transactional_id, self._host.now_s() + seconds)

    def _lost(self) -> None:
        self._turns.lost()
        self._host.shard_lost(self)

    def close(self) -> None:
        self.log.close()

    # Requests

    def ask(self, transactional_id: str, decide: Decide) -> asyncio.Future[Outcome]:
        """Have it decided in its turn; the future says what became of it.

        Beside the error of the decision: NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE (not replicated in time, or no
        room), COORDINATOR_LOAD_IN_PROGRESS (no producer id), UNKNOWN_SERVER_ERROR (the record is too large).
        """
        turn = Turn(decide, asyncio.get_running_loop().create_future())
        self._turns.line_up(transactional_id, (turn,))
        return turn.future

    def _take(self, transactional_id: str, line: Line, turn: Turn, fresh: int | None = None) -> None:
        if not self.log.leads or not self.log.ready:
            turn.settle(Outcome(ErrorCode.not_coordinator))
            return
        decision = turn.decide(self.transactions.get(transactional_id), fresh)
        if decision.needs_id:
            line.waiting = True
            self._host.fresh_id(partial(self._got_id, transactional_id, line, turn))
        elif decision.record is None and not decision.forget:
            if decision.error is not ErrorCode.concurrent_transactions or not self._wait(transactional_id, turn):
                turn.settle(Outcome(decision.error, decision.producer))
        else:
            self._write(transactional_id, line, turn, decision)

    def _wait(self, transactional_id: str, turn: Turn) -> bool:
        until = self._turns.wait(transactional_id, turn, self._host.now_s())
        if until is not None:
            self._host.wake(self, transactional_id, until)
        return until is not None

    def _got_id(self, transactional_id: str, line: Line, turn: Turn, fresh: int | None) -> None:
        line.waiting = False
        if fresh is None:
            turn.settle(Outcome(ErrorCode.coordinator_load_in_progress))
        elif not turn.future.done():
            line.running = True
            self._take(transactional_id, line, turn, fresh)
            line.running = False
        self._turns.go_on(transactional_id, line)

    def _write(self, transactional_id: str, line: Line, turn: Turn, decision: Decision) -> None:
        entry = Entry(transactional_id, decision.record)
        if decision.record is not None and decision.record.state is State.ONGOING:
            key, value = self._encode(entry)
            if len(key) + len(value or b"") + ROOM_BYTES > self._host.max_bytes():
                turn.settle(Outcome(ErrorCode.unknown_server_error))
                return
        line.waiting = True
        self.log.write(
            [entry], partial(self._told, line, turn, decision), partial(self._decided, transactional_id, line)
        )

    def _told(self, line: Line, turn: Turn, decision: Decision, error: ErrorCode) -> None:
        if error is ErrorCode.none:
            turn.settle(Outcome(decision.error, decision.producer))
            return
        if error is ErrorCode.message_too_large:
            error = ErrorCode.unknown_server_error
        turn.settle(Outcome(error))
        line.refused = error
        waiting, line.turns = line.turns, deque()
        for each in waiting:
            each.settle(Outcome(error))

    def _decided(self, transactional_id: str, line: Line, _error: ErrorCode) -> None:
        line.waiting = False
        line.refused = None
        self._turns.go_on(transactional_id, line)

    # Markers

    def marked(self, pending: Pending) -> None:
        """All partitions know the outcome."""
        if self.transactions.get(pending.id) is pending.transaction:
            self._complete(pending.id)

    def _complete(self, transactional_id: str) -> None:
        """No request is decided while the outcome is being told, so that this record stands alone."""
        transaction = self.transactions.get(transactional_id)
        if transaction is None or transaction.state not in PREPARED or not self.log.leads:
            return
        self._marked.discard(transactional_id)
        entry = Entry(transactional_id, complete(transaction, self._host.clock()))
        self.log.write([entry], lambda _: None, partial(self._completed, transactional_id))

    def _completed(self, transactional_id: str, error: ErrorCode) -> None:
        if error is not ErrorCode.none and not self.log.closed:
            self._marked.add(transactional_id)
            self._host.wake(self, transactional_id, self._host.now_s() + RETRY_S)

    # Time

    def tick(self, transactional_id: str) -> None:
        """A deadline of the id has come, or may have."""
        if not self.log.leads or not self.log.ready:
            return
        self._turns.time(transactional_id, self._host.now_s())
        if transactional_id in self._marked:
            self._complete(transactional_id)
            return
        transaction = self.transactions.get(transactional_id)
        if transaction is None or transaction.state is not State.ONGOING:
            return
        deadline = expires_at(transaction)
        if deadline is not None and deadline > self._host.clock():
            self._watch_time(transactional_id, transaction)
            return
        self.ask(transactional_id, self._time_out).add_done_callback(partial(self._timed_out, transactional_id))

    def _time_out(self, transaction: Transaction | None, fresh: int | None) -> Decision:
        if transaction is None:
            return Decision()
        return time_out(transaction, self._host.clock(), fresh, self._host.version()) or Decision()

    def _timed_out(self, transactional_id: str, done: asyncio.Future[Outcome]) -> None:
        error = done.result().error
        transaction = self.transactions.get(transactional_id)
        if error is ErrorCode.none and (transaction is None or transaction.state is not State.ONGOING):
            log.info("transaction_timed_out", transactional_id=transactional_id)
        elif not self.log.closed:
            self._host.wake(self, transactional_id, self._host.now_s() + RETRY_S)

    def expire(self, transactional_id: str, expiration_ms: int) -> asyncio.Future[Outcome]:
        """Give the id up if nobody has used it for so long."""

        def decide(transaction: Transaction | None, _fresh: int | None) -> Decision:
            old = transaction is not None and is_expired(transaction, self._host.clock(), expiration_ms)
            return Decision(forget=old)

        return self.ask(transactional_id, decide)
