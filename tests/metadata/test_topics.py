"""CreateTopics, CreatePartitions and DeleteTopics: what is refused, and that the rest is one entry."""

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from ottla.controller.metadata import Limits, Policy, topic_name_error
from ottla.controller.rpc import (
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    MorePartitions,
    NewTopic,
    TopicRef,
    TopicResult,
)
from tests.metadata.cluster import Cluster


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(Policy(default_partitions=2, default_replication_factor=3)).up(1, 2, 3)


def _create(cluster: Cluster, **topic: Any) -> TopicResult:
    (result,) = cluster.ask(CreateTopics(topics=(NewTopic(name="t", **topic),))).topics
    return result


def _code(result: TopicResult) -> ErrorCode:
    assert (result.message is None) == (result.error == 0)
    return ErrorCode(result.error)


def test_defaults(cluster: Cluster) -> None:
    result = _create(cluster)
    assert (result.error, result.partitions, result.replication_factor) == (0, 2, 3)
    topic = cluster.image.topics["t"]
    assert result.topic_id == topic.id
    assert all(state.leader == state.replicas[0] for state in topic.partitions.values())
    assert all(state.isr == state.replicas for state in topic.partitions.values())


def test_a_thousand_partitions_are_one_entry(cluster: Cluster) -> None:
    entries = len(cluster.entries)
    assert not _create(cluster, partitions=1000, replication_factor=3).error
    assert len(cluster.entries) == entries + 1
    assert len(cluster.image.topics["t"].partitions) == 1000
    assert len(cluster.entries[-1]) < 200_000


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        ({"partitions": 0}, ErrorCode.invalid_partitions),
        ({"partitions": -2}, ErrorCode.invalid_partitions),
        ({"replication_factor": 0}, ErrorCode.invalid_replication_factor),
        ({"replication_factor": -5}, ErrorCode.invalid_replication_factor),
        ({"replication_factor": 4}, ErrorCode.invalid_replication_factor),
        ({"replication_factor": 100_000}, ErrorCode.invalid_replication_factor),
        ({"partitions": 10_001}, ErrorCode.policy_violation),
        ({"partitions": 2**31 - 1}, ErrorCode.policy_violation),
        ({"assignments": {0: (1, 2)}, "partitions": 1}, ErrorCode.invalid_request),
        ({"assignments": {0: (1, 2)}, "replication_factor": 2}, ErrorCode.invalid_request),
        ({"assignments": {1: (1, 2)}}, ErrorCode.invalid_replica_assignment),
        ({"assignments": {0: ()}}, ErrorCode.invalid_replica_assignment),
        ({"assignments": {0: (1, 1)}}, ErrorCode.invalid_replica_assignment),
        ({"assignments": {0: (1, 9)}}, ErrorCode.invalid_replica_assignment),
        ({"assignments": {0: (1, -1)}}, ErrorCode.invalid_replica_assignment),
        ({"assignments": {0: (1, 2), 1: (1,)}}, ErrorCode.invalid_replica_assignment),
        ({"configs": {"no.such": "1"}}, ErrorCode.invalid_config),
        ({"configs": {"retention.ms": "soon"}}, ErrorCode.invalid_config),
        ({"configs": {"retention.ms": None}}, ErrorCode.invalid_config),
        ({"configs": {"min.compaction.lag.ms": "9", "max.compaction.lag.ms": "8"}}, ErrorCode.invalid_config),
    ],
)
def test_what_cannot_be_created(cluster: Cluster, topic: dict[str, Any], code: ErrorCode) -> None:
    before = cluster.image
    assert _code(_create(cluster, **topic)) is code
    assert cluster.image is before


def test_limits_are_for_the_request_as_a_whole(cluster: Cluster) -> None:
    topics = tuple(NewTopic(name=f"t{i}", partitions=5001, replication_factor=1) for i in range(2))
    results = cluster.ask(CreateTopics(topics=topics)).topics
    assert [_code(result) for result in results] == [ErrorCode.policy_violation] * 2


@pytest.mark.parametrize("validate_only", [False, True])
@pytest.mark.parametrize(
    ("topic", "message"),
    [
        (
            {"partitions": 4, "replication_factor": 2},
            "4 partitions, more than ottla.policy.max.partitions.per.topic = 3",
        ),
        (
            {"assignments": dict.fromkeys(range(4), (1, 2))},
            "4 partitions, more than ottla.policy.max.partitions.per.topic = 3",
        ),
        ({"partitions": 1, "replication_factor": 1}, "factor 1, less than ottla.policy.min.replication.factor = 2"),
        ({"assignments": {0: (1,)}}, "factor 1, less than ottla.policy.min.replication.factor = 2"),
        ({"partitions": 1, "replication_factor": 3}, "factor 3, more than ottla.policy.max.replication.factor = 2"),
        ({"assignments": {0: (1, 2, 3)}}, "factor 3, more than ottla.policy.max.replication.factor = 2"),
        ({"partitions": 6, "replication_factor": 2}, "6, more than ottla.policy.max.partitions.per.request = 5"),
    ],
)
def test_limits_that_are_set(topic: dict[str, Any], message: str, *, validate_only: bool) -> None:
    cluster = Cluster(Policy(limits=Limits(5, 3, 2, 2))).up(1, 2, 3)
    before = cluster.image
    request = CreateTopics(topics=(NewTopic(name="t", **topic),), validate_only=validate_only)
    (result,) = cluster.ask(request).topics
    assert _code(result) is ErrorCode.policy_violation
    assert message in (result.message or "")
    assert cluster.image is before
    internal = CreateTopics(topics=(NewTopic(name="t", partitions=4, replication_factor=3, internal=True),))
    assert not cluster.ask(internal).topics[0].error


@pytest.mark.parametrize("validate_only", [False, True])
def test_what_the_limits_allow(*, validate_only: bool) -> None:
    cluster = Cluster(Policy(limits=Limits(5, 3, 2, 2))).up(1, 2, 3)
    topic = NewTopic(name="t", partitions=2, replication_factor=2)
    assert not cluster.ask(CreateTopics(topics=(topic,))).topics[0].error
    for count, assignments, code in (
        (4, None, ErrorCode.policy_violation),
        (4, ((1, 2), (2, 3)), ErrorCode.policy_violation),
        (3, ((1, 2),), ErrorCode.none),
    ):
        more = MorePartitions(name="t", count=count, assignments=assignments)
        (result,) = cluster.ask(CreatePartitions(topics=(more,), validate_only=validate_only)).topics
        assert _code(result) is code
        assert (result.message is None) == (code is ErrorCode.none)
        assert code is ErrorCode.none or "ottla.policy.max.partitions.per.topic = 3" in (result.message or "")


def test_explicit_assignment_and_configs(cluster: Cluster) -> None:
    assignments = {1: (2, 3), 0: (3, 1)}
    result = _create(cluster, assignments=assignments, configs={"retention.ms": "1000"})
    assert (result.partitions, result.replication_factor) == (2, 2)
    assert {p: s.replicas for p, s in cluster.image.topics["t"].partitions.items()} == assignments
    assert cluster.image.configs["topic", "t"] == {"retention.ms": "1000"}


def test_replicas_on_a_broker_that_is_away_are_not_in_sync(cluster: Cluster) -> None:
    cluster.fence(1)
    assert not _create(cluster, assignments={0: (1, 2, 3)}).error
    assert cluster.state("t") == (2, (2, 3), 0, 0)
    (result,) = cluster.ask(CreateTopics(topics=(NewTopic(name="u", assignments={0: (1,)}),))).topics
    assert _code(result) is ErrorCode.invalid_replica_assignment


def test_a_fenced_broker_gets_replicas_only_when_the_others_are_too_few(cluster: Cluster) -> None:
    cluster.fence(3)
    cluster.ask(CreateTopics(topics=(NewTopic(name="two", partitions=4, replication_factor=2),)))
    assert all(3 not in state.replicas for state in cluster.image.topics["two"].partitions.values())
    cluster.ask(CreateTopics(topics=(NewTopic(name="three", partitions=4, replication_factor=3),)))
    assert all(3 not in state.isr for state in cluster.image.topics["three"].partitions.values())
    cluster.fence(1, 2)
    assert _code(_create(cluster, replication_factor=1)) is ErrorCode.invalid_replication_factor


def test_names_that_are_taken_or_look_the_same(cluster: Cluster) -> None:
    names = ("a.b", "a_b", "a.b.c", "a.b", "x", "..", "x" * 249)
    results = cluster.ask(CreateTopics(topics=tuple(NewTopic(name=name) for name in names))).topics
    assert [_code(result) for result in results] == [
        ErrorCode.invalid_request,
        ErrorCode.none,
        ErrorCode.none,
        ErrorCode.invalid_request,
        ErrorCode.none,
        ErrorCode.invalid_topic_exception,
        ErrorCode.none,
    ]
    again = cluster.ask(CreateTopics(topics=(NewTopic(name="x"), NewTopic(name="a.b"), NewTopic(name="a_b.c"))))
    assert [_code(result) for result in again.topics] == [
        ErrorCode.topic_already_exists,
        ErrorCode.invalid_topic_exception,
        ErrorCode.invalid_topic_exception,
    ]


@given(st.text(max_size=260))
def test_a_good_name_is_safe_as_a_file_name(name: str) -> None:
    if topic_name_error(name) is None:
        assert 0 < len(name) <= 249
        assert name.isascii()
        assert "/" not in name
        assert name not in (".", "..")


@pytest.mark.parametrize("name", ["", ".", "..", "a" * 250, "a b", "a/b", "ä", "a\n", "a\x00", "٣"])
def test_bad_names(name: str) -> None:
    assert topic_name_error(name) is not None


def test_validate_only_changes_nothing(cluster: Cluster) -> None:
    before = cluster.image
    answer = cluster.ask(CreateTopics(topics=(NewTopic(name="t"), NewTopic(name="t/")), validate_only=True))
    assert [_code(result) for result in answer.topics] == [ErrorCode.none, ErrorCode.invalid_topic_exception]
    assert answer.topics[0].topic_id is None
    assert cluster.image is before


def test_topic_ids_are_not_mistaken_for_options(cluster: Cluster) -> None:
    """KIP-516: no base64 form that begins with '-'."""
    for i in range(200):
        cluster.ask(CreateTopics(topics=(NewTopic(name=f"t{i}", partitions=1),)))
    ids = [topic.id for topic in cluster.image.topics.values()]
    assert len(set(ids)) == 200
    assert all(topic_id.bytes[0] >> 2 != 62 and topic_id.version == 4 for topic_id in ids)


# Partitions


def _grow(cluster: Cluster, count: int, *, name: str = "t", **more: Any) -> TopicResult:
    (result,) = cluster.ask(CreatePartitions(topics=(MorePartitions(name=name, count=count, **more),))).topics
    return result


def test_more_partitions(cluster: Cluster) -> None:
    """KIP-195"""
    _create(cluster, partitions=1, replication_factor=2)
    assert _grow(cluster, 4).partitions == 4
    topic = cluster.image.topics["t"]
    assert list(topic.partitions) == [0, 1, 2, 3]
    assert {len(state.replicas) for state in topic.partitions.values()} == {2}
    assert cluster.delta.partitions == {("t", 1), ("t", 2), ("t", 3)}
    assert not cluster.delta.created


def test_more_partitions_where_they_are_wanted(cluster: Cluster) -> None:
    _create(cluster, partitions=1, replication_factor=2)
    assert not _grow(cluster, 3, assignments=((1, 2), (3, 1))).error
    assert cluster.image.topics["t"].partitions[2].replicas == (3, 1)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"count": 2}, ErrorCode.invalid_partitions),
        ({"count": 0}, ErrorCode.invalid_partitions),
        ({"count": 3, "name": "u"}, ErrorCode.unknown_topic_or_partition),
        ({"count": 20_000}, ErrorCode.policy_violation),
        ({"count": 4, "assignments": ((1, 2, 3),)}, ErrorCode.invalid_replica_assignment),
        ({"count": 3, "assignments": ((1, 2),)}, ErrorCode.invalid_replica_assignment),
        ({"count": 3, "assignments": ((1, 2, 9),)}, ErrorCode.invalid_replica_assignment),
    ],
)
def test_partitions_that_cannot_be_added(cluster: Cluster, more: dict[str, Any], code: ErrorCode) -> None:
    _create(cluster)
    before = cluster.image
    assert _code(_grow(cluster, **more)) is code
    assert cluster.image is before


def test_partitions_of_a_topic_named_twice(cluster: Cluster) -> None:
    _create(cluster)
    twice = (MorePartitions(name="t", count=3), MorePartitions(name="t", count=4))
    results = cluster.ask(CreatePartitions(topics=twice)).topics
    assert [_code(result) for result in results] == [ErrorCode.invalid_request] * 2
    answer = cluster.ask(CreatePartitions(topics=twice[:1], validate_only=True))
    assert not answer.topics[0].error
    assert len(cluster.image.topics["t"].partitions) == 2


# Deletion


def test_delete_by_name_and_by_id(cluster: Cluster) -> None:
    """KIP-516"""
    cluster.create("a", (1,), retention_ms="5")
    cluster.create("b", (1,))
    a, b = cluster.image.topics["a"], cluster.image.topics["b"]
    results = cluster.ask(DeleteTopics(topics=(TopicRef(name="a"), TopicRef(topic_id=b.id)))).topics
    assert [(result.name, result.topic_id, result.error) for result in results] == [("a", a.id, 0), ("b", b.id, 0)]
    assert not cluster.image.topics
    assert not [name for kind, name in cluster.image.configs if kind == "topic"]
    assert {topic.id for topic in cluster.delta.deleted} == {a.id, b.id}


def test_deletions_that_cannot_be(cluster: Cluster) -> None:
    cluster.create("a", (1,))
    topic_id = cluster.image.topics["a"].id
    refs = (
        TopicRef(name="b"),
        TopicRef(topic_id=uuid.UUID(int=5)),
        TopicRef(),
        TopicRef(name="a", topic_id=topic_id),
        TopicRef(name="a"),
        TopicRef(topic_id=topic_id),
    )
    assert [_code(result) for result in cluster.ask(DeleteTopics(topics=refs)).topics] == [
        ErrorCode.unknown_topic_or_partition,
        ErrorCode.unknown_topic_id,
        ErrorCode.invalid_request,
        ErrorCode.invalid_request,
        ErrorCode.none,
        ErrorCode.invalid_request,
    ]


def test_a_topic_made_anew_is_another_one(cluster: Cluster) -> None:
    cluster.create("a", (1, 2), retention_ms="5")
    first = cluster.image.topics["a"].id
    late = cluster.wish("a", 1)
    cluster.ask(DeleteTopics(topics=(TopicRef(name="a"),)))
    cluster.create("a", (1, 2))
    assert cluster.image.topics["a"].id != first
    assert ("topic", "a") not in cluster.image.configs
    assert cluster.alter(1, late).partitions[0].error == ErrorCode.unknown_topic_id.value
