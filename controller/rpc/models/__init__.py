"""Requests between a node and the active controller, and their answers.

Every request names its answer's type, so that a caller gets the right one back from `ControllerClient.call`.
Every answer carries `error` (a Kafka error code, 0 for none), `message` for a person, and `offset`: the Raft
index from which on a node's metadata image shows what the answer says, changed or not (-1 when no controller
decided). A node that is not the active controller answers NOT_CONTROLLER, with a hint in `controller_id`.

Answers per item come in the order of the items asked for, whatever their fate.
"""

from collections.abc import Mapping
from types import MappingProxyType

from ottla.controller.rpc.models.base import AnyRequest, R, RpcModel, RpcRequest, RpcResponse
from ottla.controller.rpc.models.brokers import (
    AllocateProducerIds,
    AllocateProducerIdsResponse,
    Heartbeat,
    HeartbeatResponse,
    ListenerModel,
    RegisterBroker,
    RegisterBrokerResponse,
    UnregisterBroker,
    UnregisterBrokerResponse,
)
from ottla.controller.rpc.models.configs import (
    AlterClientQuotas,
    AlterClientQuotasResponse,
    ClientQuotaEntry,
    ClientQuotaOp,
    ClientQuotaResult,
    ConfigKind,
    ConfigOp,
    ConfigResourceOps,
    ConfigResult,
    IncrementalAlterConfigs,
    IncrementalAlterConfigsResponse,
    QuotaEntity,
)
from ottla.controller.rpc.models.features import FeatureUpdate, UpdateFeatures, UpdateFeaturesResponse
from ottla.controller.rpc.models.partitions import (
    AlterPartition,
    AlterPartitionReassignments,
    AlterPartitionReassignmentsResponse,
    AlterPartitionResponse,
    ElectLeaders,
    ElectLeadersResponse,
    IsrMember,
    PartitionIsr,
    PartitionIsrResult,
    PartitionName,
    PartitionResult,
    ReadBarrier,
    ReadBarrierResponse,
    Reassignment,
)
from ottla.controller.rpc.models.topics import (
    CreatePartitions,
    CreatePartitionsResponse,
    CreateTopics,
    CreateTopicsResponse,
    DeleteTopics,
    DeleteTopicsResponse,
    MorePartitions,
    NewTopic,
    TopicRef,
    TopicResult,
)
from ottla.controller.rpc.models.voters import (
    AddRaftVoter,
    ChangeVotersResponse,
    FindVoters,
    FindVotersResponse,
    RemoveRaftVoter,
)

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


__all__ = [
    "OF_NODES",
    "REQUESTS",
    "AddRaftVoter",
    "AllocateProducerIds",
    "AllocateProducerIdsResponse",
    "AlterClientQuotas",
    "AlterClientQuotasResponse",
    "AlterPartition",
    "AlterPartitionReassignments",
    "AlterPartitionReassignmentsResponse",
    "AlterPartitionResponse",
    "AnyRequest",
    "ChangeVotersResponse",
    "ClientQuotaEntry",
    "ClientQuotaOp",
    "ClientQuotaResult",
    "ConfigKind",
    "ConfigOp",
    "ConfigResourceOps",
    "ConfigResult",
    "CreatePartitions",
    "CreatePartitionsResponse",
    "CreateTopics",
    "CreateTopicsResponse",
    "DeleteTopics",
    "DeleteTopicsResponse",
    "ElectLeaders",
    "ElectLeadersResponse",
    "FeatureUpdate",
    "FindVoters",
    "FindVotersResponse",
    "Heartbeat",
    "HeartbeatResponse",
    "IncrementalAlterConfigs",
    "IncrementalAlterConfigsResponse",
    "IsrMember",
    "ListenerModel",
    "MorePartitions",
    "NewTopic",
    "PartitionIsr",
    "PartitionIsrResult",
    "PartitionName",
    "PartitionResult",
    "QuotaEntity",
    "R",
    "ReadBarrier",
    "ReadBarrierResponse",
    "Reassignment",
    "RegisterBroker",
    "RegisterBrokerResponse",
    "RemoveRaftVoter",
    "RpcModel",
    "RpcRequest",
    "RpcResponse",
    "TopicRef",
    "TopicResult",
    "UnregisterBroker",
    "UnregisterBrokerResponse",
    "UpdateFeatures",
    "UpdateFeaturesResponse",
]
