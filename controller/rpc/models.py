"""Requests between a node and the active controller, and their answers.

Every request names its answer's type, so that a caller gets the right one back from `ControllerClient.call`.
Every answer carries `error` (a Kafka error code, 0 for none), `message` for a person, and `offset`: the Raft
index from which on a node's metadata image shows what the answer says, changed or not (-1 when no controller
decided). A node that is not the active controller answers NOT_CONTROLLER, with a hint in `controller_id`.

Answers per item come in the order of the items asked for, whatever their fate.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class RpcModel(BaseModel):
    """Immutable, and strict about names: a field that is not known is a mistake or an attack."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RpcResponse(RpcModel):
    """What every answer carries. `error` speaks of the request as a whole; items have their own."""

    error: int = 0
    message: str | None = None
    offset: int = -1
    controller_id: int | None = None


R = TypeVar("R", bound=RpcResponse)


class RpcRequest(RpcModel, Generic[R]):
    """A request whose answer is an `R`. `response_type` is that same type, for the code that decodes it."""

    response_type: ClassVar[type[RpcResponse]]


# Brokers


class ListenerModel(RpcModel):
    """One advertised listener: clients are told to come to `host`:`port`."""

    name: str
    host: str
    port: int = Field(ge=0, le=65535)


class RegisterBrokerResponse(RpcResponse):
    """`epoch` is the broker's epoch from now on; it goes into every later request of this incarnation."""

    epoch: int = -1


class RegisterBroker(RpcRequest[RegisterBrokerResponse]):
    """A broker process has started (KIP-500, KIP-631).

    `incarnation` is drawn once per process. `clean_shutdown` says that the last process on this directory closed
    its logs; `previous_epoch` is the epoch under which it did (-1 unknown), as in KIP-966.
    """

    response_type = RegisterBrokerResponse
    node_id: int = Field(ge=0)
    incarnation: str
    cluster_id: str
    listeners: tuple[ListenerModel, ...]
    rack: str | None = None
    http: str = ""
    clean_shutdown: bool = False
    previous_epoch: int = -1


class HeartbeatResponse(RpcResponse):
    """`session_ms`: the broker is fenced when no heartbeat has come for so long."""

    fenced: bool = True
    should_shutdown: bool = False
    session_ms: int = 0


class Heartbeat(RpcRequest[HeartbeatResponse]):
    """`applied_offset`: Raft index up to which the broker has applied the metadata."""

    response_type = HeartbeatResponse
    node_id: int
    epoch: int
    applied_offset: int
    want_shutdown: bool = False


class AllocateProducerIdsResponse(RpcResponse):
    """The ids `first` to `first + count - 1` belong to the asking broker."""

    first: int = -1
    count: int = 0


class AllocateProducerIds(RpcRequest[AllocateProducerIdsResponse]):
    """A block of producer ids that nobody else was or will be given (KIP-730)."""

    response_type = AllocateProducerIdsResponse
    node_id: int
    broker_epoch: int


class UnregisterBrokerResponse(RpcResponse):
    """`error` and `message` say it all."""


class UnregisterBroker(RpcRequest[UnregisterBrokerResponse]):
    """A broker that will not come back is taken out of the cluster (KIP-500)."""

    response_type = UnregisterBrokerResponse
    broker_id: int


# The metadata quorum


class ChangeVotersResponse(RpcResponse):
    """`error` and `message` say it all."""


class AddRaftVoter(RpcRequest[ChangeVotersResponse]):
    """A node that replicates the metadata log becomes a voter (KIP-853). An empty `directory_id` is any."""

    response_type = ChangeVotersResponse
    voter_id: int
    directory_id: str = ""
    host: str
    port: int


class RemoveRaftVoter(RpcRequest[ChangeVotersResponse]):
    """A voter becomes a node that only replicates."""

    response_type = ChangeVotersResponse
    voter_id: int
    directory_id: str = ""


class FindVotersResponse(RpcResponse):
    """Who votes, as far as the node that answers knows: (node id, host, port) of each."""

    voters: tuple[tuple[int, str, int], ...] = ()


class FindVoters(RpcRequest[FindVotersResponse]):
    """Who votes? The one request for whoever listens at an address, and every node answers it (KIP-853)."""

    response_type = FindVotersResponse


# In-sync replicas


class IsrMember(RpcModel):
    """A replica with the epoch under which the leader has seen it fetch (KIP-903)."""

    id: int
    broker_epoch: int


class PartitionIsr(RpcModel):
    """The ISR that the leader of a partition wishes for, and the state on which it based the wish."""

    topic_id: UUID
    partition: int
    leader_epoch: int
    partition_epoch: int
    new_isr: tuple[IsrMember, ...]


class PartitionIsrResult(RpcModel):
    """The partition's state after the change. With an error that the leader may ask about again, its present state."""

    topic_id: UUID
    partition: int
    error: int = 0
    leader: int = -1
    leader_epoch: int = -1
    isr: tuple[int, ...] = ()
    partition_epoch: int = -1


class AlterPartitionResponse(RpcResponse):
    partitions: tuple[PartitionIsrResult, ...] = ()


class AlterPartition(RpcRequest[AlterPartitionResponse]):
    """A leader's changes to the ISRs of its partitions (KIP-497)."""

    response_type = AlterPartitionResponse
    node_id: int
    broker_epoch: int
    partitions: tuple[PartitionIsr, ...]


class PartitionName(RpcModel):
    topic: str
    partition: int


class PartitionResult(RpcModel):
    topic: str
    partition: int
    error: int = 0
    message: str | None = None


class ElectLeadersResponse(RpcResponse):
    """When all partitions were asked for, those that needed no election are left out (as Kafka does)."""

    results: tuple[PartitionResult, ...] = ()


class ElectLeaders(RpcRequest[ElectLeadersResponse]):
    """KIP-460. `partitions` None means all. "unclean" may choose a leader outside the ISR, when there is no other."""

    response_type = ElectLeadersResponse
    election: Literal["preferred", "unclean"] = "preferred"
    partitions: tuple[PartitionName, ...] | None = None


class Reassignment(RpcModel):
    """The replicas that a partition shall have, in order of preference; None ends what is under way."""

    topic: str
    partition: int
    replicas: tuple[int, ...] | None


class AlterPartitionReassignmentsResponse(RpcResponse):
    partitions: tuple[PartitionResult, ...] = ()


class AlterPartitionReassignments(RpcRequest[AlterPartitionReassignmentsResponse]):
    """KIP-455. Without `allow_replication_factor_change` there must be as many replicas as before (KIP-860)."""

    response_type = AlterPartitionReassignmentsResponse
    partitions: tuple[Reassignment, ...]
    allow_replication_factor_change: bool = True


class ReadBarrierResponse(RpcResponse):
    """`offset` is all that it says."""


class ReadBarrier(RpcRequest[ReadBarrierResponse]):
    """Up to where a node must have applied the metadata to know all that was decided when this was asked."""

    response_type = ReadBarrierResponse


# Topics


class NewTopic(RpcModel):
    """-1 for `partitions` or `replication_factor` means the cluster's default; both are -1 with `assignments`.

    `assignments` maps partition to its replicas in order of preference.
    """

    name: str
    partitions: int = -1
    replication_factor: int = -1
    assignments: Mapping[int, tuple[int, ...]] | None = None
    configs: Mapping[str, str | None] = Field(default_factory=dict)
    internal: bool = False


class TopicResult(RpcModel):
    name: str | None = None
    topic_id: UUID | None = None
    error: int = 0
    message: str | None = None
    partitions: int = -1
    replication_factor: int = -1


class CreateTopicsResponse(RpcResponse):
    topics: tuple[TopicResult, ...] = ()


class CreateTopics(RpcRequest[CreateTopicsResponse]):
    response_type = CreateTopicsResponse
    topics: tuple[NewTopic, ...]
    validate_only: bool = False


class TopicRef(RpcModel):
    """A topic by its name or by its id, not both (KIP-516)."""

    name: str | None = None
    topic_id: UUID | None = None


class DeleteTopicsResponse(RpcResponse):
    topics: tuple[TopicResult, ...] = ()


class DeleteTopics(RpcRequest[DeleteTopicsResponse]):
    response_type = DeleteTopicsResponse
    topics: tuple[TopicRef, ...]


class MorePartitions(RpcModel):
    """`count` is the new total. `assignments` has the replicas of each new partition, in order."""

    name: str
    count: int
    assignments: tuple[tuple[int, ...], ...] | None = None


class CreatePartitionsResponse(RpcResponse):
    topics: tuple[TopicResult, ...] = ()


class CreatePartitions(RpcRequest[CreatePartitionsResponse]):
    """KIP-195."""

    response_type = CreatePartitionsResponse
    topics: tuple[MorePartitions, ...]
    validate_only: bool = False


# Configs


ConfigKind = Literal["topic", "broker", "group"]


class ConfigOp(RpcModel):
    """KIP-339. "append" and "subtract" are for lists: `value` is comma-separated."""

    key: str
    op: Literal["set", "delete", "append", "subtract"]
    value: str | None = None


class ConfigResourceOps(RpcModel):
    """`kind` "topic", "group" or "broker"; the broker named "" is the default of all brokers. `replace`: what is
    not set here goes (AlterConfigs)."""

    kind: ConfigKind
    name: str
    ops: tuple[ConfigOp, ...]
    replace: bool = False


class ConfigResult(RpcModel):
    kind: ConfigKind
    name: str
    error: int = 0
    message: str | None = None


class IncrementalAlterConfigsResponse(RpcResponse):
    resources: tuple[ConfigResult, ...] = ()


class IncrementalAlterConfigs(RpcRequest[IncrementalAlterConfigsResponse]):
    """Each resource is changed wholly or not at all."""

    response_type = IncrementalAlterConfigsResponse
    resources: tuple[ConfigResourceOps, ...]
    validate_only: bool = False


QuotaEntity = tuple[tuple[str, str | None], ...]
"""Parts of an entity, (type, name); a name of None stands for the default."""


class ClientQuotaOp(RpcModel):
    """`value` None removes the quota."""

    key: str
    value: float | None


class ClientQuotaEntry(RpcModel):
    entity: QuotaEntity
    ops: tuple[ClientQuotaOp, ...]


class ClientQuotaResult(RpcModel):
    entity: QuotaEntity
    error: int = 0
    message: str | None = None


class AlterClientQuotasResponse(RpcResponse):
    entries: tuple[ClientQuotaResult, ...] = ()


class AlterClientQuotas(RpcRequest[AlterClientQuotasResponse]):
    """Each entry is changed wholly or not at all."""

    response_type = AlterClientQuotasResponse
    entries: tuple[ClientQuotaEntry, ...]
    validate_only: bool = False


# Features


class FeatureUpdate(RpcModel):
    """The finalised level that a feature is to have; 0 takes it out of use. `upgrade_type` is Kafka's: 1 only up, 2
    down without a loss, 3 down at any price."""

    feature: str
    level: int
    upgrade_type: int = 1


class UpdateFeaturesResponse(RpcResponse):
    """`error` and `message` say it all."""


class UpdateFeatures(RpcRequest[UpdateFeaturesResponse]):
    """KIP-584. All features are changed or none."""

    response_type = UpdateFeaturesResponse
    updates: tuple[FeatureUpdate, ...]
    validate_only: bool = False


AnyRequest = RpcRequest[Any]

# By name, as it stands in the path of the HTTP request.
REQUESTS: Mapping[str, type[AnyRequest]] = MappingProxyType(
    {
        request.__name__: request
        for request in (
            RegisterBroker,
            Heartbeat,
            AllocateProducerIds,
            AlterPartition,
            ElectLeaders,
            AlterPartitionReassignments,
            ReadBarrier,
            UnregisterBroker,
            AddRaftVoter,
            RemoveRaftVoter,
            FindVoters,
            CreateTopics,
            DeleteTopics,
            CreatePartitions,
            IncrementalAlterConfigs,
            AlterClientQuotas,
            UpdateFeatures,
        )
    }
)

# What nodes themselves have to say. Room is kept for these when clients' requests take all there is: a broker whose
# heartbeats find no place would be fenced.
OF_NODES: tuple[type[AnyRequest], ...] = (RegisterBroker, Heartbeat, AllocateProducerIds, AlterPartition, FindVoters)
