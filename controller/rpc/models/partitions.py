"""In-sync replicas, elections, reassignments, and proof that somebody reigns."""

from typing import Literal
from uuid import UUID

from ottla.controller.rpc.models.base import RpcModel, RpcRequest, RpcResponse


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
