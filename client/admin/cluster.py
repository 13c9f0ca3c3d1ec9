"""DescribeCluster and DescribeQuorum."""

from __future__ import annotations

from typing import Any, Final

from kio.schema.errors import ErrorCode

from ottla.client.errors import KafkaConnectionError, KafkaTimeoutError, UnsupportedVersionError, error_for
from ottla.client.network import Network
from ottla.client.structs import BrokerMetadata, ClusterDescription, QuorumDescription, QuorumReplica

DESCRIBE_QUORUM: Final = 55
DESCRIBE_CLUSTER: Final = 60
METADATA_TOPIC: Final = "__cluster_metadata"
PATIENCE: Final = 2.0

DESCRIBE_QUORUM_VERSIONS: Final = (0, 2)
_QUESTION: Final = {"topics": [{"topic_name": METADATA_TOPIC, "partitions": [{"partition_index": 0}]}]}


async def describe(network: Network, timeout: float, *, include_fenced_brokers: bool = False) -> ClusterDescription:
    """DescribeCluster (key 60), versions 0 to 2, the last for fenced brokers; from Metadata where brokers do not have
    it."""
    versions, values = ((2, 2), {"include_fenced_brokers": True}) if include_fenced_brokers else ((0, 2), {})
    try:
        answer = await network.call_any(DESCRIBE_CLUSTER, versions, values, timeout=timeout, patience=PATIENCE)
    except UnsupportedVersionError:
        if include_fenced_brokers:
            raise
        answer = (await network.fetch_metadata((), timeout)).answer
        brokers = tuple(BrokerMetadata(b.node_id, b.host, b.port, b.rack) for b in answer.brokers)
        return ClusterDescription(answer.cluster_id or "", answer.controller_id, brokers)
    if answer.error_code is not ErrorCode.none:
        raise error_for(answer.error_code, answer.error_message)
    brokers = tuple(
        BrokerMetadata(b.broker_id, b.host, b.port, b.rack, getattr(b, "is_fenced", False)) for b in answer.brokers
    )
    return ClusterDescription(answer.cluster_id, answer.controller_id, brokers)


async def describe_metadata_quorum(network: Network, timeout: float) -> QuorumDescription:
    """DescribeQuorum (key 55), versions 0 to 2.

    A broker that does not pass the question on to the active controller names it, and that one is asked then. If it
    is no broker or does not answer, the first broker's view stands: leader and term, without log end offsets.
    """
    answer = await network.call_any(
        DESCRIBE_QUORUM,
        DESCRIBE_QUORUM_VERSIONS,
        _QUESTION,
        timeout=timeout,
        patience=PATIENCE,
        retry_if=lambda a: a.error_code if a.error_code.retriable else None,
    )
    partition = _quorum(answer)
    if partition.error_code is ErrorCode.not_leader_or_follower and partition.leader_id in network.metadata.brokers:
        try:
            answer = await network.call(
                partition.leader_id, DESCRIBE_QUORUM, DESCRIBE_QUORUM_VERSIONS, _QUESTION, timeout=PATIENCE
            )
            told = _quorum(answer)
        except (KafkaConnectionError, KafkaTimeoutError):
            told = partition
        # A term that has ended meanwhile is not worth more than the view that led there.
        partition = told if told.leader_epoch >= partition.leader_epoch else partition
    # The error only says that the answer is not the leader's own; what it tells is as good as it was asked for.
    if partition.error_code not in (ErrorCode.none, ErrorCode.not_leader_or_follower) or partition.leader_epoch < 0:
        raise error_for(partition.error_code, getattr(partition, "error_message", None))
    return QuorumDescription(
        partition.leader_id,
        partition.leader_epoch,
        partition.high_watermark,
        tuple(_replica(r) for r in partition.current_voters),
        tuple(_replica(r) for r in partition.observers),
    )


def _quorum(answer: Any) -> Any:
    """The one partition that was asked about. Raises what the answer says as a whole."""
    if answer.error_code is not ErrorCode.none:
        raise error_for(answer.error_code, getattr(answer, "error_message", None))
    for topic in answer.topics:
        for partition in topic.partitions:
            return partition
    raise error_for(ErrorCode.unknown_server_error, "the answer describes no quorum")


def _replica(raw: Any) -> QuorumReplica:
    return QuorumReplica(
        raw.replica_id,
        raw.log_end_offset,
        getattr(raw, "last_fetch_timestamp", -1),
        getattr(raw, "last_caught_up_timestamp", -1),
        getattr(raw, "replica_directory_id", None),
    )
