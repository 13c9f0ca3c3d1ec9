"""Topics made, described, changed and deleted through each library's own admin client, and what is refused."""

from __future__ import annotations

import pytest

from tests.compatibility.aio import Aio
from tests.compatibility.cluster import Cluster, eventually
from tests.compatibility.confluent import Confluent
from tests.compatibility.kafka_python import KafkaPython
from tests.compatibility.model import ConfigEditor, Library, Message, Refused

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
