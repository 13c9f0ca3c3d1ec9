"""The one place where a request finds its decision."""

from typing import TYPE_CHECKING, Any

from ottla.controller.metadata.brokers import (
    allocate_producer_ids,
    heartbeat,
    register_broker,
    unregister_broker,
)
from ottla.controller.metadata.client_quotas import alter_client_quotas
from ottla.controller.metadata.configs import alter_configs
from ottla.controller.metadata.decision import Decision, Policy
from ottla.controller.metadata.election import NO_REPORTS, elect_leaders
from ottla.controller.metadata.features import update_features
from ottla.controller.metadata.image import MetadataImage
from ottla.controller.metadata.isr import alter_partition
from ottla.controller.metadata.reassignment import alter_reassignments
from ottla.controller.metadata.recovery import Reports
from ottla.controller.metadata.topic_create import create_partitions, create_topics
from ottla.controller.metadata.topic_delete import delete_topics
from ottla.controller.rpc.models.base import AnyRequest
from ottla.controller.rpc.models.brokers import AllocateProducerIds, Heartbeat, RegisterBroker, UnregisterBroker
from ottla.controller.rpc.models.configs import AlterClientQuotas, IncrementalAlterConfigs
from ottla.controller.rpc.models.features import UpdateFeatures
from ottla.controller.rpc.models.partitions import (
    AlterPartition,
    AlterPartitionReassignments,
    ElectLeaders,
    ReadBarrier,
    ReadBarrierResponse,
)
from ottla.controller.rpc.models.topics import CreatePartitions, CreateTopics, DeleteTopics

if TYPE_CHECKING:
    from random import Random


def decide(
    image: MetadataImage,
    policy: Policy,
    request: AnyRequest,
    rng: "Random",
    *,
    session_live: bool = False,
    reports: Reports = NO_REPORTS,
) -> Decision[Any]:
    """Records and answer for any request of `ottla.controller.rpc.models`; the answer is of its `response_type`.

    `session_live`, for RegisterBroker: whether the registered incarnation has lately been heard of. `reports`, for
    Heartbeat: what replicas have told of their logs.
    """
    match request:
        case Heartbeat():
            return heartbeat(image, policy, request, reports)
        case AlterPartition():
            return alter_partition(image, policy, request)
        case RegisterBroker():
            return register_broker(image, policy, request, session_live=session_live)
        case AllocateProducerIds():
            return allocate_producer_ids(image, request)
        case CreateTopics():
            return create_topics(image, policy, request, rng)
        case DeleteTopics():
            return delete_topics(image, request)
        case CreatePartitions():
            return create_partitions(image, policy, request, rng)
        case IncrementalAlterConfigs():
            return alter_configs(image, policy, request)
        case AlterClientQuotas():
            return alter_client_quotas(image, request)
        case UpdateFeatures():
            return update_features(image, request)
        case ElectLeaders():
            return elect_leaders(image, request)
        case AlterPartitionReassignments():
            return alter_reassignments(image, policy, request)
        case UnregisterBroker():
            return unregister_broker(image, policy, request)
        case ReadBarrier():
            return Decision((), ReadBarrierResponse())
    raise TypeError(f"no decision about {type(request).__name__}")
