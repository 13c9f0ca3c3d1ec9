"""The part of the admin client that is about transactions (KIP-664)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable

from ottla.client.admin import transactions
from ottla.client.network import Network
from ottla.client.options import Clock
from ottla.client.structs import (
    OpenTransaction,
    ProducerState,
    TopicMetadata,
    TopicPartition,
    TransactionDescription,
    TransactionListing,
)


class TransactionAdmin(ABC):
    """What an `Admin` can do with transactions."""

    _timeout: float
    _clock: Clock

    @abstractmethod
    def _ready(self) -> Network:
        """Raises IllegalStateError."""

    @abstractmethod
    async def describe_topics(self, names: Collection[str] | None = None) -> dict[str, TopicMetadata]:
        """Topics with their partitions, by name; None is all of them. Raises UnknownTopicOrPartitionError."""

    async def list_transactions(
        self,
        *,
        states: Iterable[str] = (),
        producer_ids: Iterable[int] = (),
        duration_ms: int = -1,
        transactional_id_pattern: str | None = None,
    ) -> list[TransactionListing]:
        """All transactional ids that coordinators know; only those in one of these states, of one of these producers,
        running for longer than that (KIP-994), or whose whole id matches the pattern. Raises ValueError for a state
        that is none."""
        return await transactions.list_all(
            self._ready(),
            self._timeout,
            states=list(states),
            producer_ids=list(producer_ids),
            duration_ms=duration_ms,
            pattern=transactional_id_pattern,
        )

    async def describe_transactions(self, transactional_ids: Iterable[str]) -> dict[str, TransactionDescription]:
        """What coordinators know of these ids. Raises TransactionalIdNotFoundError."""
        network = self._ready()
        return {name: await transactions.describe(network, name, self._timeout) for name in transactional_ids}

    async def describe_producers(
        self, partitions: Iterable[TopicPartition], *, broker_id: int | None = None
    ) -> dict[TopicPartition, list[ProducerState]]:
        """What the leaders of the partitions know of their producers; with `broker_id` what that replica knows."""
        return await transactions.describe_producers(self._ready(), partitions, self._timeout, broker_id)

    async def abort_transaction(
        self, partition: TopicPartition, *, producer_id: int, producer_epoch: int, coordinator_epoch: int = -1
    ) -> None:
        """Write a marker that aborts the producer's open transaction in one partition, which nobody else will end.

        Only for a transaction that hangs: the coordinator knows nothing of it. With coordinator epoch -1 it is not
        compared with that of earlier markers.
        """
        await transactions.abort(
            self._ready(),
            TopicPartition(*partition),
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            coordinator_epoch=coordinator_epoch,
            timeout=self._timeout,
        )

    async def find_hanging_transactions(
        self,
        partitions: Iterable[TopicPartition] | None = None,
        *,
        broker_id: int | None = None,
        max_transaction_timeout_ms: int = 900000,
    ) -> list[OpenTransaction]:
        """Open transactions of these partitions (default: all) that no coordinator is going to end (KIP-664).

        Only those without a record for longer than the longest timeout of any producer are looked at.
        """
        network = self._ready()
        if partitions is None:
            described = await self.describe_topics()
            partitions = [
                TopicPartition(topic, index)
                for topic, found in described.items()
                for index, state in found.partitions.items()
                if broker_id is None or broker_id in state.replicas
            ]
        return await transactions.find_hanging(
            network,
            partitions,
            self._timeout,
            broker_id=broker_id,
            older_than_ms=max_transaction_timeout_ms,
            now_ms=self._clock(),
        )

    async def fence_producers(self, transactional_ids: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Fence the producers of these ids and abort their transactions (KIP-588): producer id and epoch by id."""
        network = self._ready()
        return {name: await transactions.fence(network, name, self._timeout) for name in transactional_ids}

    async def force_terminate_transaction(self, transactional_id: str) -> None:
        """End the open transaction of an id, whose producer is fenced thereby; it is aborted (KIP-939)."""
        await transactions.fence(self._ready(), transactional_id, self._timeout)
