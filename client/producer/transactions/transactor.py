"""A producer's transactions, carried out: the shell around `core`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ottla.client.coordinator import TRANSACTION_KEY, Coordinator
from ottla.client.errors import (
    AbortableTransactionError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    ProducerClosed,
)
from ottla.client.logs import get_logger
from ottla.client.network import Network
from ottla.client.producer.batch import Outcome
from ottla.client.producer.core import ProducerCore
from ottla.client.producer.transactions.core import Next, Offsets, TransactionCore
from ottla.client.producer.transactions.model import Request, State
from ottla.client.producer.transactions.wire import answer, message
from ottla.client.structs import ConsumerGroupMetadata, TopicPartition

FEATURE: Final = "transaction.version"
CHANNEL: Final = "transactions"
"""Of its own: what follows a Produce on its connection waits for that."""
PATIENCE: Final = 5.0
"""Seconds that a coordinator may take over one try."""

log = get_logger(__name__)


class Transactor:
    """Asks the coordinators one thing after the other, for as long as there is something to ask.

    Args:
        records: the producer's records, which wait for identities and for partitions that are admitted.
        timeout_ms: how long the coordinator lets a transaction last.
        version: the highest version of the protocol to use.
        patience: seconds that a caller waits for coordinators at most.
        wake: called when records may be sent that could not be before.
        on_outcomes: told of records that are given up with their transaction.
    """

    def __init__(
        self,
        network: Network,
        records: ProducerCore,
        transactional_id: str,
        *,
        timeout_ms: int,
        version: int,
        patience: float,
        wake: Callable[[], None],
        on_outcomes: Callable[[list[Outcome]], None],
    ) -> None:
        self.core = TransactionCore(transactional_id, network.options.backoff, network.options.rng)
        self._network = network
        self._records = records
        self._timeout_ms = timeout_ms
        self._version = version
        self._patience = patience
        self._wake = wake
        self._on_outcomes = on_outcomes
        self._coordinator = Coordinator(network, transactional_id, TRANSACTION_KEY)
        self._group: tuple[str, Coordinator] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._waiters: dict[asyncio.Future[None], None] = {}
        self._offering = asyncio.Lock()
        self._failure: BaseException | None = None
        self._closed = False
        records.admitted = self.core.admitted

    @property
    def transactional_id(self) -> str:
        return self.core.transactional_id

    @property
    def open(self) -> bool:
        """Whether there is a transaction that nobody has begun to end."""
        return self.core.state in (State.IN_TRANSACTION, State.ABORTABLE_ERROR)

    def join(self, tp: TopicPartition) -> None:
        """A record for the partition follows. Raises AbortableTransactionError, FatalTransactionError,
        IllegalStateError."""
        if self.core.join(tp):
            self._work()

    def failed(self, cause: KafkaError) -> None:
        """A record was given up."""
        self.core.failed(cause)
        self._changed()

    def look(self) -> None:
        """A record has its outcome: if that was the last one, the transaction can end."""
        if self.core.state in (State.COMMITTING, State.ABORTING) and not self._records.pending:
            self.core.settled(gap=self._records.gap)
            self._work()

    # -- what the program asks for

    async def start(self) -> None:
        """Get a producer id. Raises FatalTransactionError, KafkaTimeoutError."""
        self.core.initialise(self._level())
        await self._while({State.INITIALIZING}, "no producer id")

    async def begin(self) -> None:
        """Raises FatalTransactionError, IllegalStateError, KafkaTimeoutError."""
        if self.core.state is State.INITIALIZING:
            await self._while({State.INITIALIZING}, "no producer id")
        self.core.begin()

    def ending(self, *, commit: bool) -> None:
        """The transaction takes no more records. Those of one that is aborted are given up.

        Raises FatalTransactionError, AbortableTransactionError, IllegalStateError.
        """
        self.core.end(commit, self._level())
        if not commit:
            # Whatever arrives late is refused for its epoch; by the first version it has to be waited for.
            cause = self.core.error or AbortableTransactionError("the transaction was aborted")
            self._on_outcomes(self._records.fail_transaction(cause, in_flight=self.core.second))
            self._wake()
        self.look()

    async def ended(self) -> None:
        """Wait for what `ending` has begun. Raises FatalTransactionError, AbortableTransactionError, KafkaTimeoutError:
        after that it goes on all the same, and can be waited for again."""
        what = "the commit is not confirmed" if self.core.state is State.COMMITTING else "the abort is not confirmed"
        try:
            await self._while({State.COMMITTING, State.ABORTING, State.INITIALIZING}, what)
        except KafkaTimeoutError as error:
            error.definite = False
            raise

    async def offer(self, group: ConsumerGroupMetadata, offsets: Offsets) -> None:
        """Have offsets committed with the transaction. Raises AbortableTransactionError, FatalTransactionError,
        IllegalStateError, KafkaTimeoutError."""
        async with self._offering:
            self.core.add_offsets(group, offsets)
            await self._until(lambda: not self.core.offsets_pending, "the offsets are not taken in")
            if self.core.error is not None:
                raise self.core.error

    async def stop(self) -> None:
        """Ask nothing more. Whoever waits gets ProducerClosed."""
        self._closed = True
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self._notify()
        await self._coordinator.close()
        if self._group is not None:
            await self._group[1].close()

    # -- insides

    def _level(self) -> int:
        """What the cluster and this producer both have."""
        return min(self._network.feature(FEATURE), self._version)

    async def _while(self, states: set[State], what: str) -> None:
        await self._until(lambda: self.core.state not in states, what)
        if self.core.error is not None:
            raise self.core.error

    async def _until(self, holds: Callable[[], bool], what: str) -> None:
        self._work()
        try:
            async with asyncio.timeout(self._patience):
                while not holds():
                    if self._failure is not None:
                        raise ProducerClosed(f"the producer failed: {self._failure!r}") from self._failure
                    if self._closed:
                        raise ProducerClosed("the producer was stopped")
                    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiters[waiter] = None
                    try:
                        await waiter
                    finally:
                        del self._waiters[waiter]
        except TimeoutError:
            node, attempts = self._coordinator.node, self.core.attempts
            text = f"{what} within {self._patience:g} s: {self._trouble()}"
            raise KafkaTimeoutError(text, broker=node, attempts=attempts) from None

    def _trouble(self) -> str:
        core = self.core
        where = "coordinator unknown" if self._coordinator.node is None else "coordinator known"
        last = "" if core.last_error is None else f", last error {core.last_error.name.upper()}"
        records = ", records are not settled" if self._records.pending else ""
        return f"transactional id {core.transactional_id!r}, {where}{last}{records}"

    def _work(self) -> None:
        if self._worker is None and not self._closed and self._failure is None:
            request = self._next()
            if request is not None:
                loop = asyncio.get_running_loop()
                self._worker = loop.create_task(self._ask_all(request), name=f"transactions {self.transactional_id}")
                self._worker.add_done_callback(self._finished)

    def _next(self) -> Request | None:
        request = self.core.next()
        if request is None:
            # The last step may have been that there is nothing to ask.
            self._changed()
        return request

    def _finished(self, worker: asyncio.Task[None]) -> None:
        self._worker = None
        error = None if worker.cancelled() else worker.exception()
        if error is not None:
            log.error("producer_failed", error=repr(error))
            self._failure = error
            self._notify()
        else:
            # What came to be asked for while the task was ending.
            self._work()

    async def _ask_all(self, request: Request | None) -> None:
        while request is not None:
            following = await self._ask(request)
            self._changed()
            if following.wait:
                await asyncio.sleep(following.wait)
            request = self._next()

    async def _ask(self, request: Request) -> Next:
        core = self.core
        sent = message(request, core.transactional_id, self._timeout_ms)
        coordinator = self._coordinator if sent.group is None else await self._group_coordinator(sent.group)
        core.on_sent(request)
        timeout = min(PATIENCE, self._network.options.request_timeout)
        try:
            response, node = await coordinator.call(
                sent.api_key, sent.versions, sent.values, timeout=timeout, channel=CHANNEL
            )
        except (KafkaConnectionError, KafkaTimeoutError):
            return core.on_lost(request)
        except KafkaError as error:
            core.on_refused(request, error)
            return Next()
        following = core.on_answer(request, answer(request, response, node))
        if following.moved:
            coordinator.lost(node)
        return following

    async def _group_coordinator(self, group_id: str) -> Coordinator:
        if self._group is None or self._group[0] != group_id:
            if self._group is not None:
                await self._group[1].close()
            self._group = (group_id, Coordinator(self._network, group_id))
        return self._group[1]

    def _changed(self) -> None:
        """Something may be so that was not before: tell everybody whom it may concern."""
        core, records = self.core, self._records
        records.identity = core.identity
        if core.state in (State.ABORTABLE_ERROR, State.FATAL_ERROR):
            if core.error is not None and records.doom is not core.error:
                self._on_outcomes(records.fail_transaction(core.error, in_flight=False))
        elif core.state is not State.ABORTING:
            records.doom = None
        self._wake()
        self._notify()

    def _notify(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
