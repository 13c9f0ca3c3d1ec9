"""Topics made, described, changed and deleted through each library's own admin client, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from kafka import KafkaAdminClient  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]

from tests.compatibility.aio import Aio
from tests.compatibility.cluster import Cluster, eventually
from tests.compatibility.confluent import Confluent
from tests.compatibility.kafka_python import KafkaPython
from tests.compatibility.model import ConfigEditor, Library, Message, Refused

Validates = tuple[Callable[[str, int, bool], int], Callable[[str, int, bool], int]]
"""Create a topic, and add partitions to one, or only ask whether it could be done; what comes is the error's code."""

UNKNOWN_TOPIC_OR_PARTITION = 3
MESSAGE_TOO_LARGE = 10
INVALID_TOPIC = 17
TOPIC_EXISTS = 36
INVALID_PARTITIONS = 37
INVALID_REPLICATION_FACTOR = 38
INVALID_REPLICA_ASSIGNMENT = 39
INVALID_CONFIG = 40
POLICY_VIOLATION = 44


def test_a_topics_life(cluster: Cluster, library: Library, topic: str) -> None:
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, 4, 2, configs={"retention.ms": "86400000", "cleanup.policy": "delete"})
        assert topic in admin.topics()
        found = admin.describe(topic)
        assert sorted(found) == [0, 1, 2, 3]
        for seen in found.values():
            assert len(set(seen.replicas)) == 2
            assert seen.leader == seen.replicas[0]
            assert seen.isr == set(seen.replicas)
        assert {seen.leader for seen in found.values()} == {1, 2, 3}
        configs = admin.configs(topic)
        assert configs["retention.ms"] == "86400000"
        assert configs["max.message.bytes"] == "1048588"

        admin.add_partitions(topic, 6)
        cluster.wait_until_known(topic, 6)
        grown = admin.describe(topic)
        assert len(grown) == 6
        assert {index: grown[index] for index in found} == found
        assert library.write(cluster.bootstrap, topic, [Message(b"new")], partition=5)[0].offset == 0

        admin.delete(topic)
        eventually(lambda: topic not in admin.topics(), "the topic is gone")
        with pytest.raises(Refused) as refused:
            admin.delete(topic)
        assert refused.value.code == UNKNOWN_TOPIC_OR_PARTITION


def test_a_topic_that_comes_again_is_empty(cluster: Cluster, library: Library, topic: str) -> None:
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic)
        library.write(cluster.bootstrap, topic, [Message(b"old")] * 10)
        admin.delete(topic)
        cluster.make(admin, topic)
    assert library.write(cluster.bootstrap, topic, [Message(b"new")])[0].offset == 0
    with library.reader(cluster.bootstrap, topic) as reading:
        assert [(seen.offset, seen.value) for seen in reading.take(1)] == [(0, b"new")]


def test_replicas_where_they_were_asked_for(cluster: Cluster, library: Library, topic: str) -> None:
    assignment = [[3, 1], [2, 3], [1, 2]]
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, assignment=assignment)
        found = admin.describe(topic)
    assert [list(found[index].replicas) for index in range(3)] == assignment
    assert [found[index].leader for index in range(3)] == [3, 2, 1]


def test_what_is_refused(cluster: Cluster, library: Library, topic: str) -> None:
    def code(topic: str, **words: object) -> int:
        with pytest.raises(Refused) as refused:
            admin.create(topic, **words)  # type: ignore[arg-type]
        return refused.value.code

    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, 2)
        assert code(topic) == TOPIC_EXISTS
        assert code("not a name") == INVALID_TOPIC
        assert code(topic + "-a", replicas=4) == INVALID_REPLICATION_FACTOR
        assert code(topic + "-b", assignment=[[1, 9]]) == INVALID_REPLICA_ASSIGNMENT
        assert code(topic + "-c", configs={"no.such.config": "1"}) == INVALID_CONFIG
        assert code(topic + "-d", configs={"retention.ms": "soon"}) == INVALID_CONFIG
        with pytest.raises(Refused) as refused:
            admin.add_partitions(topic, 2)
        assert refused.value.code == INVALID_PARTITIONS
        with pytest.raises(Refused) as refused:
            admin.add_partitions(topic + "-e", 2)
        assert refused.value.code == UNKNOWN_TOPIC_OR_PARTITION
        assert not {name for name in admin.topics() if name.startswith(topic + "-")}


def test_limits_of_the_cluster(strict: Cluster, library: Library, topic: str) -> None:
    with library.admin(strict.bootstrap) as admin:
        for words in ({"partitions": 5}, {"replicas": 2}, {"assignment": [[1]] * 5}):
            with pytest.raises(Refused) as refused:
                admin.create(topic, **words)  # type: ignore[arg-type]
            assert refused.value.code == POLICY_VIOLATION, words
        strict.make(admin, topic, 3, 1)
        with pytest.raises(Refused) as refused:
            admin.add_partitions(topic, 5)
        assert refused.value.code == POLICY_VIOLATION
        admin.add_partitions(topic, 4)
        strict.wait_until_known(topic, 4)


def validates_with_confluent(bootstrap: str) -> Validates:
    admin = AdminClient({"bootstrap.servers": bootstrap})

    def ask(futures: dict[str, Future[None]]) -> int:
        (future,) = futures.values()
        try:
            future.result(20)
        except KafkaException as error:
            return int(error.args[0].code())
        return 0

    def create(topic: str, partitions: int, validate_only: bool) -> int:
        return ask(admin.create_topics([NewTopic(topic, partitions, 3)], validate_only=validate_only))

    def add(topic: str, total: int, validate_only: bool) -> int:
        return ask(admin.create_partitions([NewPartitions(topic, total)], validate_only=validate_only))

    return create, add


def validates_with_kafka_python(bootstrap: str) -> Validates:
    def ask(call: str, topic: str, wanted: object, validate_only: bool) -> int:
        client = KafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            getattr(client, call)({topic: wanted}, validate_only=validate_only)
        except KafkaError as error:
            return int(error.errno)
        finally:
            client.close()
        return 0

    def create(topic: str, partitions: int, validate_only: bool) -> int:
        wanted = {"num_partitions": partitions, "replication_factor": 3}
        return ask("create_topics", topic, wanted, validate_only)

    def add(topic: str, total: int, validate_only: bool) -> int:
        return ask("create_partitions", topic, total, validate_only)

    return create, add


# aiokafka sends what it is told to validate like anything else, and cannot ask for partitions to be validated.
@pytest.mark.parametrize("validates", [validates_with_confluent, validates_with_kafka_python])
def test_what_is_only_validated_is_not_done(
    cluster: Cluster, validates: Callable[[str], Validates], topic: str
) -> None:
    create, add = validates(cluster.bootstrap)
    with Confluent().admin(cluster.bootstrap) as admin:
        assert create(topic, 2, True) == 0
        assert create("not a name", 2, True) == INVALID_TOPIC
        assert create(topic, 2, False) == 0, "it was not there"
        cluster.wait_until_known(topic)
        assert create(topic, 2, True) == TOPIC_EXISTS
        assert add(topic, 3, True) == 0
        assert add(topic, 2, True) == INVALID_PARTITIONS
        assert add(topic, 3, False) == 0
        cluster.wait_until_known(topic, 3)
        assert len(admin.describe(topic)) == 3
        assert add(topic, 3, True) == INVALID_PARTITIONS


# aiokafka only knows AlterConfigs.
@pytest.mark.parametrize("library", [Confluent(), KafkaPython()], ids=lambda library: library.name)
def test_configs_change_one_at_a_time(cluster: Cluster, library: Confluent | KafkaPython, topic: str) -> None:
    def error_of_writing() -> int:
        return library.write(cluster.bootstrap, topic, [Message(b"x" * 3000)])[0].error

    with library.admin(cluster.bootstrap) as editor:
        admin: ConfigEditor = editor
        cluster.make(admin, topic, configs={"retention.ms": "1000000"})
        admin.set_config(topic, "max.message.bytes", "2000")
        eventually(lambda: admin.configs(topic)["max.message.bytes"] == "2000", "the new value")
        assert admin.configs(topic)["retention.ms"] == "1000000"
        eventually(lambda: error_of_writing() == MESSAGE_TOO_LARGE, "the new value has come to the leader")
        admin.unset_config(topic, "max.message.bytes")
        eventually(lambda: admin.configs(topic)["max.message.bytes"] == "1048588", "the default")
        eventually(lambda: error_of_writing() == 0, "the default has come to the leader")
        with pytest.raises(Refused) as refused:
            admin.set_config(topic, "retention.ms", "soon")
        assert refused.value.code == INVALID_CONFIG


@pytest.mark.parametrize("library", [Confluent(), Aio()], ids=lambda library: library.name)
def test_all_configs_of_a_topic_are_replaced_at_once(cluster: Cluster, library: Confluent | Aio, topic: str) -> None:
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, configs={"retention.ms": "1000000", "segment.ms": "5000"})
        admin.replace_configs(topic, {"segment.ms": "6000", "max.message.bytes": "2000"})
        expected = {"retention.ms": "604800000", "segment.ms": "6000", "max.message.bytes": "2000"}
        eventually(lambda: {name: admin.configs(topic)[name] for name in expected} == expected, "the new values")
        with pytest.raises(Refused) as refused:
            admin.replace_configs(topic, {"segment.ms": "soon"})
        assert refused.value.code == INVALID_CONFIG
        assert admin.configs(topic)["max.message.bytes"] == "2000"


def test_the_cluster_describes_itself(cluster: Cluster, library: Library) -> None:
    with library.admin(cluster.bootstrap) as admin:
        seen = admin.cluster()
    assert seen.cluster_id == cluster.layout.cluster_id
    assert dict(seen.brokers) == {node.id: node.kafka for node in cluster.layout.nodes}
    assert seen.controller in seen.brokers
