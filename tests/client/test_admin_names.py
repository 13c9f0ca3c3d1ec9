"""Admin against Kafka's interface of that name: each of its methods is there in snake_case, or a reason why not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ottla.client import Admin

# org.apache.kafka.clients.admin.Admin of Kafka 4.1.1.
KAFKAS = """
abortTransaction addRaftVoter alterClientQuotas alterConsumerGroupOffsets alterPartitionReassignments
alterReplicaLogDirs alterShareGroupOffsets alterStreamsGroupOffsets alterUserScramCredentials clientInstanceId close
create createAcls createDelegationToken createPartitions createTopics deleteAcls deleteConsumerGroupOffsets
deleteConsumerGroups deleteRecords deleteShareGroupOffsets deleteShareGroups deleteStreamsGroupOffsets
deleteStreamsGroups deleteTopics describeAcls describeClassicGroups describeClientQuotas describeCluster
describeConfigs describeConsumerGroups describeDelegationToken describeFeatures describeLogDirs describeMetadataQuorum
describeProducers describeReplicaLogDirs describeShareGroups describeStreamsGroups describeTopics describeTransactions
describeUserScramCredentials electLeaders expireDelegationToken fenceProducers forceTerminateTransaction
incrementalAlterConfigs listClientMetricsResources listConfigResources listConsumerGroupOffsets listConsumerGroups
listGroups listOffsets listPartitionReassignments listShareGroupOffsets listStreamsGroupOffsets listTopics
listTransactions metrics registerMetricForSubscription removeMembersFromConsumerGroup removeRaftVoter
renewDelegationToken unregisterBroker unregisterMetricFromSubscription updateFeatures
"""

ABSENT = {
    r"create": "is the constructor",
    r"\w+_share_groups?(_offsets)?": "share groups (KIP-932) are not implemented",
    r"\w+_streams_groups?(_offsets)?": "streams groups (KIP-1071) are not implemented",
    r"\w+_acls": "brokers have no authorizer",
    r"\w+_delegation_token": "clients do not authenticate themselves",
    r"\w+_user_scram_credentials": "clients do not authenticate themselves",
    r"client_instance_id|metrics|\w+_metric_(for|from)_subscription": "brokers take no metrics of clients (KIP-714)",
    r"list_client_metrics_resources": "list_config_resources took its place (KIP-1142)",
}
OURS = {
    "start": "a constructor cannot be awaited",
    "alter_configs": "in Kafka until 4.0 dropped it; brokers serve it",
    "find_hanging_transactions": "in Kafka a part of kafka-transactions.sh",
    "try_alter_partition_reassignments": "the outcome of each partition; in Kafka a future of each",
    "try_list_offsets": "the outcome of each partition; in Kafka a future of each",
}


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _absent(name: str) -> Iterator[str]:
    return (pattern for pattern in ABSENT if re.fullmatch(pattern, name))


def _methods() -> set[str]:
    return {name for name in dir(Admin) if not name.startswith("_")}


def test_every_method_of_kafkas_is_there_or_has_its_reason() -> None:
    names = {_snake(name) for name in KAFKAS.split()}
    there = _methods()
    assert {name for name in names - there if not any(_absent(name))} == set()
    assert {name for name in names & there if any(_absent(name))} == set(), "a reason for what is there"


def test_every_reason_is_for_something() -> None:
    used = {pattern for name in KAFKAS.split() for pattern in _absent(_snake(name))}
    assert ABSENT.keys() == used


def test_what_kafka_does_not_have_says_why() -> None:
    assert _methods() - {_snake(name) for name in KAFKAS.split()} == OURS.keys()
