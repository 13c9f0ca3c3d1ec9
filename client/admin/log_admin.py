"""The part of the admin client that is about what lies in the logs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Literal

from ottla.client.admin import logs
from ottla.client.admin.structs import LogDirDescription, ReplicaLogDirInfo, TopicPartitionReplica
from ottla.client.errors import KafkaError
from ottla.client.network import Network
from ottla.client.offsets import list_offsets, list_offsets_once
from ottla.client.structs import OffsetAndTimestamp, TopicPartition

Isolation = Literal["read_uncommitted", "read_committed"]
_ISOLATION = {"read_uncommitted": 0, "read_committed": 1}


class LogAdmin(ABC):
    """What an `Admin` can do with logs."""

    _timeout: float

    @abstractmethod
    def _ready(self) -> Network:
        """Raises IllegalStateError."""

    @abstractmethod
    def _seconds(self, timeout_ms: float | None) -> float:
        """A timeout as given, or the client's own."""

    async def list_offsets(
        self, times: Mapping[TopicPartition, int], *, isolation_level: Isolation = "read_uncommitted"
    ) -> dict[TopicPartition, OffsetAndTimestamp]:
        """The first record at or after a time in ms since the epoch, or what an `OffsetSpec` stands for: -1 is the end,
        -2 the beginning.

        Offset -1 in the result: there is no such record. Raises UnsupportedVersionError for what a broker is too old
        for.
        """
        return await list_offsets(self._ready(), times, self._timeout, _isolation(isolation_level))

    async def try_list_offsets(
        self, times: Mapping[TopicPartition, int], *, isolation_level: Isolation = "read_uncommitted"
    ) -> tuple[dict[TopicPartition, OffsetAndTimestamp], dict[TopicPartition, KafkaError]]:
        """`list_offsets` without a second try: what was found, and the errors of the rest."""
        network = self._ready()
        network.topics.update(tp.topic for tp in times)
        if times:
            await network.refreshed()
        return await list_offsets_once(network, times, _isolation(isolation_level))

    async def delete_records(
        self, offsets: Mapping[TopicPartition, int], *, timeout_ms: float | None = None
    ) -> dict[TopicPartition, int]:
        """Forget the records below these offsets, -1 standing for the high watermark (KIP-107).

        Returns when no live replica has them any more; the result is the lowest offset that one still has. Raises
        OffsetOutOfRangeError for what is not committed, and a BrokerResponseError of POLICY_VIOLATION where the
        topic's cleanup.policy is not to delete.
        """
        wanted = {TopicPartition(*tp): offset for tp, offset in offsets.items()}
        return await logs.delete_records(self._ready(), wanted, self._seconds(timeout_ms))

    async def describe_log_dirs(self, brokers: Iterable[int] | None = None) -> dict[int, dict[str, LogDirDescription]]:
        """The data directories of these brokers, or of all that are alive, by path."""
        return await logs.describe_log_dirs(self._ready(), brokers, self._timeout)

    async def describe_replica_log_dirs(
        self, replicas: Iterable[TopicPartitionReplica]
    ) -> dict[TopicPartitionReplica, ReplicaLogDirInfo]:
        """In which data directories these replicas lie (KIP-113)."""
        return await logs.describe_replica_log_dirs(self._ready(), replicas, self._timeout)

    async def alter_replica_log_dirs(self, assignment: Mapping[TopicPartitionReplica, str]) -> None:
        """Move replicas to other data directories of their brokers (KIP-113).

        Raises the error of the first that could not be moved, a BrokerResponseError of LOG_DIR_NOT_FOUND or
        REPLICA_NOT_AVAILABLE; the others are.
        """
        await logs.alter_replica_log_dirs(self._ready(), assignment, self._timeout)


def _isolation(level: Isolation) -> int:
    if level not in _ISOLATION:
        raise ValueError(f"isolation_level {level!r} is none of {', '.join(_ISOLATION)}")
    return _ISOLATION[level]
