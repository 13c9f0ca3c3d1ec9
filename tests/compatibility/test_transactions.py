"""Each library's transactional producer, read by every library's consumer of committed records (transactions v1)."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import Consumer, TopicPartition

from ottla.broker.coordination import TRANSACTIONS_TOPIC, partition_for
from tests.compatibility.cluster import Cluster, eventually
from tests.compatibility.model import Library
from tests.compatibility.transactional import Fenced, Transactional, read_until, transactional

LAST = b"the last one"


def write(one: Transactional, topic: str, value: bytes, partitions: tuple[int, ...] = (0, 1)) -> None:
    for partition in partitions:
        one.send(topic, partition, value)


def transaction(one: Transactional, topic: str, *values: bytes, commit: bool = True) -> None:
    one.begin()
    for value in values:
        write(one, topic, value)
    one.flush()
    if commit:
        one.commit()
    else:
        one.abort()


def made(cluster: Cluster, library: Library, topic: str) -> None:
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, 2)


def test_what_is_committed_is_seen_and_what_is_aborted_is_not(
    cluster: Cluster, libraries: tuple[Library, ...], library: Library, topic: str
) -> None:
    made(cluster, library, topic)
    with transactional(library.name, cluster.bootstrap, topic) as one:
        for number in range(5):
            transaction(one, topic, b"kept %d" % number, b"kept too %d" % number)
            transaction(one, topic, b"given up %d" % number, commit=False)
        transaction(one, topic, LAST)
    kept = [value for number in range(5) for value in (b"kept %d" % number, b"kept too %d" % number)]
    for reader in libraries:
        for partition in range(2):
            assert read_until(reader.name, cluster.bootstrap, topic, partition, LAST) == kept, reader.name
        everything = read_until(reader.name, cluster.bootstrap, topic, 0, LAST, isolation="read_uncommitted")
        assert len(everything) == 15, "and with the other isolation level there is more"


def test_an_open_transaction_is_not_read_past(cluster: Cluster, library: Library, topic: str) -> None:
    made(cluster, library, topic)
    with (
        transactional(library.name, cluster.bootstrap, f"{topic}-1") as one,
        transactional(library.name, cluster.bootstrap, f"{topic}-2") as other,
    ):
        one.begin()
        write(one, topic, b"open")
        one.flush()
        transaction(other, topic, LAST)
        with pytest.raises(AssertionError, match="does not come"):
            read_until(library.name, cluster.bootstrap, topic, 0, LAST, within=2.0)
        one.commit()
        assert read_until(library.name, cluster.bootstrap, topic, 0, LAST) == [b"open"]


def test_the_second_instance_fences_the_first(cluster: Cluster, library: Library, topic: str) -> None:
    made(cluster, library, topic)
    with transactional(library.name, cluster.bootstrap, topic) as one:
        transaction(one, topic, b"before")
        one.begin()
        write(one, topic, b"given up")
        one.flush()
        with transactional(library.name, cluster.bootstrap, topic) as other:
            transaction(other, topic, b"after")
            with pytest.raises(Fenced):
                write(one, topic, b"of the dead")
                one.flush()
                one.commit()
            transaction(other, topic, LAST)
    for partition in range(2):
        assert read_until(library.name, cluster.bootstrap, topic, partition, LAST) == [b"before", b"after"]


def test_a_transaction_that_lasts_too_long_is_aborted(cluster: Cluster, library: Library, topic: str) -> None:
    """And holds up no reader after that; its producer cannot commit it any more."""
    made(cluster, library, topic)
    with (
        transactional(library.name, cluster.bootstrap, topic, timeout_ms=1500) as one,
        transactional(library.name, cluster.bootstrap, f"{topic}-2") as other,
    ):
        one.begin()
        write(one, topic, b"given up")
        one.flush()
        transaction(other, topic, LAST)
        assert read_until(library.name, cluster.bootstrap, topic, 0, LAST, within=20.0) == []
        with pytest.raises(Fenced):
            one.commit()


def coordinator(cluster: Cluster, library: Library, name: str) -> int:
    with library.admin(cluster.bootstrap) as admin:
        found = admin.describe(TRANSACTIONS_TOPIC)
    return found[partition_for(name, len(found))].leader


def test_transactions_go_on_when_their_coordinator_is_killed(
    cluster: Cluster, libraries: tuple[Library, ...], library: Library, topic: str
) -> None:
    """Before the commit of one, and between two.

    kafka-python 3.0.12 forgets a request whose coordinator refuses the connection, and waits for its answer for ever;
    it has to find the node alive, which is not its coordinator any more. aiokafka was seen to wait, too.
    """
    made(cluster, library, topic)

    def kill() -> None:
        victim = coordinator(cluster, libraries[0], topic)
        cluster.kill(victim)
        eventually(lambda: coordinator(cluster, libraries[0], topic) not in (victim, -1), "another one coordinates")
        if library.name in ("kafka-python", "aiokafka"):
            cluster.start(victim)

    with transactional(library.name, cluster.bootstrap, topic) as one:
        transaction(one, topic, b"0")
        one.begin()
        write(one, topic, b"1")
        one.flush()
        kill()
        one.commit()
        transaction(one, topic, b"given up", commit=False)
        cluster.restore()
        transaction(one, topic, b"2")
        kill()
        started = time.monotonic()
        transaction(one, topic, LAST)
        assert time.monotonic() - started < 20
    for partition in range(2):
        assert read_until(library.name, cluster.bootstrap, topic, partition, LAST) == [b"0", b"1", b"2"]


def test_offsets_of_a_group_are_committed_with_the_transaction(cluster: Cluster, library: Library, topic: str) -> None:
    made(cluster, library, topic)
    group = f"{topic}-group"

    def offset() -> int:
        consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": group})
        try:
            (found,) = consumer.committed([TopicPartition(topic, 0)], timeout=20)
            return int(found.offset)
        finally:
            consumer.close()

    with transactional(library.name, cluster.bootstrap, topic) as one:
        one.begin()
        write(one, topic, b"0")
        one.offsets({(topic, 0): 7}, group)
        one.commit()
        eventually(lambda: offset() == 7, "the committed offset is there")
        one.begin()
        write(one, topic, b"1")
        one.offsets({(topic, 0): 99}, group)
        one.abort()
        one.begin()
        write(one, topic, b"2")
        one.offsets({(topic, 0): 8}, group)
        one.commit()
        eventually(lambda: offset() == 8, "and not the aborted one")
