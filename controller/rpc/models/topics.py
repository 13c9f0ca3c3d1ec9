"""Topics that come, go and grow."""

from collections.abc import Mapping
from uuid import UUID

from pydantic import Field

from ottla.controller.rpc.models.base import RpcModel, RpcRequest, RpcResponse


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
