"""A leader that was replaced and does not know it: what it says of offsets that it has never had is not believed.

A consumer that begins anew because of it reads everything twice, and a program that copies copies twice.
"""

from __future__ import annotations

import asyncio

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.api import offset_for_leader_epoch
from ottla.broker.replication.leader import LeaderState
from ottla.client import TopicPartition
from ottla.simulation import SimulatedCluster, run
from ottla.simulation.node import KAFKA_PORT

TOPIC = "orders"
WHERE = TopicPartition(TOPIC, 0)
SETTINGS = {"broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "500"}


class ReadAgain(Exception):
    """A record came that the group had left behind."""


async def write(cluster: SimulatedCluster, *values: bytes) -> int:
    producer = cluster.producer(linger_ms=0)
    async with producer:
        for value in values:
            offset = (await producer.send_and_wait(TOPIC, value, partition=0)).offset
    return int(offset)


def address(cluster: SimulatedCluster, node_id: int) -> str:
    return f"{cluster.nodes[node_id].machine.address}:{KAFKA_PORT}"


async def replaced(cluster: SimulatedCluster) -> int:
    """The old leader, cut off from the others but not from clients; the new one has taken two more records."""
    await cluster.create_topic(TOPIC)
    await write(cluster, b"m0")
    old = cluster.leader(TOPIC)
    others = [node_id for node_id in cluster.nodes if node_id != old]
    await cluster.until(lambda: cluster.full(TOPIC), "every replica is in sync")
    cluster.partition([old], others)
    await cluster.until(lambda: led_by(cluster, others), "another one leads", within=20)
    assert await write(cluster, b"m1", b"m2") == 2
    return old


def led_by(cluster: SimulatedCluster, nodes: list[int]) -> bool:
    partitions = [cluster.partition_on(node_id, TOPIC) for node_id in nodes]
    return any(each is not None and each.is_leader for each in partitions)


async def a_consumer_that_knows_only_the_old_one(epoch: int) -> None:
    """Its group has read everything, and it comes by way of the old leader."""
    async with SimulatedCluster(settings=SETTINGS) as cluster:
        old = await replaced(cluster)
        assert cluster.partition_on(old, TOPIC).is_leader, "it does not know"
        async with cluster.consumer(bootstrap_servers=address(cluster, old), auto_offset_reset="earliest") as consumer:
            consumer.assign([WHERE])
            consumer._fetcher.states[WHERE].seek(3, epoch)  # as from the group's offsets
            reading = asyncio.ensure_future(consumer.getone())
            await cluster.advance(3)
            if reading.done():
                raise ReadAgain(f"offset {reading.result().offset}")
            cluster.heal()
            await cluster.until(lambda: cluster.full(TOPIC), "every replica is in sync", within=30)
            offset = await write(cluster, b"m3")
            found = await asyncio.wait_for(reading, 20)
            if found.offset != offset:
                raise ReadAgain(f"offset {found.offset}")


def with_the_epoch_of_the_last_record():
    return a_consumer_that_knows_only_the_old_one(1)


def without_an_epoch():
    return a_consumer_that_knows_only_the_old_one(-1)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("story", [without_an_epoch, with_the_epoch_of_the_last_record])
def test_nothing_is_read_again(story, seed: int):
    run(story, seed)


def test_if_it_were_sure_of_itself_everything_would_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(LeaderState, "is_beyond", lambda *_: True)
    with pytest.raises(ReadAgain, match="offset 0"):
        run(without_an_epoch, 0)


def test_if_it_said_where_its_own_log_ends_some_of_it_would_be(monkeypatch: pytest.MonkeyPatch):
    """An epoch that it has not heard of."""

    def end(context, topic, index, current_epoch, epoch):
        partition = offset_for_leader_epoch.led_partition(context, topic, index, current_epoch)
        known, end_offset = partition.log.end_offset_for_epoch(epoch)
        return {"partition": index, "error_code": ErrorCode.none, "leader_epoch": known, "end_offset": end_offset}

    monkeypatch.setattr(offset_for_leader_epoch, "_end", end)
    monkeypatch.setattr(LeaderState, "is_beyond", lambda *_: True)
    with pytest.raises(ReadAgain):
        run(with_the_epoch_of_the_last_record, 0)
