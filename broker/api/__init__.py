"""The APIs that a broker serves: one module each, and one table, from which dispatch and ApiVersions come.

ApiVersions itself (key 18, v0-v4) is answered by the registry. An exception that leaves a handler is our own fault: the
server logs it and closes that one connection.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from ottla.broker.api import (
    add_offsets_to_txn,
    add_partitions_to_txn,
    add_raft_voter,
    alter_client_quotas,
    alter_configs,
    alter_partition_reassignments,
    alter_replica_log_dirs,
    consumer_group_describe,
    consumer_group_heartbeat,
    create_partitions,
    create_topics,
    delete_groups,
    delete_records,
    delete_topics,
    describe_client_quotas,
    describe_cluster,
    describe_configs,
    describe_groups,
    describe_log_dirs,
    describe_producers,
    describe_quorum,
    describe_topic_partitions,
    describe_transactions,
    elect_leaders,
    end_txn,
    fetch,
    find_coordinator,
    heartbeat,
    incremental_alter_configs,
    init_producer_id,
    join_group,
    leave_group,
    list_config_resources,
    list_groups,
    list_offsets,
    list_partition_reassignments,
    list_transactions,
    metadata,
    offset_commit,
    offset_delete,
    offset_fetch,
    offset_for_leader_epoch,
    produce,
    remove_raft_voter,
    sasl_authenticate,
    sasl_handshake,
    sync_group,
    txn_offset_commit,
    unregister_broker,
    update_features,
    write_txn_markers,
)
from ottla.broker.context import BrokerContext
from ottla.wire import (
    Api,
    Parser,
    Registry,
    Request,
    parse_fetch_request,
    parse_produce_request,
    request_type,
    response_type,
)

KIB = 1024
MIB = 1024 * KIB


class Row(NamedTuple):
    """One API. `limit` is the largest request in bytes, None for the server's; `serial` as in `ottla.wire.Api`."""

    key: int
    name: str
    versions: tuple[int, int]
    handle: Callable[[BrokerContext, Request], Any]
    parser: Parser | None = None
    limit: int | None = None
    serial: bool = False


TABLE = (
    Row(0, "Produce", (3, 13), produce.handle, parse_produce_request),
    # Serial, as everything is in Kafka: many long polls of one connection would all be answered in full at once.
    Row(1, "Fetch", (4, 18), fetch.handle, parse_fetch_request, serial=True),
    Row(2, "ListOffsets", (1, 11), list_offsets.handle),
    Row(3, "Metadata", (0, 13), metadata.handle),
    Row(8, "OffsetCommit", (2, 10), offset_commit.handle),
    Row(9, "OffsetFetch", (1, 10), offset_fetch.handle),
    Row(10, "FindCoordinator", (0, 6), find_coordinator.handle, limit=1 * MIB),
    Row(11, "JoinGroup", (0, 9), join_group.handle),
    Row(12, "Heartbeat", (0, 4), heartbeat.handle, limit=1 * MIB),
    Row(13, "LeaveGroup", (0, 5), leave_group.handle, limit=1 * MIB),
    Row(14, "SyncGroup", (0, 5), sync_group.handle),
    Row(15, "DescribeGroups", (0, 6), describe_groups.handle),
    Row(16, "ListGroups", (0, 5), list_groups.handle, limit=1 * MIB),
    Row(17, "SaslHandshake", (0, 1), sasl_handshake.handle, limit=64 * KIB, serial=True),
    Row(19, "CreateTopics", (2, 7), create_topics.handle),
    Row(20, "DeleteTopics", (1, 6), delete_topics.handle),
    Row(21, "DeleteRecords", (0, 2), delete_records.handle),
    Row(22, "InitProducerId", (0, 6), init_producer_id.handle, limit=64 * KIB),
    Row(23, "OffsetForLeaderEpoch", (2, 4), offset_for_leader_epoch.handle),
    Row(24, "AddPartitionsToTxn", (0, 5), add_partitions_to_txn.handle),
    Row(25, "AddOffsetsToTxn", (0, 4), add_offsets_to_txn.handle, limit=1 * MIB),
    Row(26, "EndTxn", (0, 5), end_txn.handle, limit=1 * MIB),
    Row(27, "WriteTxnMarkers", (1, 2), write_txn_markers.handle),
    Row(28, "TxnOffsetCommit", (0, 5), txn_offset_commit.handle),
    Row(32, "DescribeConfigs", (1, 4), describe_configs.handle),
    Row(33, "AlterConfigs", (0, 2), alter_configs.handle),
    Row(34, "AlterReplicaLogDirs", (1, 2), alter_replica_log_dirs.handle),
    Row(35, "DescribeLogDirs", (1, 5), describe_log_dirs.handle),
    Row(36, "SaslAuthenticate", (0, 2), sasl_authenticate.handle, limit=64 * KIB, serial=True),
    Row(37, "CreatePartitions", (0, 3), create_partitions.handle),
    Row(42, "DeleteGroups", (0, 2), delete_groups.handle),
    Row(43, "ElectLeaders", (0, 2), elect_leaders.handle),
    Row(44, "IncrementalAlterConfigs", (0, 1), incremental_alter_configs.handle),
    Row(45, "AlterPartitionReassignments", (0, 1), alter_partition_reassignments.handle),
    Row(46, "ListPartitionReassignments", (0, 0), list_partition_reassignments.handle),
    Row(47, "OffsetDelete", (0, 0), offset_delete.handle),
    Row(48, "DescribeClientQuotas", (0, 1), describe_client_quotas.handle, limit=1 * MIB),
    Row(49, "AlterClientQuotas", (0, 1), alter_client_quotas.handle, limit=1 * MIB),
    Row(55, "DescribeQuorum", (0, 2), describe_quorum.handle, limit=1 * MIB),
    Row(57, "UpdateFeatures", (0, 2), update_features.handle, limit=64 * KIB),
    Row(60, "DescribeCluster", (0, 2), describe_cluster.handle, limit=64 * KIB),
    Row(61, "DescribeProducers", (0, 0), describe_producers.handle, limit=1 * MIB),
    Row(64, "UnregisterBroker", (0, 0), unregister_broker.handle, limit=64 * KIB),
    Row(65, "DescribeTransactions", (0, 0), describe_transactions.handle, limit=1 * MIB),
    Row(66, "ListTransactions", (0, 2), list_transactions.handle, limit=1 * MIB),
    Row(68, "ConsumerGroupHeartbeat", (0, 1), consumer_group_heartbeat.handle, limit=1 * MIB),
    Row(69, "ConsumerGroupDescribe", (0, 1), consumer_group_describe.handle, limit=1 * MIB),
    Row(74, "ListConfigResources", (0, 1), list_config_resources.handle, limit=64 * KIB),
    Row(75, "DescribeTopicPartitions", (0, 0), describe_topic_partitions.handle),
    Row(80, "AddRaftVoter", (0, 1), add_raft_voter.handle, limit=64 * KIB),
    Row(81, "RemoveRaftVoter", (0, 0), remove_raft_voter.handle, limit=64 * KIB),
)


def load_schemas(*, every_version: bool = False) -> None:
    """Import the message schemas: of the first and the last version of each API, which the registry needs, or of all.

    A running event loop stands still for an import, so it is done before anybody waits for this node.
    """
    for row in TABLE:
        first, last = row.versions
        for version in range(first, last + 1) if every_version else row.versions:
            request_type(row.key, version)
            response_type(row.key, version)


def build_registry(context: BrokerContext, registry: Registry | None = None) -> Registry:
    """The table's APIs, answering from `context`."""
    registry = Registry() if registry is None else registry
    for row in TABLE:
        registry.add(
            Api(
                row.key,
                row.name,
                *row.versions,
                handler=partial(row.handle, context),
                parser=row.parser,
                max_request_bytes=row.limit,
                serial=row.serial,
            )
        )
    return registry
