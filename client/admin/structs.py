"""The values that only the admin client takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Literal, NamedTuple

from ottla.client.structs import TopicPartition


class AlterConfigOp(NamedTuple):
    """What `incremental_alter_configs` does to one config (KIP-339). "append" and "subtract" are for lists: `value` is
    comma-separated. "delete" goes back to the default."""

    op: Literal["set", "delete", "append", "subtract"]
    value: str | None = None


class AnyName(Enum):
    """`ANY_NAME`, for `describe_client_quotas`: whatever the name is, the default included."""

    ANY_NAME = "any name"


ANY_NAME = AnyName.ANY_NAME


@dataclass(frozen=True, slots=True)
class ClientQuota:
    """The quotas of one entity: names by part ("user", "client-id"; None is the default), and values by quota."""

    entity: Mapping[str, str | None]
    values: Mapping[str, float]


class OffsetSpec(IntEnum):
    """What `list_offsets` may be asked for in place of a time."""

    LATEST = -1
    EARLIEST = -2
    MAX_TIMESTAMP = -3
    EARLIEST_LOCAL = -4
    LATEST_TIERED = -5
    EARLIEST_PENDING_UPLOAD = -6


@dataclass(frozen=True, slots=True)
class NewPartitions:
    """How many partitions a topic is to have in all, and where the replicas of the new ones go, if that is not left to
    the cluster: a tuple of broker ids for each."""

    total_count: int
    new_assignments: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """A replica on disk. `size` in bytes; `offset_lag` is what it lacks up to the high watermark, -1 if unknown;
    `is_future`: a copy that is about to take the place of the replica."""

    size: int
    offset_lag: int
    is_future: bool = False


@dataclass(frozen=True, slots=True)
class LogDirDescription:
    """One data directory of a broker. Bytes of the file system that it is in, -1 if unknown."""

    total_bytes: int
    usable_bytes: int
    replica_infos: Mapping[TopicPartition, ReplicaInfo] = field(default_factory=dict)
    is_cordoned: bool = False


class TopicPartitionReplica(NamedTuple):
    """The replica of a partition that a broker has."""

    topic: str
    partition: int
    broker_id: int


@dataclass(frozen=True, slots=True)
class ReplicaLogDirInfo:
    """Where a replica lies on its broker, None if the broker has none, and the copy that is about to take its place
    (KIP-113). The lags are what they lack up to the high watermark, -1 if unknown."""

    current_replica_log_dir: str | None = None
    current_replica_offset_lag: int = -1
    future_replica_log_dir: str | None = None
    future_replica_offset_lag: int = -1


class FinalizedFeature(NamedTuple):
    """The levels of a feature that the cluster uses."""

    min_version_level: int
    max_version_level: int


UpgradeType = Literal["upgrade", "safe_downgrade", "unsafe_downgrade"]


class FeatureUpdate(NamedTuple):
    """The level that a feature is to have, 0 for a feature out of use, and which way that may go (KIP-584, KIP-778)."""

    max_version_level: int
    upgrade_type: UpgradeType = "upgrade"


@dataclass(frozen=True, slots=True)
class FeatureMetadata:
    """Features by name. A feature that is not finalised is not in use. The epoch grows with every change of a level;
    None if the cluster has none. `supported_features` are the lowest and the highest level of each."""

    finalized_features: Mapping[str, FinalizedFeature]
    finalized_features_epoch: int | None
    supported_features: Mapping[str, tuple[int, int]]
