"""Elections and reassignments through other people's admin clients: kafka-python, and librdkafka for elections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import ElectionType, KafkaError
from confluent_kafka import TopicPartition as ConfluentPartition
from confluent_kafka.admin import AdminClient
from kafka import KafkaAdminClient, TopicPartition  # type: ignore[import-untyped]

from tests.compatibility.cluster import Cluster, eventually
from tests.compatibility.kafka_python import KafkaPython
from tests.compatibility.model import Message, PartitionSeen

PREFERRED, UNCLEAN = 0, 1
UNKNOWN_TOPIC_OR_PARTITION = 3
INVALID_REPLICA_ASSIGNMENT = 39
NO_REASSIGNMENT_IN_PROGRESS = 85


@contextmanager
def kafka_python(cluster: Cluster) -> Iterator[KafkaAdminClient]:
    """A new client: one that was connected to a controller which is down now would not look for another."""
    client = KafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
def admin(cluster: Cluster) -> Iterator[KafkaAdminClient]:
    with kafka_python(cluster) as client:
        yield client


def made(cluster: Cluster, topic: str, **configs: str) -> PartitionSeen:
    """A topic of one partition with two replicas."""
    with KafkaPython().admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, 1, 2, configs={name.replace("_", "."): value for name, value in configs.items()})
        return admin.describe(topic)[0]


def now(cluster: Cluster, topic: str) -> PartitionSeen:
    with KafkaPython().admin(cluster.bootstrap) as admin:
        return admin.describe(topic)[0]


def codes(outcomes: dict[TopicPartition, Any]) -> dict[TopicPartition, int]:
    return {where: 0 if error is None else error.errno for where, error in outcomes.items()}


def test_a_partition_moves_and_is_read_from_where_it_is(cluster: Cluster, topic: str, admin: KafkaAdminClient) -> None:
    library, where = KafkaPython(), TopicPartition(topic, 0)
    before = made(cluster, topic).replicas
    library.write(cluster.bootstrap, topic, [Message(b"%d" % number) for number in range(100)])
    other = ({1, 2, 3} - set(before)).pop()
    target = [other, before[0]]
    assert admin.alter_partition_reassignments({where: target}) == {where: None}
    eventually(lambda: not admin.list_partition_reassignments(), "nothing is under way any more")
    eventually(lambda: now(cluster, topic).isr == set(target), "the new replicas are in sync")
    found = now(cluster, topic)
    assert list(found.replicas) == target
    library.write(cluster.bootstrap, topic, [Message(b"more")])
    with library.reader(cluster.bootstrap, topic) as reading:
        values = [seen.value for seen in reading.take(101)]
    assert values == [*(b"%d" % number for number in range(100)), b"more"]


def test_what_is_under_way_is_listed_and_cancelled(cluster: Cluster, topic: str) -> None:
    where = TopicPartition(topic, 0)
    before = made(cluster, topic).replicas
    other = ({1, 2, 3} - set(before)).pop()
    cluster.stop(other)
    with kafka_python(cluster) as admin:
        assert admin.alter_partition_reassignments({where: [other, before[1]]}) == {where: None}
        assert admin.list_partition_reassignments([where]) == {
            where: {
                "replicas": [other, before[1], before[0]],
                "adding_replicas": [other],
                "removing_replicas": [before[0]],
            }
        }
        assert admin.alter_partition_reassignments({where: None}) == {where: None}
        assert admin.list_partition_reassignments() == {}
        assert set(now(cluster, topic).replicas) == set(before)


def test_what_is_refused(cluster: Cluster, topic: str, admin: KafkaAdminClient) -> None:
    made(cluster, topic)
    here, missing = TopicPartition(topic, 0), TopicPartition(topic, 7)
    assert codes(admin.alter_partition_reassignments({here: None, missing: [1]})) == {
        here: NO_REASSIGNMENT_IN_PROGRESS,
        missing: UNKNOWN_TOPIC_OR_PARTITION,
    }
    for replicas in ([1, 1], [1, 99]):
        assert codes(admin.alter_partition_reassignments({here: replicas})) == {here: INVALID_REPLICA_ASSIGNMENT}


@pytest.mark.parametrize("client", ["confluent", "kafka-python"])
def test_a_preferred_leader_is_elected_again(
    cluster: Cluster, topic: str, admin: KafkaAdminClient, client: str
) -> None:
    preferred = made(cluster, topic).leader
    cluster.stop(preferred)
    eventually(lambda: now(cluster, topic).leader not in (-1, preferred), "the other replica leads")
    cluster.start(preferred)
    eventually(lambda: preferred in now(cluster, topic).isr, "the preferred leader is in sync again")
    assert now(cluster, topic).leader != preferred
    if client == "kafka-python":
        with kafka_python(cluster) as admin:
            answer = admin.elect_leaders(PREFERRED, {topic: [0]})
        (result,) = answer.replica_election_results
        assert [row.error_code for row in result.partition_result] == [0]
    else:
        confluent = AdminClient({"bootstrap.servers": cluster.bootstrap})
        where = ConfluentPartition(topic, 0)
        outcome = confluent.elect_leaders(ElectionType.PREFERRED, [where]).result(20)
        assert outcome[where] is None
        again = confluent.elect_leaders(ElectionType.PREFERRED, [where]).result(20)
        assert again[where].code() == KafkaError.ELECTION_NOT_NEEDED
    eventually(lambda: now(cluster, topic).leader == preferred, "the preferred leader leads")


def test_an_unclean_election_is_asked_for(cluster: Cluster, topic: str) -> None:
    """The leader alone has the last record, and is away; the other leads, and that record is gone."""
    first, second = made(cluster, topic, min_insync_replicas="1").replicas
    confluent = AdminClient({"bootstrap.servers": cluster.bootstrap})
    where = ConfluentPartition(topic, 0)
    outcome = confluent.elect_leaders(ElectionType.UNCLEAN, [where]).result(20)
    assert outcome[where].code() == KafkaError.ELECTION_NOT_NEEDED
    cluster.stop(second)
    eventually(lambda: now(cluster, topic).isr == {first}, "the leader is alone")
    KafkaPython().write(cluster.bootstrap, topic, [Message(b"only here")])
    cluster.stop(first)
    cluster.start(second)
    eventually(lambda: now(cluster, topic).leader == -1, "nobody leads")
    with kafka_python(cluster) as admin:
        admin.elect_leaders(UNCLEAN, {topic: [0]})
    eventually(lambda: now(cluster, topic).leader == second, "the other leads")
    assert now(cluster, topic).isr == {second}
