"""The records of the metadata log. One Raft entry is one compact JSON list of them, applied whole or not at all.

Records state outcomes ("the leader is now 2 at epoch 5"), never wishes, so that applying them needs no decision.
They carry the epochs that result, which lets `apply` check that nothing between was lost. Names and meanings
follow KIP-631 where a record has a counterpart there.
"""

from collections.abc import Sequence
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class MetadataRecord(BaseModel):
    """Immutable. An unknown field or type is refused: it was written by a version that knows more than this one."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BrokerRegistered(MetadataRecord):
    """A broker's registration, which replaces the one before. `listeners` are (name, host, port).

    `previous_epoch`: see `BrokerImage`.
    """

    type: Literal["broker"] = "broker"
    id: int
    epoch: int
    incarnation: str
    listeners: tuple[tuple[str, str, int], ...]
    rack: str | None = None
    http: str = ""
    fenced: bool = True
    in_controlled_shutdown: bool = False
    previous_epoch: int = -1


class BrokerChanged(MetadataRecord):
    """What is None stays as it is. `epoch` must be the registered one."""

    type: Literal["broker-change"] = "broker-change"
    id: int
    epoch: int
    fenced: bool | None = None
    in_controlled_shutdown: bool | None = None


class BrokerUnregistered(MetadataRecord):
    """The broker is not of the cluster any more, until it registers again. `epoch` must be the registered one."""

    type: Literal["broker-remove"] = "broker-remove"
    id: int
    epoch: int


class BrokerAway(MetadataRecord):
    """For how many ms controllers have seen that this broker is fenced, leaving, or not registered though it holds
    replicas; 0 for one that is nothing of that. It is over, without a record, when the broker is unfenced."""

    type: Literal["broker-away"] = "broker-away"
    id: int
    for_ms: int = Field(ge=0)


class TopicCreated(MetadataRecord):
    """A topic, still without partitions: they follow in the same entry, in order."""

    type: Literal["topic"] = "topic"
    id: UUID
    name: str
    internal: bool = False


class PartitionCreated(MetadataRecord):
    """A new partition; in a snapshot one as it is, with the reassignment that is under way."""

    type: Literal["partition"] = "partition"
    topic_id: UUID
    partition: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    leader: int
    leader_epoch: int = 0
    partition_epoch: int = 0
    elr: tuple[int, ...] = ()
    last_known_leader: int = -1
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()
    automatic: bool = False


class PartitionChanged(MetadataRecord):
    """The state of a partition after a change. `isr` and `replicas` None mean as before; all else is always the whole.
    `partition_epoch` grows by one."""

    type: Literal["partition-change"] = "partition-change"
    topic_id: UUID
    partition: int
    isr: tuple[int, ...] | None = None
    leader: int
    leader_epoch: int
    partition_epoch: int
    elr: tuple[int, ...] = ()
    last_known_leader: int = -1
    replicas: tuple[int, ...] | None = None
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()
    automatic: bool = False


class TopicDeleted(MetadataRecord):
    """The topic, its partitions and its configs are gone."""

    type: Literal["topic-delete"] = "topic-delete"
    id: UUID


class ConfigChanged(MetadataRecord):
    """`value` None removes the key, so that the default holds again."""

    type: Literal["config"] = "config"
    kind: str
    name: str
    key: str
    value: str | None = None


class ProducerIdsAllocated(MetadataRecord):
    """All ids below `next_producer_id` are given away (KIP-730). The broker is named for the reader's sake."""

    type: Literal["producer-ids"] = "producer-ids"
    node_id: int
    broker_epoch: int
    next_producer_id: int


class FeatureChanged(MetadataRecord):
    """The finalised level of a feature, 0 for one that is not in use (KIP-584). `epoch`, in a snapshot, is the Raft
    index of the last change of any feature; in the log it is that of the entry, and -1 here."""

    type: Literal["feature"] = "feature"
    name: str
    level: int = Field(ge=0, le=32767)
    epoch: int = -1


Record = Annotated[
    BrokerRegistered
    | BrokerChanged
    | BrokerUnregistered
    | BrokerAway
    | TopicCreated
    | PartitionCreated
    | PartitionChanged
    | TopicDeleted
    | ConfigChanged
    | ProducerIdsAllocated
    | FeatureChanged,
    Field(discriminator="type"),
]

_ENTRY: TypeAdapter[list[Record]] = TypeAdapter(list[Record])


def encode_records(records: Sequence[Record]) -> bytes:
    """One Raft entry. What has its default value is left out, except the type."""
    return b"[" + b",".join(_encode(record) for record in records) + b"]"


def _encode(record: Record) -> bytes:
    fields = record.model_dump_json(exclude_defaults=True)
    head = f'{{"type":"{record.type}"'
    return (head + ("," + fields[1:] if len(fields) > 2 else "}")).encode()


def decode_records(data: bytes) -> list[Record]:
    """The records of one entry. Raises pydantic.ValidationError: a committed entry that does not parse is either
    damage or the work of a newer version, and both must stop the node."""
    return _ENTRY.validate_json(data)
