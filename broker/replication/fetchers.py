"""All fetchers of a broker: one for each leader broker that it follows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ottla.broker.replication.config import ReplicationConfig
from ottla.broker.replication.connecting import Endpoint, OpenConnection
from ottla.broker.replication.fetcher import ReplicaFetcher
from ottla.broker.replication.follower import FollowerState
from ottla.broker.replication.partition import Partition
from ottla.controller import MetadataImage
from ottla.log import GroupCommit


class Fetchers:
    """Hands every followed partition to the fetcher of its leader. One without partitions closes its connection."""

    def __init__(
        self,
        config: ReplicationConfig,
        open_connection: OpenConnection,
        group: GroupCommit,
        broker_epoch: Callable[[], int],
    ) -> None:
        self._config = config
        self._open_connection = open_connection
        self._group = group
        self._broker_epoch = broker_epoch
        self._fetchers: dict[int, ReplicaFetcher] = {}
        self._endpoints: dict[int, Endpoint] = {}
        self._where: dict[Partition, ReplicaFetcher] = {}
        self._started = False

    def apply_brokers(self, image: MetadataImage) -> None:
        """Learn where the brokers are now."""
        self._endpoints = {}
        for broker in image.brokers.values():
            for listener in broker.listeners:
                if listener.name == self._config.inter_broker_listener_name:
                    self._endpoints[broker.id] = Endpoint(broker.id, listener.host, listener.port)
        for leader_id, fetcher in self._fetchers.items():
            fetcher.locate(self._endpoints.get(leader_id))

    def assign(self, partition: Partition) -> None:
        """Follow the leader of the partition's present role; nobody, if it has none."""
        self.remove(partition)
        role = partition.role
        if not isinstance(role, FollowerState) or role.leader_id < 0:
            return
        fetcher = self._fetchers.get(role.leader_id)
        if fetcher is None:
            fetcher = self._fetchers[role.leader_id] = ReplicaFetcher(
                role.leader_id, self._config, self._open_connection, self._group, self._broker_epoch
            )
            fetcher.locate(self._endpoints.get(role.leader_id))
            if self._started:
                fetcher.start()
        self._where[partition] = fetcher
        fetcher.assign(partition)

    def remove(self, partition: Partition) -> None:
        fetcher = self._where.pop(partition, None)
        if fetcher is not None:
            fetcher.remove(partition.topic_id, partition.index)

    def start(self) -> None:
        self._started = True
        for fetcher in self._fetchers.values():
            fetcher.start()

    async def stop(self) -> None:
        self._started = False
        await asyncio.gather(*(fetcher.stop() for fetcher in self._fetchers.values()))
