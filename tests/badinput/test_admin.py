"""Requests that change the cluster: what must not be made is not made, and is told why."""

from __future__ import annotations

from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from tests.badinput.node import Running

E = ErrorCode


def topic(name: str = "new", **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "num_partitions": 1, "replication_factor": 1, **more}
    if "assignments" in row:
        row["num_partitions"] = row["replication_factor"] = -1
        row["assignments"] = [{"partition_index": i, "broker_ids": ids} for i, ids in row["assignments"]]
    row["configs"] = [{"name": name, "value": value} for name, value in row.get("configs", ())]
    return row


BAD_TOPICS: dict[str, tuple[dict[str, Any], set[ErrorCode]]] = {
    "no name": (topic(""), {E.invalid_topic_exception}),
    "dot": (topic("."), {E.invalid_topic_exception}),
    "dots": (topic(".."), {E.invalid_topic_exception}),
    "path": (topic("../../etc/passwd"), {E.invalid_topic_exception}),
    "slash": (topic("a/b"), {E.invalid_topic_exception}),
    "nul": (topic("a\0b"), {E.invalid_topic_exception}),
    "newline": (topic("a\n"), {E.invalid_topic_exception}),
    "not ascii": (topic("grün"), {E.invalid_topic_exception}),
    "too long": (topic("x" * 250), {E.invalid_topic_exception}),
    "very long": (topic("x" * 30_000), {E.invalid_topic_exception}),
    "there already": (topic("target"), {E.topic_already_exists}),
    "no partitions": (topic(num_partitions=0), {E.invalid_partitions}),
    "negative partitions": (topic(num_partitions=-2), {E.invalid_partitions}),
    "10,001 partitions": (topic(num_partitions=10_001), {E.policy_violation}),
    "partitions without end": (topic(num_partitions=2**31 - 1), {E.policy_violation}),
    "no replicas": (topic(replication_factor=0), {E.invalid_replication_factor}),
    "negative replicas": (topic(replication_factor=-2), {E.invalid_replication_factor}),
    "more replicas than brokers": (topic(replication_factor=3), {E.invalid_replication_factor}),
    "replicas without end": (topic(replication_factor=32767), {E.invalid_replication_factor}),
    "assigned to nobody": (topic(assignments=[(0, [])]), {E.invalid_replica_assignment}),
    "assigned to a stranger": (topic(assignments=[(0, [77])]), {E.invalid_replica_assignment}),
    "assigned twice to one": (topic(assignments=[(0, [1, 1])]), {E.invalid_replica_assignment}),
    "assigned to nobody at all": (topic(assignments=[(0, [-1])]), {E.invalid_replica_assignment}),
    "a partition assigned twice": (topic(assignments=[(0, [1]), (0, [1])]), {E.invalid_replica_assignment}),
    "a gap": (topic(assignments=[(0, [1]), (2, [1])]), {E.invalid_replica_assignment}),
    "negative partition": (topic(assignments=[(-1, [1])]), {E.invalid_replica_assignment}),
    "unlike": (topic(assignments=[(0, [1]), (1, [])]), {E.invalid_replica_assignment}),
    "assignment and numbers": (
        {**topic(assignments=[(0, [1])]), "num_partitions": 3, "replication_factor": 1},
        {E.invalid_request, E.invalid_replica_assignment},
    ),
    "unknown config": (topic(configs=[("no.such.config", "1")]), {E.invalid_config}),
    "nameless config": (topic(configs=[("", "1")]), {E.invalid_config}),
    "wrong type": (topic(configs=[("retention.ms", "soon")]), {E.invalid_config}),
    "out of range": (topic(configs=[("segment.bytes", "1")]), {E.invalid_config}),
    "overflow": (topic(configs=[("retention.ms", "9" * 400)]), {E.invalid_config}),
    "not a choice": (topic(configs=[("cleanup.policy", "burn")]), {E.invalid_config}),
    "null value": (topic(configs=[("retention.ms", None)]), {E.invalid_config}),
    "twice": (topic(configs=[("retention.ms", "1"), ("retention.ms", "2")]), {E.invalid_request, E.invalid_config}),
}


async def names(node: Running) -> set[str]:
    answer = await node.witness.call(3, 12, {"topics": None})
    return {row.name for row in answer.topics}


@pytest.mark.parametrize("name", BAD_TOPICS)
async def test_a_topic_that_cannot_be(node: Running, name: str) -> None:
    values, expected = BAD_TOPICS[name]
    async with node.unharmed():
        for validate_only in (True, False):
            answer = await node.witness.call(
                19, 7, {"topics": [values], "timeout": 5000, "validate_only": validate_only}
            )
            assert answer.topics[0].error_code in expected, answer.topics[0]
    assert await names(node) == {"target", "witness"}


async def test_the_same_name_twice_and_a_good_one(node: Running) -> None:
    async with node.unharmed():
        values = {"topics": [topic("a"), topic("b"), topic("a")], "timeout": 5000}
        answer = await node.witness.call(19, 7, values)
        assert {row.name: row.error_code for row in answer.topics} == {"a": E.invalid_request, "b": E.none}


async def test_many_topics_with_too_many_partitions_in_all(node: Running) -> None:
    async with node.unharmed():
        topics = [topic(f"t{i}", num_partitions=1000) for i in range(11)]
        answer = await node.witness.call(19, 7, {"topics": topics, "timeout": 5000})
        assert {row.error_code for row in answer.topics} == {E.policy_violation}
    assert await names(node) == {"target", "witness"}


@pytest.mark.parametrize(
    ("name", "count", "assignments", "expected"),
    [
        ("nosuch", 2, None, {E.unknown_topic_or_partition}),
        ("", 2, None, {E.unknown_topic_or_partition, E.invalid_topic_exception}),
        ("target", 1, None, {E.invalid_partitions}),
        ("target", 0, None, {E.invalid_partitions}),
        ("target", -1, None, {E.invalid_partitions}),
        ("target", 10_002, None, {E.policy_violation, E.invalid_partitions}),
        ("target", 2**31 - 1, None, {E.policy_violation, E.invalid_partitions}),
        ("target", 2, [[7]], {E.invalid_replica_assignment}),
        ("target", 2, [[]], {E.invalid_replica_assignment}),
        ("target", 2, [[1, 1]], {E.invalid_replica_assignment}),
        ("target", 3, [[1]], {E.invalid_replica_assignment}),
    ],
)
async def test_partitions_that_cannot_be(
    node: Running, name: str, count: int, assignments: Any, expected: set[ErrorCode]
) -> None:
    rows = None if assignments is None else [{"broker_ids": ids} for ids in assignments]
    async with node.unharmed():
        values = {"topics": [{"name": name, "count": count, "assignments": rows}], "timeout": 5000}
        answer = await node.witness.call(37, 3, values)
        assert answer.results[0].error_code in expected, answer.results[0]


async def test_deleting_what_is_not_there(node: Running) -> None:
    async with node.unharmed():
        rows = [{"name": "nosuch"}, {"name": None}, {"name": "../x"}, {"name": ""}]
        answer = await node.witness.call(20, 6, {"topics": rows, "timeout": 5000})
        assert E.none not in {row.error_code for row in answer.responses}
        assert len(answer.responses) == 4
    assert await names(node) == {"target", "witness"}


@pytest.mark.parametrize(
    ("kind", "name", "config", "operation", "value", "expected"),
    [
        (2, "nosuch", "retention.ms", 0, "1", {E.unknown_topic_or_partition}),
        (2, "", "retention.ms", 0, "1", {E.invalid_topic_exception, E.invalid_request, E.unknown_topic_or_partition}),
        (2, "target", "nosuch", 0, "1", {E.invalid_config}),
        (2, "target", "retention.ms", 0, "soon", {E.invalid_config}),
        (2, "target", "retention.ms", 0, None, {E.invalid_request}),
        (2, "target", "retention.ms", 2, "1", {E.invalid_config}),
        (2, "target", "retention.ms", 9, "1", {E.invalid_request}),
        (2, "target", "retention.ms", -1, "1", {E.invalid_request}),
        (4, "no number", "log.retention.ms", 0, "1", {E.invalid_request, E.broker_id_not_registered}),
        (4, "99", "nosuch", 0, "1", {E.invalid_request, E.invalid_config, E.broker_id_not_registered}),
        (8, "1", "x", 0, "1", {E.invalid_request}),
        (-1, "x", "x", 0, "1", {E.invalid_request}),
    ],
)
async def test_configs_that_cannot_be(
    node: Running, kind: int, name: str, config: str, operation: int, value: str | None, expected: set[ErrorCode]
) -> None:
    configs = [{"name": config, "config_operation": operation, "value": value}]
    async with node.unharmed():
        values = {"resources": [{"resource_type": kind, "resource_name": name, "configs": configs}]}
        answer = await node.witness.call(44, 1, values)
        assert answer.responses[0].error_code in expected, answer.responses[0]


async def test_questions_about_nothing(node: Running) -> None:
    async with node.unharmed():
        described = await node.witness.call(
            32,
            4,
            {
                "resources": [
                    {"resource_type": kind, "resource_name": name, "configuration_keys": None}
                    for kind, name in [(2, "nosuch"), (2, "a b"), (4, "9"), (16, "x"), (2, "target"), (2, "target")]
                ]
            },
        )
        assert [row.error_code for row in described.results] == [
            E.unknown_topic_or_partition,
            E.invalid_topic_exception,
            E.invalid_request,
            E.invalid_request,
            E.none,
            E.invalid_request,
        ]
        cluster = await node.witness.call(60, 2, {"endpoint_type": 9})
        assert cluster.error_code is E.unsupported_endpoint_type
        metadata = await node.witness.call(3, 12, {"topics": [{"name": n} for n in ("a b", "nosuch", "nosuch", "")]})
        assert [(row.name, row.error_code) for row in metadata.topics] == [
            ("a b", E.invalid_topic_exception),
            ("nosuch", E.unknown_topic_or_partition),
            ("", E.invalid_topic_exception),
        ]
        producer = await node.witness.call(22, 4, {"transactional_id": ""})
        assert producer.error_code is E.invalid_request
        cursor = {"topic_name": "zzz", "partition_index": -5}
        page = await node.witness.call(
            75, 0, {"topics": [{"name": "target"}], "response_partition_limit": -1, "cursor": cursor}
        )
        assert page.topics == ()
