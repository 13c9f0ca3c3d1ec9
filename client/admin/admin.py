"""The admin client that programs use."""

from __future__ import annotations

import random
import ssl
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self
from uuid import UUID

from ottla.client.admin import cluster, partitions, quorum, topics
from ottla.client.admin.config_admin import ConfigAdmin
from ottla.client.admin.feature_admin import FeatureAdmin
from ottla.client.admin.group_admin import GroupAdmin
from ottla.client.admin.log_admin import LogAdmin
from ottla.client.admin.quota_admin import QuotaAdmin
from ottla.client.admin.structs import NewPartitions
from ottla.client.admin.transaction_admin import TransactionAdmin
from ottla.client.errors import IllegalStateError
from ottla.client.network import Network
from ottla.client.options import Clock, make_options, wall_clock_ms
from ottla.client.structs import (
    ClusterDescription,
    NewTopic,
    PartitionReassignment,
    QuorumDescription,
    TopicMetadata,
    TopicPartition,
)


class Admin(ConfigAdmin, FeatureAdmin, GroupAdmin, LogAdmin, QuotaAdmin, TransactionAdmin):
    """Creates, changes and describes. Use it as an async context manager, or call `start` and `close`.

    Any broker is asked, since all of them forward to the active controller; another one after two seconds without an
    answer, five for a change. Every method raises a `BrokerResponseError` of the fitting type for an error answer,
    NoBrokersAvailable and KafkaTimeoutError. A change whose connection broke, or that took too long, is sent again, so
    that its own effect may show as an error, such as TopicAlreadyExistsError.
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str | Iterable[str] = "127.0.0.1:9092",
        client_id: str | None = None,
        request_timeout_ms: float = 30000,
        retry_backoff_ms: float = 50,
        retry_backoff_max_ms: float = 1000,
        connect_timeout_ms: float = 1000,
        metadata_max_age_ms: float = 300000,
        ssl_context: ssl.SSLContext | None = None,
        rng: random.Random | None = None,
        clock: Clock = wall_clock_ms,
    ) -> None:
        options = make_options(
            bootstrap_servers,
            client_id=client_id or "ottla-admin",
            request_timeout_ms=request_timeout_ms,
            metadata_max_age_ms=metadata_max_age_ms,
            retry_backoff_ms=retry_backoff_ms,
            retry_backoff_max_ms=retry_backoff_max_ms,
            connect_timeout_ms=connect_timeout_ms,
            ssl_context=ssl_context,
            rng=rng,
        )
        self._timeout = request_timeout_ms / 1000
        self._network = Network(options)
        self._clock = clock
        self._running = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Connect. Raises NoBrokersAvailable."""
        try:
            await self._network.start()
        except BaseException:
            await self._network.close()
            raise
        self._running = True

    async def close(self) -> None:
        """Close the connections."""
        self._running = False
        await self._network.close()

    async def create_topics(
        self, new_topics: Iterable[NewTopic], *, timeout_ms: float | None = None, validate_only: bool = False
    ) -> dict[str, TopicMetadata]:
        """Create topics; the result tells their ids, and no partitions (`describe_topics` does).

        Raises the error of the first topic that could not be created.
        """
        return await topics.create(self._ready(), list(new_topics), self._seconds(timeout_ms), validate_only)

    async def delete_topics(self, names: Iterable[str | UUID], *, timeout_ms: float | None = None) -> None:
        """Delete topics by name or id (KIP-516). Raises the error of the first that could not be deleted."""
        await topics.delete(self._ready(), list(names), self._seconds(timeout_ms))

    async def create_partitions(
        self,
        counts: Mapping[str, int | NewPartitions],
        *,
        timeout_ms: float | None = None,
        validate_only: bool = False,
    ) -> None:
        """Raise the number of partitions of topics to these counts. Raises the error of the first that was not."""
        await topics.add_partitions(self._ready(), counts, self._seconds(timeout_ms), validate_only)

    async def list_topics(self) -> list[str]:
        """The names of all topics, sorted."""
        return sorted(await self.describe_topics())

    async def describe_topics(self, names: Collection[str] | None = None) -> dict[str, TopicMetadata]:
        """Topics with their partitions, by name; None is all of them. Raises UnknownTopicOrPartitionError."""
        return await topics.describe(self._ready(), names, self._timeout)

    async def elect_leaders(
        self,
        election_type: partitions.ElectionType = "preferred",
        topic_partitions: Iterable[TopicPartition] | None = None,
        *,
        timeout_ms: float | None = None,
    ) -> partitions.Outcomes:
        """Preferred leaders back in their place, or ("unclean") leaders for partitions that have none, at the price of
        records that only others hold (KIP-460).

        None asks for all partitions. The result has the error for each of them, None where a leader was elected; asked
        for all, it leaves out those that needed no election.
        """
        return await partitions.elect(self._ready(), election_type, topic_partitions, self._seconds(timeout_ms))

    async def alter_partition_reassignments(
        self,
        reassignments: Mapping[TopicPartition, Sequence[int] | None],
        *,
        allow_replication_factor_change: bool = True,
        timeout_ms: float | None = None,
    ) -> None:
        """Give partitions these replicas, in order of preference; None ends what is under way (KIP-455).

        Returns when it has begun: `list_partition_reassignments` tells what is left. Raises the error of the first
        partition that could not be changed; the others are.
        """
        outcomes = await self.try_alter_partition_reassignments(
            reassignments, allow_replication_factor_change=allow_replication_factor_change, timeout_ms=timeout_ms
        )
        for error in outcomes.values():
            if error is not None:
                raise error

    async def try_alter_partition_reassignments(
        self,
        reassignments: Mapping[TopicPartition, Sequence[int] | None],
        *,
        allow_replication_factor_change: bool = True,
        timeout_ms: float | None = None,
    ) -> partitions.Outcomes:
        """`alter_partition_reassignments`, with the error of each partition as the result, None if there is none."""
        return await partitions.reassign(
            self._ready(),
            reassignments,
            self._seconds(timeout_ms),
            allow_replication_factor_change=allow_replication_factor_change,
        )

    async def list_partition_reassignments(
        self, topic_partitions: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, PartitionReassignment]:
        """The reassignments that are under way, of these partitions or of all."""
        return await partitions.list_reassignments(self._ready(), topic_partitions, self._timeout)

    async def unregister_broker(self, broker_id: int) -> None:
        """Forget a broker that will not come back. Raises a BrokerResponseError of BROKER_ID_NOT_REGISTERED."""
        await partitions.unregister(self._ready(), broker_id, self._timeout)

    async def describe_cluster(self, *, include_fenced_brokers: bool = False) -> ClusterDescription:
        """The cluster's id, controller and live brokers; also the fenced ones on request (KIP-1073)."""
        return await cluster.describe(self._ready(), self._timeout, include_fenced_brokers=include_fenced_brokers)

    async def describe_metadata_quorum(self) -> QuorumDescription:
        """The metadata quorum. Raises UnsupportedVersionError where brokers cannot tell."""
        return await cluster.describe_metadata_quorum(self._ready(), self._timeout)

    async def add_raft_voter(
        self, voter_id: int, host: str, port: int, *, voter_directory_id: UUID | None = None
    ) -> None:
        """Let a controller vote that replicates the metadata log, and listens there for others (KIP-853). Raises a
        BrokerResponseError of DUPLICATE_VOTER, or of REQUEST_TIMED_OUT if it does not catch up, or another change is
        under way."""
        await quorum.add_voter(self._ready(), voter_id, voter_directory_id, (host, port), self._timeout)

    async def remove_raft_voter(self, voter_id: int, *, voter_directory_id: UUID | None = None) -> None:
        """Take its vote from a controller (KIP-853). Raises a BrokerResponseError of VOTER_NOT_FOUND, or of
        INVALID_REQUEST if the voters that are left would be none, or no majority of them is there."""
        await quorum.remove_voter(self._ready(), voter_id, voter_directory_id, self._timeout)

    def _ready(self) -> Network:
        if not self._running:
            raise IllegalStateError("the admin client is not running")
        return self._network

    def _seconds(self, timeout_ms: float | None) -> float:
        return self._timeout if timeout_ms is None else timeout_ms / 1000
