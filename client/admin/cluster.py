"""DescribeCluster and DescribeQuorum."""

from __future__ import annotations

from typing import Any, Final

from kio.schema.errors import ErrorCode

from ottla.client.errors import UnsupportedVersionError, error_for
from ottla.client.network import Network
from ottla.client.structs import BrokerMetadata, ClusterDescription, QuorumDescription, QuorumReplica

DESCRIBE_QUORUM: Final = 55
DESCRIBE_CLUSTER: Final = 60
METADATA_TOPIC: Final = "__cluster_metadata"
PATIENCE: Final = 2.0


async def describe(network: Network, timeout: float) -> ClusterDescription:
    """DescribeCluster (key 60), versions 0 and 1; from Metadata where brokers do not have it."""
    try:
        answer = await network.call_any(DESCRIBE_CLUSTER, (0, 1), {}, timeout=timeout, patience=PATIENCE)
    except UnsupportedVersionError:
        answer = await network.fetch_metadata((), timeout)
        brokers = tuple(BrokerMetadata(b.node_id, b.host, b.port, b.rack) for b in answer.brokers)
        return ClusterDescription(answer.cluster_id or "", answer.controller_id, brokers)
    if answer.error_code is not ErrorCode.none:
        raise error_for(answer.error_code, answer.error_message)
    brokers = tuple(BrokerMetadata(b.broker_id, b.host, b.port, b.rack) for b in answer.brokers)
    return ClusterDescription(answer.cluster_id, answer.controller_id, brokers)


async def describe_quorum(network: Network, timeout: float) -> QuorumDescription:
    """DescribeQuorum (key 55), versions 0 to 2."""
    values = {"topics": [{"topic_name": METADATA_TOPIC, "partitions": [{"partition_index": 0}]}]}
    answer = await network.call_any(
        DESCRIBE_QUORUM,
        (0, 2),
        values,
        timeout=timeout,
        patience=PATIENCE,
        retry_if=lambda a: a.error_code if a.error_code.retriable else None,
    )
    if answer.error_code is not ErrorCode.none:
        raise error_for(answer.error_code, getattr(answer, "error_message", None))
    for topic in answer.topics:
        for partition in topic.partitions:
            if partition.error_code is not ErrorCode.none:
                raise error_for(partition.error_code, getattr(partition, "error_message", None))
            return QuorumDescription(
                partition.leader_id,
                partition.leader_epoch,
                partition.high_watermark,
                tuple(_replica(r) for r in partition.current_voters),
                tuple(_replica(r) for r in partition.observers),
            )
    raise error_for(ErrorCode.unknown_server_error, "the answer describes no quorum")


def _replica(raw: Any) -> QuorumReplica:
    return QuorumReplica(
        raw.replica_id,
        raw.log_end_offset,
        getattr(raw, "last_fetch_timestamp", -1),
        getattr(raw, "last_caught_up_timestamp", -1),
    )
