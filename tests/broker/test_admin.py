"""What goes to the active controller, and the configs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker import ProducerIdBlock, ProducerIds
from ottla.controller import (
    AllocateProducerIds,
    AllocateProducerIdsResponse,
    ConfigResult,
    ControllerUnavailable,
    CreatePartitions,
    CreatePartitionsResponse,
    CreateTopics,
    CreateTopicsResponse,
    DeleteTopics,
    DeleteTopicsResponse,
    IncrementalAlterConfigs,
    IncrementalAlterConfigsResponse,
    TopicResult,
)
from ottla.node.definitions import BROKER_CONFIGS
from tests.broker.world import NOW_MS, World, topic_id


def unavailable(request: Any) -> Any:
    raise ControllerUnavailable("nobody leads")


class TestCreateTopics:
    async def test_what_is_asked_and_what_is_answered(self, world: World) -> None:
        def create(request: CreateTopics) -> CreateTopicsResponse:
            good = TopicResult(name="a", topic_id=topic_id("a"), partitions=2, replication_factor=3)
            bad = TopicResult(name="b", error=ErrorCode.invalid_replication_factor, message="too many")
            return CreateTopicsResponse(topics=(good, bad), offset=42)

        world.controller.answers[CreateTopics] = create
        world.set_config("broker", "", log_retention_ms="77")
        topics = [
            {
                "name": "a",
                "num_partitions": -1,
                "replication_factor": -1,
                "assignments": [{"partition_index": 0, "broker_ids": [1, 2]}],
                "configs": [{"name": "segment.bytes", "value": "2000000"}],
            },
            {"name": "b", "num_partitions": 1, "replication_factor": 9},
            {"name": "twice", "num_partitions": 1, "replication_factor": 1},
            {"name": "twice", "num_partitions": 1, "replication_factor": 1},
        ]
        response = await world.call(19, 7, {"topics": topics, "validate_only": True, "timeout": 5000})
        (request,) = world.controller.calls
        assert request.validate_only
        assert [one.name for one in request.topics] == ["a", "b"]
        assert request.topics[0].assignments == {0: (1, 2)}
        assert request.topics[0].configs == {"segment.bytes": "2000000"}
        rows = {row.name: row for row in response.topics}
        assert rows["twice"].error_code is ErrorCode.invalid_request
        assert (rows["b"].error_code, rows["b"].error_message) == (ErrorCode.invalid_replication_factor, "too many")
        assert (rows["a"].topic_id, rows["a"].num_partitions, rows["a"].replication_factor) == (topic_id("a"), 2, 3)
        configs = {one.name: (one.value, one.config_source) for one in rows["a"].configs}
        assert configs["segment.bytes"] == ("2000000", 1)
        assert configs["retention.ms"] == ("77", 3)
        assert configs["cleanup.policy"] == ("delete", 5)
        assert world.view.waited_for == [42]

    async def test_no_controller(self, world: World) -> None:
        world.controller.answers = dict.fromkeys((CreateTopics, DeleteTopics, CreatePartitions), unavailable)
        response = await world.call(19, 5, {"topics": [{"name": "a", "num_partitions": 1, "replication_factor": 1}]})
        assert response.topics[0].error_code is ErrorCode.request_timed_out
        response = await world.call(20, 5, {"topic_names": ["a"]})
        assert response.responses[0].error_code is ErrorCode.request_timed_out
        response = await world.call(37, 3, {"topics": [{"name": "a", "count": 3}]})
        assert response.results[0].error_code is ErrorCode.request_timed_out

    async def test_a_refusal_of_the_whole_is_told_for_each(self, world: World) -> None:
        world.controller.answers[CreateTopics] = lambda request: CreateTopicsResponse(
            error=ErrorCode.policy_violation, message="too much at once"
        )
        response = await world.call(19, 5, {"topics": [{"name": "a", "num_partitions": 1, "replication_factor": 1}]})
        row = response.topics[0]
        assert (row.error_code, row.error_message) == (ErrorCode.policy_violation, "too much at once")

    async def test_a_partition_assigned_twice(self, world: World) -> None:
        twice = [{"partition_index": 0, "broker_ids": [1]}] * 2
        topic = {"name": "a", "num_partitions": -1, "replication_factor": -1, "assignments": twice}
        response = await world.call(19, 5, {"topics": [topic]})
        assert response.topics[0].error_code is ErrorCode.invalid_replica_assignment
        assert world.controller.calls == []


async def test_delete_topics_by_name_and_id(world: World) -> None:
    def delete(request: DeleteTopics) -> DeleteTopicsResponse:
        results = (TopicResult(name="a", topic_id=topic_id("a")), TopicResult(name="b", topic_id=topic_id("b")))
        return DeleteTopicsResponse(topics=results, offset=9)

    world.controller.answers[DeleteTopics] = delete
    twice = {"name": "twice"}
    asked = [{"name": "a"}, twice, {"name": None, "topic_id": topic_id("b")}, {"name": None}, twice]
    response = await world.call(20, 6, {"topics": asked})
    assert [(one.name, one.topic_id) for one in world.controller.calls[0].topics] == [
        ("a", None),
        (None, topic_id("b")),
    ]
    assert [(row.name, row.error_code) for row in response.responses] == [
        ("twice", ErrorCode.invalid_request),
        (None, ErrorCode.invalid_request),
        ("a", ErrorCode.none),
        ("b", ErrorCode.none),
    ]


async def test_create_partitions(world: World) -> None:
    world.controller.answers[CreatePartitions] = lambda request: CreatePartitionsResponse(
        topics=(TopicResult(name="a"), TopicResult(name="b", error=ErrorCode.invalid_partitions, message="fewer"))
    )
    asked = [
        {"name": "a", "count": 3, "assignments": [{"broker_ids": [1]}, {"broker_ids": [2]}]},
        {"name": "b", "count": 1, "assignments": None},
        {"name": "c", "count": 2, "assignments": None},
        {"name": "c", "count": 3, "assignments": None},
    ]
    response = await world.call(37, 3, {"topics": asked})
    assert world.controller.calls[0].topics[0].assignments == ((1,), (2,))
    assert {row.name: row.error_code for row in response.results} == {
        "a": ErrorCode.none,
        "b": ErrorCode.invalid_partitions,
        "c": ErrorCode.invalid_request,
    }


class TestConfigs:
    async def describe(self, world: World, kind: int, name: str, version: int = 4, **more: Any) -> Any:
        resource = {"resource_type": kind, "resource_name": name, "configuration_keys": more.pop("keys", None)}
        return (await world.call(32, version, {"resources": [resource], **more})).results[0]

    async def test_sources_and_synonyms_of_a_topic(self, world: World) -> None:
        world.add_topic("t")
        world.set_config("topic", "t", retention_ms="1")
        world.set_config("broker", "", log_retention_ms="2")
        world.set_config("broker", "1", log_retention_ms="3")
        world.config.values["log.retention.hours"] = "1"
        found = await self.describe(world, 2, "t", keys=["retention.ms"], include_synonyms=True)
        (row,) = found.configs
        assert (row.value, row.config_source, row.config_type, row.read_only) == ("1", 1, 5, False)
        assert [(one.name, one.value, one.source) for one in row.synonyms][:4] == [
            ("retention.ms", "1", 1),
            ("log.retention.ms", "3", 2),
            ("log.retention.ms", "2", 3),
            ("log.retention.hours", "3600000", 4),
        ]
        assert row.documentation is None
        found = await self.describe(world, 2, "t", keys=["retention.ms"], include_documentation=True)
        assert found.configs[0].documentation
        assert found.configs[0].synonyms == ()

    async def test_a_broker_describes_itself_and_the_common_default_only(self, world: World) -> None:
        world.set_config("broker", "", log_retention_ms="2")
        world.config.values["num.partitions"] = "6"
        own = {row.name: row for row in (await self.describe(world, 4, "1")).configs}
        assert (own["num.partitions"].value, own["num.partitions"].config_source) == ("6", 4)
        assert own["num.partitions"].read_only
        assert not own["log.retention.ms"].read_only
        assert (own["log.retention.ms"].value, own["log.retention.ms"].config_source) == ("2", 3)
        assert (own["log.roll.ms"].value, own["log.roll.ms"].config_source) == (None, 5)
        default = await self.describe(world, 4, "")
        assert [(row.name, row.value, row.config_source) for row in default.configs] == [("log.retention.ms", "2", 3)]
        other = await self.describe(world, 4, "2")
        assert other.error_code is ErrorCode.invalid_request

    async def test_units_of_a_broker_config_are_synonyms(self, world: World) -> None:
        world.config.values["log.retention.minutes"] = "3"
        found = await self.describe(
            world, 4, "1", keys=["log.retention.ms"], include_synonyms=True, include_documentation=True
        )
        (row,) = found.configs
        assert (row.value, row.config_source, row.config_type) == (None, 4, 5)
        assert [(one.name, one.value, one.source) for one in row.synonyms] == [
            ("log.retention.minutes", "3", 4),
            ("log.retention.hours", "168", 5),
        ]
        assert row.documentation

    async def test_what_has_no_effect_is_described_as_the_file_has_it(self, world: World) -> None:
        world.config.values["num.io.threads"] = "64"
        found = await self.describe(world, 4, "1", keys=["num.io.threads"], include_documentation=True)
        (row,) = found.configs
        assert (row.value, row.config_source, row.config_type, row.read_only) == ("64", 4, 3, True)
        assert row.documentation.startswith("Taken without effect")

    async def test_every_key_is_described_with_its_default(self, world: World) -> None:
        """tests/node/test_kafka_keys.py holds the table against Kafka's own."""
        rows = {row.name: row for row in (await self.describe(world, 4, "1")).configs}
        assert list(rows) == list(BROKER_CONFIGS)
        for name, definition in BROKER_CONFIGS.items():
            row = rows[name]
            told = (row.value, row.config_source, row.config_type, row.read_only)
            assert told == (definition.default, 5, definition.type, not definition.dynamic), name

    async def test_a_secret_is_described_without_its_value(self, world: World) -> None:
        found = await self.describe(world, 4, "1", keys=["ottla.cluster.secret"], include_synonyms=True)
        (row,) = found.configs
        assert (row.value, row.is_sensitive, row.read_only, row.synonyms) == (None, True, True, ())

    async def test_a_group_may_have_its_own(self, world: World) -> None:
        """KIP-1043"""
        world.config.values["group.consumer.session.timeout.ms"] = "50000"
        world.set_config("group", "g", consumer_heartbeat_interval_ms="700")
        found = {row.name: row for row in (await self.describe(world, 32, "g", include_synonyms=True)).configs}
        row = found["consumer.heartbeat.interval.ms"]
        assert (row.value, row.config_source, row.read_only) == ("700", 8, False)
        row = found["consumer.session.timeout.ms"]
        assert (row.value, row.config_source) == ("50000", 4)
        assert [one.name for one in row.synonyms] == 2 * ["group.consumer.session.timeout.ms"]
        assert (await self.describe(world, 32, "never heard of")).error_code is ErrorCode.none
        assert world.broker.groups.member_times("g") == (45000, 700)

    async def test_what_has_configs(self, world: World) -> None:
        """KIP-1142"""

        async def names(version: int, *types: int) -> list[tuple[int, str]]:
            answer = await world.call(74, version, {"resource_types": types})
            assert answer.error_code is ErrorCode.none
            return [(getattr(one, "resource_type", 16), one.resource_name) for one in answer.config_resources]

        world.add_topic("t")
        world.set_config("group", "g", consumer_heartbeat_interval_ms="700")
        brokers = [(4, "1"), (4, "2"), (4, "3")]
        assert await names(1, 2, 4, 32) == [(2, "t"), *brokers, (32, "g")]
        assert await names(1) == [(2, "t"), *brokers, (8, "1"), (8, "2"), (8, "3"), (32, "g")]
        assert await names(0) == []
        answer = await world.call(74, 1, {"resource_types": [3]})
        assert answer.error_code is ErrorCode.unsupported_version

    async def test_refusals(self, world: World) -> None:
        assert (await self.describe(world, 32, "")).error_code is ErrorCode.invalid_request
        for kind in (8, 16):
            refused = await self.describe(world, kind, "1")
            assert refused.error_code is ErrorCode.invalid_request
            assert refused.error_message
        assert (await self.describe(world, 2, "x")).error_code is ErrorCode.unknown_topic_or_partition
        assert (await self.describe(world, 2, "a b")).error_code is ErrorCode.invalid_topic_exception
        assert (await self.describe(world, 99, "x")).error_code is ErrorCode.invalid_request

    async def test_alter(self, world: World) -> None:
        world.controller.answers[IncrementalAlterConfigs] = lambda request: IncrementalAlterConfigsResponse(
            resources=tuple(ConfigResult(kind=one.kind, name=one.name) for one in request.resources), offset=3
        )
        retention = {"name": "retention.ms", "config_operation": 0, "value": "5"}
        resources = [
            {"resource_type": 2, "resource_name": "t", "configs": [retention, {"name": "x", "config_operation": 1}]},
            {"resource_type": 4, "resource_name": "", "configs": [{"name": "a", "config_operation": 2, "value": "b"}]},
            {"resource_type": 8, "resource_name": "logger", "configs": []},
            {"resource_type": 2, "resource_name": "twice", "configs": []},
            {"resource_type": 2, "resource_name": "twice", "configs": [retention]},
            {"resource_type": 2, "resource_name": "u", "configs": [retention, retention]},
            {"resource_type": 2, "resource_name": "v", "configs": [{"name": "a", "config_operation": 9}]},
            {"resource_type": 2, "resource_name": "w", "configs": [{"name": "a", "config_operation": 0}]},
        ]
        response = await world.call(44, 1, {"resources": resources})
        (request,) = world.controller.calls
        assert [(one.kind, one.name, [(op.key, op.op, op.value) for op in one.ops]) for one in request.resources] == [
            ("topic", "t", [("retention.ms", "set", "5"), ("x", "delete", None)]),
            ("broker", "", [("a", "append", "b")]),
        ]
        codes = [(row.resource_name, row.error_code) for row in response.responses]
        refused = ErrorCode.invalid_request
        assert codes == [
            ("t", ErrorCode.none),
            ("", ErrorCode.none),
            *((name, refused) for name in ("logger", "twice", "twice", "u", "v", "w")),
        ]

    async def test_replace(self, world: World) -> None:
        """AlterConfigs is passed on as a replacement of everything that is set."""
        world.controller.answers[IncrementalAlterConfigs] = lambda request: IncrementalAlterConfigsResponse(
            resources=(ConfigResult(kind="topic", name="t", error=ErrorCode.invalid_config, message="no"),)
        )
        resources = [
            {"resource_type": 2, "resource_name": "t", "configs": [{"name": "retention.ms", "value": "5"}]},
            {"resource_type": 2, "resource_name": "", "configs": []},
            {"resource_type": 16, "resource_name": "m", "configs": []},
            {"resource_type": 8, "resource_name": "1", "configs": []},
            {"resource_type": 2, "resource_name": "u", "configs": [{"name": "retention.ms", "value": None}]},
        ]
        response = await world.call(33, 2, {"resources": resources, "validate_only": True})
        (request,) = world.controller.calls
        assert request.validate_only
        (asked,) = request.resources
        assert asked.replace
        assert [(op.key, op.op, op.value) for op in asked.ops] == [("retention.ms", "set", "5")]
        assert [row.error_code for row in response.responses] == [
            ErrorCode.invalid_config,
            *(4 * [ErrorCode.invalid_request]),
        ]
        assert all(row.error_message for row in response.responses)


class TestInitProducerId:
    async def test_ids_come_from_blocks_and_never_twice(self, world: World) -> None:
        blocks = iter([1000, 2000])
        world.controller.answers[AllocateProducerIds] = lambda request: AllocateProducerIdsResponse(
            first=next(blocks), count=3
        )
        answers = await asyncio.gather(*(world.call(22, 5, {"transactional_id": None}) for _ in range(5)))
        assert sorted(one.producer_id for one in answers) == [1000, 1001, 1002, 2000, 2001]
        assert {(one.error_code, one.producer_epoch) for one in answers} == {(ErrorCode.none, 0)}
        assert [(call.node_id, call.broker_epoch) for call in world.controller.calls] == [(1, 11), (1, 11)]

    @pytest.mark.parametrize("answer", [unavailable, lambda request: AllocateProducerIdsResponse(error=77)])
    async def test_no_controller(self, world: World, answer: Any) -> None:
        world.controller.answers[AllocateProducerIds] = answer
        response = await world.call(22, 5, {"transactional_id": None})
        assert response.error_code is ErrorCode.coordinator_load_in_progress

    async def test_transactional_ids_need_their_coordinator(self, world: World) -> None:
        response = await world.call(22, 5, {"transactional_id": "x", "transaction_timeout": 1000})
        assert response.error_code is ErrorCode.not_coordinator
        assert (await world.call(22, 5, {"transactional_id": ""})).error_code is ErrorCode.invalid_request

    async def test_an_empty_block_is_a_broken_promise(self) -> None:
        async def allocate() -> ProducerIdBlock:
            return ProducerIdBlock(5, 0)

        with pytest.raises(RuntimeError):
            await ProducerIds(allocate).next()


async def test_describe_quorum(world: World) -> None:
    ask = {
        "topics": [{"topic_name": name, "partitions": [{"partition_index": 0}]} for name in ("__cluster_metadata", "t")]
    }
    response = await world.call(55, 2, ask)
    row, other = (topic.partitions[0] for topic in response.topics)
    assert (row.error_code, row.leader_id, row.leader_epoch, row.high_watermark) == (ErrorCode.none, 1, 7, 40)
    voters = [
        (one.replica_id, one.log_end_offset, one.last_fetch_timestamp, one.last_caught_up_timestamp)
        for one in row.current_voters
    ]
    assert voters == [(1, 41, -1, -1), (2, 40, NOW_MS - 250, NOW_MS - 700)]
    assert other.error_code is ErrorCode.unknown_topic_or_partition
    world.quorum = type(world.quorum)(1, 3, 8, 39, (1, 2, 3))
    row = (await world.call(55, 2, ask)).topics[0].partitions[0]
    assert (row.error_code, row.leader_id) == (ErrorCode.not_leader_or_follower, 3)
    assert [(one.replica_id, one.log_end_offset) for one in row.current_voters] == [(1, -1), (2, -1), (3, -1)]


async def test_deletion_can_be_switched_off(world: World) -> None:
    world.config.delete_topic_enable = False
    answer = await world.call(20, 6, {"topics": [{"name": "orders", "topic_id": None}]})
    assert [row.error_code for row in answer.responses] == [ErrorCode.topic_deletion_disabled]
    assert not world.controller.calls
