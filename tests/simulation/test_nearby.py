"""Consumers that read from the replica in their rack (KIP-392), through the death, pause and lag of that replica."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ottla.broker.replication import nearby
from ottla.broker.replication.leading import read_below
from ottla.client import Consumer, TopicPartition
from ottla.simulation import SimulatedCluster, run

TOPIC = "orders"
WHERE = TopicPartition(TOPIC, 0)
SETTINGS = {"replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector"}

LAG_S = 20.0
"""By then a leader has let go of a follower that does not fetch: after replica.lag.time.max.ms, which is 10 s here."""


class Uncommitted(Exception):
    """A record was read that is not committed."""


class Reading:
    """A consumer in the rack of `near`, a follower, that reads what `write` writes."""

    def __init__(self, cluster: SimulatedCluster, consumer: Consumer, near: int) -> None:
        self.cluster = cluster
        self.consumer = consumer
        self.near = near
        self.seen: list[int] = []

    @property
    def source(self) -> int:
        """Where the last fetch went, or is."""
        state = self.consumer._fetcher.states[WHERE]
        return self.cluster.leader(TOPIC) if state.preferred is None else state.preferred

    async def read(self, *expected: int, within: float = 10.0) -> float:
        """Exactly these offsets come next. How long that took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for offset in expected:
            record = await asyncio.wait_for(self.consumer.getone(), within)
            self.seen.append(record.offset)
            living = [node_id for node_id, node in self.cluster.nodes.items() if node.alive]
            if record.offset >= max(self.on(node_id).high_watermark for node_id in living):
                raise Uncommitted(f"offset {record.offset}")
            assert record.offset == offset
        return loop.time() - began

    async def write(self, count: int = 1) -> list[int]:
        async with self.cluster.producer(linger_ms=0) as producer:
            return [(await producer.send_and_wait(TOPIC, b"v", partition=0)).offset for _ in range(count)]

    def on(self, node_id: int):
        found = self.cluster.partition_on(node_id, TOPIC)
        assert found is not None
        return found

    async def comes_back(self, *, within: float = 20.0) -> None:
        """Fetches from the replica in its rack again."""
        await self.cluster.until(lambda: self.source == self.near, "it reads from its rack", within=within)


def read(story: Callable[[Reading], Awaitable[None]], *, watched: bool = True, seed: int = 1) -> None:
    async def scenario() -> None:
        async with SimulatedCluster(settings=SETTINGS, racks=True) as cluster:
            if not watched:
                cluster.invariants.leave()
            await cluster.create_topic(TOPIC)
            # Not the controller: what happens to it shall be no election among the voters as well.
            free = [id for id in cluster.nodes if id not in (cluster.leader(TOPIC), cluster.controller())]
            rack = f"rack-{free[0]}"
            async with cluster.consumer(client_rack=rack, auto_offset_reset="earliest") as consumer:
                consumer.assign([WHERE])
                reading = Reading(cluster, consumer, free[0])
                await reading.read(*await reading.write())
                await reading.comes_back()
                await story(reading)

    run(scenario, seed)


async def it_dies(reading: Reading) -> None:
    first = await reading.write(3)
    await reading.read(*first)
    reading.cluster.kill(reading.near)
    took = await reading.read(*await reading.write(3))
    assert took < 0.5, "it waits for nothing but the end of a connection"
    assert reading.source == reading.cluster.leader(TOPIC)
    reading.cluster.start(reading.near)
    await reading.cluster.until(lambda: reading.cluster.full(TOPIC), "it is in sync", within=30)
    offsets = await reading.write(1)
    await reading.read(*offsets)
    await reading.comes_back()


async def it_is_paused(reading: Reading) -> None:
    reading.cluster.pause(reading.near)
    await reading.cluster.until(lambda: reading.near not in reading.on(reading.cluster.leader(TOPIC)).image.isr, "out")
    await reading.read(*await reading.write(3), within=5)
    reading.cluster.resume(reading.near)
    await reading.cluster.until(lambda: reading.cluster.full(TOPIC), "it is in sync", within=30)
    await reading.comes_back()


async def it_is_cut_off_from_its_leader(reading: Reading) -> None:
    """It goes on to answer, and has nothing to say. If its leader is the controller, too, it is not even told that it
    is out of the ISR; its fetch ends after half a minute."""
    leader = reading.cluster.leader(TOPIC)
    reading.cluster.partition([leader], [reading.near])
    # Acknowledged when it is out of the ISR. Without a write it would not lag behind.
    written = await reading.write(3)
    assert reading.near not in reading.on(leader).image.isr
    await reading.read(*written, within=32)
    reading.cluster.heal()
    await reading.cluster.until(lambda: reading.cluster.full(TOPIC), "it is in sync", within=30)
    await reading.comes_back()


async def its_leader_dies(reading: Reading) -> None:
    leader = reading.cluster.kill(reading.cluster.leader(TOPIC))
    await reading.read(*await reading.write(3))
    reading.cluster.start(leader)
    await reading.cluster.until(lambda: reading.cluster.full(TOPIC), "it is in sync", within=30)
    await reading.read(*await reading.write(2))


async def only_consumers_cannot_reach_it(reading: Reading) -> None:
    """The leader recommends it all the time; the consumer knows better."""
    undo = reading.cluster.refuse_clients([reading.near])
    for _ in range(3):
        await reading.read(*await reading.write(3), within=2)
        await reading.cluster.advance(4)
    undo()
    await reading.comes_back()
    await reading.read(*await reading.write(3))


@pytest.mark.parametrize(
    "story",
    [it_dies, it_is_paused, it_is_cut_off_from_its_leader, its_leader_dies, only_consumers_cannot_reach_it],
    ids=lambda story: story.__name__,
)
def test_a_reader_goes_on_where_its_replica_does_not(story: Callable[[Reading], Awaitable[None]]):
    read(story)


async def a_record_reaches_it_as_soon_as_it_is_committed(reading: Reading) -> None:
    """Not with the follower's next data, nor at the end of its long poll."""
    loop = asyncio.get_running_loop()
    async with reading.cluster.producer(linger_ms=0) as producer:
        for _ in range(20):
            written = await producer.send_and_wait(TOPIC, b"v", partition=0)
            began = loop.time()
            await reading.read(written.offset)
            assert reading.source == reading.near
            assert loop.time() - began < 0.05
            await reading.cluster.advance(0.2)


def test_the_high_watermark_reaches_followers_at_once():
    read(a_record_reaches_it_as_soon_as_it_is_committed)


async def one_record_is_not_committed(reading: Reading) -> None:
    """The third replica does not fetch, so the near one has a record in its log that the leader cannot commit."""
    cluster = reading.cluster
    leader = cluster.leader(TOPIC)
    third = next(id for id in cluster.nodes if id not in (leader, reading.near))
    cluster.pause(third)
    async with cluster.producer(linger_ms=0, acks=1) as producer:
        offset = (await producer.send_and_wait(TOPIC, b"not yet", partition=0)).offset
        await cluster.until(lambda: reading.on(reading.near).log_end_offset > offset, "it has it")
        with pytest.raises(TimeoutError):
            await reading.read(offset, within=1.5)
        assert reading.source == reading.near
        await reading.read(offset, within=LAG_S)
    cluster.resume(third)


def test_what_is_not_committed_is_not_read():
    read(one_record_is_not_committed)


def test_a_follower_that_gave_all_it_has_would_show_it(monkeypatch: pytest.MonkeyPatch):
    def everything(partition, want, up_to, *, min_one):
        del up_to
        return read_below(partition, want, partition.log_end_offset, min_one=min_one)

    monkeypatch.setattr(nearby, "read_below", everything)
    with pytest.raises(Uncommitted):
        read(one_record_is_not_committed, watched=False)
