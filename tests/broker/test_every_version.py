"""Every version of every API is answered in its own schema, for an empty request and for one with content."""

from __future__ import annotations

from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker import TABLE
from ottla.controller import (
    AddRaftVoter,
    AllocateProducerIds,
    AllocateProducerIdsResponse,
    AlterClientQuotas,
    AlterClientQuotasResponse,
    AlterPartitionReassignments,
    AlterPartitionReassignmentsResponse,
    ChangeVotersResponse,
    ClientQuotaResult,
    ConfigResult,
    CreatePartitions,
    CreatePartitionsResponse,
    CreateTopics,
    CreateTopicsResponse,
    DeleteTopics,
    DeleteTopicsResponse,
    ElectLeaders,
    ElectLeadersResponse,
    IncrementalAlterConfigs,
    IncrementalAlterConfigsResponse,
    PartitionResult,
    ReadBarrier,
    ReadBarrierResponse,
    RemoveRaftVoter,
    TopicResult,
    UnregisterBroker,
    UnregisterBrokerResponse,
    UpdateFeatures,
    UpdateFeaturesResponse,
)
from ottla.wire import response_type
from tests.broker.world import World, batch, topic_id, verifications

CASES = [(row, version) for row in TABLE for version in range(row.versions[0], row.versions[1] + 1)]
IDS = [f"{row.name}-v{version}" for row, version in CASES]


def agreeable(world: World) -> None:
    """A controller and other coordinators that say yes to everything."""

    async def in_the_transaction(_node_id: int, _key: int, request: Any) -> Any:
        return verifications(request)

    world.peers.answer = in_the_transaction

    def topics(request: Any) -> tuple[TopicResult, ...]:
        return tuple(
            TopicResult(name=topic.name, topic_id=topic_id("new"), partitions=1, replication_factor=1)
            for topic in request.topics
        )

    def partitions(request: Any) -> tuple[PartitionResult, ...]:
        return tuple(PartitionResult(topic=one.topic, partition=one.partition) for one in request.partitions or ())

    world.controller.answers = {
        AlterPartitionReassignments: lambda request: AlterPartitionReassignmentsResponse(
            partitions=partitions(request), offset=5
        ),
        ElectLeaders: lambda request: ElectLeadersResponse(results=partitions(request), offset=5),
        ReadBarrier: lambda request: ReadBarrierResponse(offset=5),
        AddRaftVoter: lambda request: ChangeVotersResponse(offset=5),
        RemoveRaftVoter: lambda request: ChangeVotersResponse(offset=5),
        UnregisterBroker: lambda request: UnregisterBrokerResponse(offset=5),
        UpdateFeatures: lambda request: UpdateFeaturesResponse(offset=5),
        CreateTopics: lambda request: CreateTopicsResponse(topics=topics(request), offset=5),
        DeleteTopics: lambda request: DeleteTopicsResponse(topics=topics(request), offset=5),
        CreatePartitions: lambda request: CreatePartitionsResponse(topics=topics(request), offset=5),
        AlterClientQuotas: lambda request: AlterClientQuotasResponse(
            entries=tuple(ClientQuotaResult(entity=one.entity) for one in request.entries), offset=5
        ),
        AllocateProducerIds: lambda request: AllocateProducerIdsResponse(first=1000, count=2),
        IncrementalAlterConfigs: lambda request: IncrementalAlterConfigsResponse(
            resources=tuple(ConfigResult(kind=one.kind, name=one.name) for one in request.resources), offset=5
        ),
    }


CONTENT: dict[int, dict[str, Any]] = {
    0: {
        "acks": -1,
        "timeout": 1000,
        "topic_data": [{"name": "t", "topic_id": topic_id("t"), "partition_data": [{"index": 0, "records": batch()}]}],
    },
    1: {
        "max_bytes": 1000,
        "session_epoch": -1,
        "replica_id": -1,
        "topics": [
            {
                "topic": "t",
                "topic_id": topic_id("t"),
                "partitions": [{"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000}],
            }
        ],
    },
    2: {"replica_id": -1, "topics": [{"name": "t", "partitions": [{"partition_index": 0, "timestamp": -1}]}]},
    3: {"topics": [{"name": "t"}, {"name": "new"}]},
    8: {
        "group_id": "g",
        "generation_id_or_member_epoch": -1,
        "retention_time": -1,
        "topics": [
            {
                "name": "t",
                "topic_id": topic_id("t"),
                "partitions": [{"partition_index": 0, "committed_offset": 5, "committed_metadata": "m"}],
            }
        ],
    },
    9: {
        "group_id": "g",
        "topics": [{"name": "t", "partition_indexes": [0]}],
        "groups": [{"group_id": "g", "topics": [{"name": "t", "topic_id": topic_id("t"), "partition_indexes": [0]}]}],
    },
    11: {
        "group_id": "g",
        "session_timeout": 10000,
        "rebalance_timeout": 10000,
        "protocol_type": "consumer",
        "protocols": [{"name": "range", "metadata": b"m"}],
    },
    12: {"group_id": "g", "generation_id": 1, "member_id": "m"},
    13: {"group_id": "g", "member_id": "m", "members": [{"member_id": "m", "group_instance_id": None}]},
    14: {
        "group_id": "g",
        "generation_id": 1,
        "member_id": "m",
        "protocol_type": "consumer",
        "protocol_name": "range",
        "assignments": [{"member_id": "m", "assignment": b"a"}],
    },
    15: {"groups": ["g"], "include_authorized_operations": True},
    16: {"states_filter": ["Stable"], "types_filter": ["classic"]},
    27: {
        "markers": [
            {
                "producer_id": 1,
                "producer_epoch": 0,
                "transaction_result": True,
                "coordinator_epoch": 0,
                "topics": [{"name": "t", "partition_indexes": [0]}],
            }
        ]
    },
    42: {"groups_names": ["g"]},
    61: {"topics": [{"name": "t", "partition_indexes": [0]}]},
    47: {"group_id": "g", "topics": [{"name": "t", "partitions": [{"partition_index": 0}]}]},
    10: {"key": "g", "key_type": 0, "coordinator_keys": ["g"]},
    17: {"mechanism": "PLAIN"},
    19: {
        "topics": [
            {
                "name": "new",
                "num_partitions": 1,
                "replication_factor": 1,
                "configs": [{"name": "retention.ms", "value": "1"}],
            }
        ]
    },
    20: {"topic_names": ["t"], "topics": [{"name": "t"}]},
    21: {"topics": [{"name": "t", "partitions": [{"partition_index": 0, "offset": 1}]}], "timeout": 1},
    22: {"transactional_id": "tid", "transaction_timeout": 1000},
    24: {
        "v3_and_below_transactional_id": "tid",
        "v3_and_below_producer_id": 1000,
        "v3_and_below_producer_epoch": 0,
        "v3_and_below_topics": [{"name": "t", "partitions": [0]}],
        "transactions": [],
    },
    25: {"transactional_id": "tid", "producer_id": 1000, "producer_epoch": 0, "group_id": "g"},
    26: {"transactional_id": "tid", "producer_id": 1000, "producer_epoch": 0, "committed": False},
    28: {
        "transactional_id": "tid",
        "group_id": "g",
        "producer_id": 1000,
        "producer_epoch": 0,
        "topics": [
            {
                "name": "t",
                "partitions": [{"partition_index": 0, "committed_offset": 5, "committed_metadata": "m"}],
            }
        ],
    },
    23: {"replica_id": -1, "topics": [{"topic": "t", "partitions": [{"partition": 0, "leader_epoch": 5}]}]},
    32: {
        "resources": [
            {"resource_type": 2, "resource_name": "t", "configuration_keys": None},
            {"resource_type": 4, "resource_name": "1", "configuration_keys": None},
            {"resource_type": 4, "resource_name": "", "configuration_keys": ["a"]},
        ],
        "include_synonyms": True,
        "include_documentation": True,
    },
    33: {
        "resources": [
            {"resource_type": 2, "resource_name": "t", "configs": [{"name": "retention.ms", "value": "5"}]},
        ]
    },
    34: {"dirs": [{"path": "/elsewhere", "topics": [{"name": "t", "partitions": [0]}]}]},
    35: {"topics": [{"topic": "t", "partitions": [0]}]},
    36: {"auth_bytes": b"good"},
    37: {"topics": [{"name": "t", "count": 5, "assignments": None}]},
    43: {"election_type": 1, "topic_partitions": [{"topic": "t", "partitions": [0]}]},
    45: {"topics": [{"name": "t", "partitions": [{"partition_index": 0, "replicas": [2]}]}]},
    46: {"topics": [{"name": "t", "partition_indexes": [0]}]},
    48: {"components": [{"entity_type": "user", "match_type": 2, "match": None}], "strict": True},
    49: {
        "entries": [
            {
                "entity": [{"entity_type": "user", "entity_name": "u"}],
                "ops": [{"key": "producer_byte_rate", "value": 5.0, "remove": False}],
            }
        ]
    },
    57: {"feature_updates": [{"feature": "transaction.version", "max_version_level": 2}]},
    64: {"broker_id": 2},
    80: {"voter_id": 4, "timeout": 1000, "listeners": [{"name": "CONTROLLER", "host": "n4", "port": 9093}]},
    81: {"voter_id": 3},
    44: {
        "resources": [
            {
                "resource_type": 2,
                "resource_name": "t",
                "configs": [{"name": "retention.ms", "config_operation": 0, "value": "5"}],
            }
        ]
    },
    65: {"transactional_ids": ["tid"]},
    66: {"state_filters": ["Ongoing"], "transactional_id_pattern": "t.*"},
    68: {
        "group_id": "g",
        "member_id": "m",
        "member_epoch": 0,
        "rebalance_timeout": 1000,
        "subscribed_topic_names": ["t"],
        "topic_partitions": [],
    },
    69: {"group_ids": ["g"]},
    55: {"topics": [{"topic_name": "__cluster_metadata", "partitions": [{"partition_index": 0}]}]},
    60: {"endpoint_type": 1},
    74: {"resource_types": [2, 4, 32]},
    75: {"topics": [{"name": "t"}], "response_partition_limit": 10, "cursor": None},
}


def errors_in(value: Any, *, path: str = "") -> list[tuple[str, ErrorCode]]:
    """Every error code that is not `none`, by where it stands."""
    found: list[tuple[str, ErrorCode]] = []
    for name in getattr(type(value), "__slots__", ()):
        part = getattr(value, name, None)
        if isinstance(part, ErrorCode):
            if part is not ErrorCode.none:
                found.append((f"{path}{name}", part))
        elif isinstance(part, tuple):
            for one in part:
                found += errors_in(one, path=f"{path}{name}.")
        else:
            found += errors_in(part, path=f"{path}{name}.") if hasattr(type(part), "__slots__") else []
    return found


@pytest.mark.parametrize(("row", "version"), CASES, ids=IDS)
async def test_an_empty_request_is_answered(world: World, row: Any, version: int) -> None:
    agreeable(world)
    await world.coordinate()
    values = {"acks": 1} if row.key == 0 else {"endpoint_type": 1}
    response = await world.call(row.key, version, values)
    assert type(response) is response_type(row.key, version)


EXPECTED = {
    3: [("topics.error_code", ErrorCode.unknown_topic_or_partition)],
    17: [("error_code", ErrorCode.unsupported_sasl_mechanism)],
    21: [("topics.partitions.error_code", ErrorCode.request_timed_out)],
    27: [("markers.topics.partitions.error_code", ErrorCode.cluster_authorization_failed)],
    34: [("results.partitions.error_code", ErrorCode.log_dir_not_found)],
    36: [("error_code", ErrorCode.illegal_sasl_state)],
    42: [("results.error_code", ErrorCode.group_id_not_found)],
    47: [("error_code", ErrorCode.group_id_not_found)],
    69: [("groups.error_code", ErrorCode.group_id_not_found)],
}


def expected(key: int, version: int) -> list[tuple[str, ErrorCode]]:
    if key in (12, 14):
        return [("error_code", ErrorCode.unknown_member_id)]
    if key == 13:
        return [("members." * (version >= 3) + "error_code", ErrorCode.unknown_member_id)]
    if key == 15:
        return [("groups.error_code", ErrorCode.group_id_not_found)] if version >= 6 else []
    if key == 24:
        if version >= 4:
            return [("error_code", ErrorCode.cluster_authorization_failed)]
        at = "results_by_topic_v3_and_below.results_by_partition.partition_error_code"
        return [(at, ErrorCode.invalid_producer_id_mapping)]
    if key == 65:
        return [("transaction_states.error_code", ErrorCode.transactional_id_not_found)]
    if key in (25, 26):
        return [("error_code", ErrorCode.invalid_producer_id_mapping)]
    if key == 11 and version >= 4:
        return [("error_code", ErrorCode.member_id_required)]
    return EXPECTED.get(key, [])


@pytest.mark.parametrize(("row", "version"), CASES, ids=IDS)
async def test_a_request_with_content_is_answered(world: World, row: Any, version: int) -> None:
    agreeable(world)
    (partition,) = world.add_topic("t", replicas=(1, 2), isr=(1,))
    assert (await world.produce("t", batch(3))).error_code is ErrorCode.none
    await world.coordinate()
    await world.coordinate_transactions()
    response = await world.call(row.key, version, CONTENT[row.key])
    assert type(response) is response_type(row.key, version)
    assert errors_in(response) == expected(row.key, version)
    assert partition.log_end_offset == (4 if row.key == 0 else 3)
    await world.close()


def test_api_versions_is_answered_from_the_table(world: World) -> None:
    answer = world.broker.registry
    told = {api.key: (api.min_version, api.max_version) for api in answer}
    assert told == {row.key: row.versions for row in TABLE} | {18: (0, 4)}
