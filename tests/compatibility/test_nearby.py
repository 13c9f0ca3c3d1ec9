"""KIP-392 with librdkafka: it goes to the replica in its rack, and back to the leader when that replica dies."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.compatibility.background import BackgroundLoop
from tests.compatibility.cluster import Cluster, eventually
from tests.compatibility.confluent import Confluent
from tests.compatibility.model import How, Message

SETTINGS = {"replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector"}


@pytest.fixture(scope="module")
def racks(background: BackgroundLoop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Node n stands in rack-n."""
    directory = tmp_path_factory.mktemp("racks")
    cluster = Cluster.start_new(background, directory, 3, SETTINGS, racks=True)
    yield cluster
    cluster.down()


class Near:
    """A consumer in a rack, and the broker that it fetches from by its own statistics."""

    def __init__(self, cluster: Cluster, topic: str, rack: str) -> None:
        self.source = -1
        self._topic = topic
        self._consumer = Consumer(
            {
                "bootstrap.servers": cluster.bootstrap,
                "group.id": "none",
                "client.rack": rack,
                "statistics.interval.ms": 100,
                "stats_cb": self._statistics,
                "fetch.wait.max.ms": 100,
            }
        )
        self._consumer.assign([TopicPartition(topic, 0, 0)])
        self.seen: list[bytes] = []

    def _statistics(self, text: str) -> None:
        topics = json.loads(text)["topics"]
        if self._topic in topics:
            self.source = topics[self._topic]["partitions"]["0"]["broker"]

    def has(self, count: int) -> bool:
        for message in self._consumer.consume(100, 0.1):
            assert message.error() is None, message.error()
            value = message.value()
            assert isinstance(value, bytes)
            self.seen.append(value)
        return len(self.seen) >= count

    def close(self) -> None:
        self._consumer.close()


def write(cluster: Cluster, topic: str, first: int, count: int) -> None:
    messages = [Message(b"%d" % number) for number in range(first, first + count)]
    results = Confluent().write(cluster.bootstrap, topic, messages, partition=0, how=How(idempotent=True))
    assert not any(result.error for result in results)


def test_a_consumer_reads_from_its_rack_until_that_replica_dies(racks: Cluster, topic: str) -> None:
    with Confluent().admin(racks.bootstrap) as admin:
        racks.make(admin, topic, 1)
        leader = admin.describe(topic)[0].leader
    write(racks, topic, 0, 100)
    near = next(node for node in (1, 2, 3) if node != leader)
    reader = Near(racks, topic, f"rack-{near}")
    try:
        eventually(lambda: reader.has(100) and reader.source == near, "it reads from its rack")
        write(racks, topic, 100, 100)
        eventually(lambda: reader.has(200), "what came later")
        assert reader.source == near
        racks.kill(near)
        write(racks, topic, 200, 100)
        eventually(lambda: reader.has(300), "it goes on with the leader")
        eventually(lambda: reader.has(0) and reader.source == leader, "it reads from the leader")
    finally:
        reader.close()
    assert reader.seen == [b"%d" % number for number in range(300)]


def test_a_consumer_in_the_rack_of_the_leader_stays_there(racks: Cluster, topic: str) -> None:
    racks.restore()
    with Confluent().admin(racks.bootstrap) as admin:
        racks.make(admin, topic, 1)
        leader = admin.describe(topic)[0].leader
    write(racks, topic, 0, 100)
    reader = Near(racks, topic, f"rack-{leader}")
    try:
        eventually(lambda: reader.has(100) and reader.source == leader, "it reads from the leader")
    finally:
        reader.close()
