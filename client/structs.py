"""The values that the client library takes and gives (aiokafka's names)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from kio.schema.errors import ErrorCode

Header = tuple[str, bytes | None]


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class BrokerMetadata(NamedTuple):
    """Where one broker is. A fenced one is away, or has not caught up with the metadata yet."""

    node_id: int
    host: str
    port: int
    rack: str | None = None
    is_fenced: bool = False


@dataclass(frozen=True, slots=True)
class PartitionMetadata:
    """One partition as the brokers describe it. `leader` is -1 when there is none.

    `elr` and `last_known_elr` are the eligible leader replicas (KIP-966), None where brokers do not tell.
    """

    topic: str
    partition: int
    leader: int
    leader_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    offline_replicas: tuple[int, ...] = ()
    error: ErrorCode = ErrorCode.none
    elr: tuple[int, ...] | None = None
    last_known_elr: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class PartitionReassignment:
    """A partition on its way to other replicas (KIP-455). `replicas` are all that it has meanwhile."""

    replicas: tuple[int, ...]
    adding_replicas: tuple[int, ...]
    removing_replicas: tuple[int, ...]

    @property
    def target_replicas(self) -> tuple[int, ...]:
        """The replicas that there will be when it is complete."""
        return tuple(replica for replica in self.replicas if replica not in self.removing_replicas)


@dataclass(frozen=True, slots=True)
class TopicMetadata:
    """One topic as the brokers describe it, partitions by number."""

    name: str
    topic_id: UUID | None
    is_internal: bool
    partitions: Mapping[int, PartitionMetadata]
    error: ErrorCode = ErrorCode.none


class OffsetAndTimestamp(NamedTuple):
    """An offset found by time; `timestamp` in milliseconds since the epoch."""

    offset: int
    timestamp: int
    leader_epoch: int = -1


class OffsetAndMetadata(NamedTuple):
    """A committed position: the offset of the next record to read, and whatever the program wants to remember."""

    offset: int
    metadata: str = ""
    leader_epoch: int = -1
    """Of the record before it, -1 if not known (KIP-320)."""


Offsets = Mapping[TopicPartition, int | OffsetAndMetadata | tuple[int, str]]
"""What programs may give where offsets are to be committed."""


def to_places(offsets: Offsets) -> dict[TopicPartition, OffsetAndMetadata]:
    """Offsets in full. Raises ValueError for a negative one."""
    places = {}
    for tp, place in offsets.items():
        full = OffsetAndMetadata(place) if isinstance(place, int) else OffsetAndMetadata(*place)
        if full.offset < 0:
            raise ValueError(f"offset {full.offset} is negative")
        places[TopicPartition(*tp)] = full
    return places


class RecordMetadata(NamedTuple):
    """Where an acknowledged record is.

    `offset` is -1 with acks=0, and when the broker knew the batch as an already stored duplicate and did not
    say where. `timestamp` is in milliseconds; `timestamp_type` 1 says that the broker set it.
    """

    topic: str
    partition: int
    topic_partition: TopicPartition
    offset: int
    timestamp: int
    timestamp_type: int = 0
    log_start_offset: int = -1


class ConsumerRecord(NamedTuple):
    """One record as it was read.

    `key` and `value` are bytes or None, or what the consumer's deserializers made of them. `timestamp` is in
    milliseconds since the epoch. `leader_epoch` is the epoch in which the record was written.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: Any
    value: Any
    headers: tuple[Header, ...]
    serialized_key_size: int
    serialized_value_size: int
    leader_epoch: int = -1


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic to create; -1 leaves the number to the broker's default."""

    name: str
    num_partitions: int = -1
    replication_factor: int = -1
    replica_assignments: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    topic_configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClusterDescription:
    """The cluster: its id, the controller (-1 if unknown) and the brokers that are alive."""

    cluster_id: str
    controller_id: int
    brokers: tuple[BrokerMetadata, ...]


@dataclass(frozen=True, slots=True)
class QuorumReplica:
    """A voter or observer of the metadata quorum. Times in ms since the epoch, -1 if unknown."""

    replica_id: int
    log_end_offset: int
    last_fetch_timestamp: int
    last_caught_up_timestamp: int
    directory_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class QuorumDescription:
    """The metadata quorum: its leader is the active controller, `leader_epoch` is the term."""

    leader_id: int
    leader_epoch: int
    high_watermark: int
    voters: tuple[QuorumReplica, ...]
    observers: tuple[QuorumReplica, ...]


class ConfigResource(NamedTuple):
    """What has configs: `kind` is "topic", "broker" or "group" (Kafka has "broker_logger" and "client_metrics" too); a
    broker's name is its id, or "" for all of them."""

    kind: str
    name: str


class ConfigSynonym(NamedTuple):
    """A place that gives a config its value, under the name that it has there."""

    name: str
    value: str | None
    source: str


@dataclass(frozen=True, slots=True)
class ConfigEntry:
    """One config as a broker describes it. `source` and `type` are Kafka's names, e.g. "DYNAMIC_TOPIC_CONFIG", "LONG".

    `synonyms`, if asked for, come in order of precedence: the first is the place that the value is from.
    """

    name: str
    value: str | None
    source: str
    is_default: bool
    read_only: bool
    is_sensitive: bool
    documentation: str | None = None
    type: str = "UNKNOWN"
    synonyms: tuple[ConfigSynonym, ...] = ()


class ConsumerGroupMetadata(NamedTuple):
    """As whom a consumer takes part in its group: generation -1 and no member id while it does not."""

    group_id: str
    generation_id: int
    member_id: str
    group_instance_id: str | None


@dataclass(frozen=True, slots=True)
class SubscriptionPattern:
    """A regular expression for whole names of topics, in the syntax of RE2, that the broker resolves (KIP-848). It may
    match internal topics, too.

    Raises ValueError when it is empty.
    """

    pattern: str

    def __post_init__(self) -> None:
        if not self.pattern:
            raise ValueError("the pattern is empty")


class GroupListing(NamedTuple):
    """A group as a list of groups has it. `state` and `type` ("classic", "consumer") are "" if a broker is too old to
    tell; `coordinator` is the broker that listed it."""

    group_id: str
    protocol_type: str
    state: str
    type: str
    coordinator: int


@dataclass(frozen=True, slots=True)
class GroupMemberDescription:
    """One member of a group, and the partitions that it has."""

    member_id: str
    instance_id: str | None
    client_id: str
    host: str
    assignment: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """A group: its state by Kafka's name, the rule that shares the partitions, its members and its coordinator.

    `epoch` is that of a group of type "consumer" (KIP-848), -1 for others.
    """

    group_id: str
    state: str
    protocol_type: str
    assignor: str
    members: tuple[GroupMemberDescription, ...]
    coordinator: int
    type: str = ""
    epoch: int = -1


class TransactionListing(NamedTuple):
    """A transactional id as a list of them has it: `state` is Kafka's name of the state of its transaction."""

    transactional_id: str
    coordinator: int
    producer_id: int
    state: str


@dataclass(frozen=True, slots=True)
class TransactionDescription:
    """A transactional id and its transaction. Times in ms, `start_time_ms` since the epoch, None if there is none.

    `partitions` are those that it was written to, or, while it ends, those that still miss its marker.
    """

    transactional_id: str
    coordinator: int
    state: str
    producer_id: int
    producer_epoch: int
    timeout_ms: int
    start_time_ms: int | None
    partitions: tuple[TopicPartition, ...]


class ProducerState(NamedTuple):
    """What a partition knows of one producer. `last_timestamp` in ms since the epoch; `coordinator_epoch` is that of
    the last marker, None before the first; `transaction_start_offset` is where its open transaction begins, if any."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_timestamp: int
    coordinator_epoch: int | None
    transaction_start_offset: int | None


class OpenTransaction(NamedTuple):
    """An open transaction as the partition has it."""

    partition: TopicPartition
    producer: ProducerState
