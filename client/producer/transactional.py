"""The part of a producer that is about transactions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ottla.client.errors import (
    AbortableTransactionError,
    FatalTransactionError,
    IllegalStateError,
    KafkaTimeoutError,
)
from ottla.client.logs import get_logger
from ottla.client.producer.transactions import Transactor
from ottla.client.structs import ConsumerGroupMetadata, Offsets, to_places

log = get_logger(__name__)


class Transactions(ABC):
    """What a `Producer` with a transactional id can do besides."""

    _transactor: Transactor | None

    @abstractmethod
    def _check_running(self) -> None:
        """Raises ProducerClosed."""

    @abstractmethod
    async def flush(self) -> None:
        """Wait until every record sent so far has its outcome, without lingering."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Commit what is done inside as one transaction; abort it when an exception comes out.

        Raises what `commit_transaction` does. Unless it is a FatalTransactionError or a KafkaTimeoutError, the
        transaction is aborted by then, and the producer can go on with another one.
        """
        await self.begin_transaction()
        try:
            yield
        except BaseException:
            await self._abort_if_possible()
            raise
        try:
            await self.commit_transaction()
        except AbortableTransactionError:
            await self._abort_if_possible()
            raise

    async def begin_transaction(self) -> None:
        """All that is sent from now on belongs to a new transaction.

        Raises FatalTransactionError, such as ProducerFenced; IllegalStateError inside of another one.
        """
        self._check_running()
        await self._transactional("begin_transaction").begin()

    async def commit_transaction(self) -> None:
        """Send what is buffered and commit the transaction.

        Raises AbortableTransactionError: `abort_transaction` has to follow; FatalTransactionError, such as
        ProducerFenced: the producer can only be stopped. Raises KafkaTimeoutError when the coordinator has not
        confirmed it within `max_block_ms`; then it goes on all the same, and this may be called again to wait for it.
        The `definite` of an error is True if the transaction surely is not committed, False if it may be.
        """
        self._check_running()
        transactor = self._transactional("commit_transaction")
        transactor.ending(commit=True)
        await self.flush()
        await transactor.ended()

    async def abort_transaction(self) -> None:
        """Give up what is not sent yet, and abort the transaction.

        Raises FatalTransactionError, such as ProducerFenced, and KafkaTimeoutError as `commit_transaction` does.
        """
        self._check_running()
        transactor = self._transactional("abort_transaction")
        transactor.ending(commit=False)
        await transactor.ended()

    async def send_offsets_to_transaction(self, offsets: Offsets, group_id: str | ConsumerGroupMetadata) -> None:
        """Commit these offsets of a consumer group with the transaction, or not at all.

        With a consumer's `group_metadata()` they are refused if its partitions may have another owner by now (KIP-447).
        Raises AbortableTransactionError (caused by CommitFailedError in that case), FatalTransactionError,
        KafkaTimeoutError.
        """
        self._check_running()
        transactor = self._transactional("send_offsets_to_transaction")
        if isinstance(group_id, str):
            group_id = ConsumerGroupMetadata(group_id, -1, "", None)
        await transactor.offer(group_id, to_places(offsets))

    def _transactional(self, what: str) -> Transactor:
        if self._transactor is None:
            raise IllegalStateError(f"{what} needs a transactional_id")
        return self._transactor

    async def _abort_if_possible(self) -> None:
        if self._transactional("transaction").open:
            await self.abort_transaction()

    async def _leave_none_open(self) -> None:
        transactor = self._transactional("transaction")
        try:
            await self._abort_if_possible()
        except (FatalTransactionError, KafkaTimeoutError) as error:
            # Whoever starts under this id next finishes it, or else its timeout does.
            log.info("transaction_left_open", transactional_id=transactor.transactional_id, error=str(error))
