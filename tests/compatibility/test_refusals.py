"""What a broker refuses reaches the program, with Kafka's code; and a topic that comes to be by being written to."""

from __future__ import annotations

import pytest

from tests.compatibility.cluster import Cluster
from tests.compatibility.confluent import Confluent
from tests.compatibility.kafka_python import KafkaPython
from tests.compatibility.model import CODECS, How, Library, Message, Refused

UNKNOWN_TOPIC_OR_PARTITION = 3
MESSAGE_TOO_LARGE = 10
INVALID_TIMESTAMP = 32


@pytest.mark.parametrize("idempotent", [False, True])
def test_a_batch_above_the_limit(cluster: Cluster, library: Library, topic: str, idempotent: bool) -> None:
    """The limit of max.message.bytes is 1 MiB and a little by default; the messages around it arrive."""
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic)
    how = How(idempotent=idempotent, linger_ms=0)
    results = [
        library.write(cluster.bootstrap, topic, [message], how=how)[0]
        for message in (Message(b"before"), Message(b"x" * 1_500_000), Message(b"after"))
    ]
    assert [(result.offset, result.error) for result in results] == [(0, 0), (-1, MESSAGE_TOO_LARGE), (1, 0)]
    with library.reader(cluster.bootstrap, topic) as reading:
        assert [seen.value for seen in reading.take(2)] == [b"before", b"after"]


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec != "none"])
def test_the_limit_holds_for_what_is_sent(cluster: Cluster, library: Library, topic: str, codec: str) -> None:
    """A record that is larger than the limit before its compression, and far below it after."""
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic)
    value = b"again " * 400_000
    (result,) = library.write(cluster.bootstrap, topic, [Message(value)], how=How(codec=codec))  # type: ignore[arg-type]
    assert (result.offset, result.error) == (0, 0), result
    with library.reader(cluster.bootstrap, topic) as reading:
        (seen,) = reading.take(1)
    assert seen.value == value


def test_a_time_too_far_ahead(cluster: Cluster, library: Library, topic: str) -> None:
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, configs={"message.timestamp.after.max.ms": "1000"})
    (result,) = library.write(cluster.bootstrap, topic, [Message(b"later", timestamp=4_000_000_000_000)])
    assert (result.offset, result.error) == (-1, INVALID_TIMESTAMP), result


def test_a_topic_comes_to_be_by_being_written_to(cluster: Cluster, library: Library, topic: str) -> None:
    """With num.partitions and default.replication.factor of the broker."""
    results = library.write(cluster.bootstrap, topic, [Message(b"first"), Message(b"second")], partition=1)
    assert [result.offset for result in results] == [0, 1]
    cluster.wait_until_known(topic, 2)
    with library.admin(cluster.bootstrap) as admin:
        found = admin.describe(topic)
    assert {index: len(seen.replicas) for index, seen in found.items()} == {0: 3, 1: 3}


# The admin client of aiokafka asks with a version of Metadata that always lets the broker make the topic.
@pytest.mark.parametrize("library", [Confluent(), KafkaPython()], ids=lambda library: library.name)
def test_an_unknown_topic_is_not_made_by_describing_it(cluster: Cluster, library: Library, topic: str) -> None:
    with library.admin(cluster.bootstrap) as admin:
        with pytest.raises(Refused) as refused:
            admin.describe(topic)
        assert refused.value.code == UNKNOWN_TOPIC_OR_PARTITION
        assert topic not in admin.topics()


# Each library goes on asking for a while, and has its own way to give up.
PATIENCE: dict[str, dict[str, object]] = {
    "confluent-kafka": {"topic.metadata.propagation.max.ms": 1000},
    "aiokafka": {"request_timeout_ms": 1500},
    "kafka-python": {"max_block_ms": 1500},
}
# librdkafka says so with Kafka's code or with one of its own, as it happens; kafka-python only that time is over.
GIVEN_UP = {
    "confluent-kafka": {UNKNOWN_TOPIC_OR_PARTITION, -188},
    "aiokafka": {UNKNOWN_TOPIC_OR_PARTITION},
    "kafka-python": {-1000},
}


def test_an_unknown_topic_takes_nothing(strict: Cluster, library: Library, topic: str) -> None:
    """Where auto.create.topics.enable is off."""
    how = How(settings=PATIENCE[library.name])
    (result,) = library.write(strict.bootstrap, topic, [Message(b"lost")], how=how)
    assert result.offset == -1, result
    assert result.error in GIVEN_UP[library.name], result
    with library.admin(strict.bootstrap) as admin:
        assert topic not in admin.topics()
