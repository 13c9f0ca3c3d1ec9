"""All requests that there are."""

from collections.abc import Mapping
from types import MappingProxyType

from ottla.controller.rpc.models.base import AnyRequest
from ottla.controller.rpc.models.brokers import AllocateProducerIds, Heartbeat, RegisterBroker, UnregisterBroker
from ottla.controller.rpc.models.configs import AlterClientQuotas, IncrementalAlterConfigs
from ottla.controller.rpc.models.features import UpdateFeatures
from ottla.controller.rpc.models.partitions import (
    AlterPartition,
    AlterPartitionReassignments,
    ElectLeaders,
    ReadBarrier,
)
from ottla.controller.rpc.models.topics import CreatePartitions, CreateTopics, DeleteTopics
from ottla.controller.rpc.models.voters import AddRaftVoter, FindVoters, RemoveRaftVoter

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
