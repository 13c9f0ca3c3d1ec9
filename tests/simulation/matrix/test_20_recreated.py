"""Row 20: a topic is deleted and made again under the same name while nodes die: no old record comes back."""

import asyncio

import pytest

from ottla.broker.coordination import OFFSETS_TOPIC
from ottla.broker.groups import OffsetValue
from ottla.client import NewTopic, NoOffsetForPartitionError, TopicPartition
from ottla.client.producer import sender
from ottla.simulation import CLIENTS, SimulatedCluster, run
from tests.simulation.matrix.harness import SMALL


@pytest.mark.parametrize("how", ["kill", "power_off"])
@pytest.mark.parametrize("seed", range(2))
def test_records_of_an_older_namesake_do_not_come_back(how: str, seed: int):
    async def scenario() -> None:
        async with SimulatedCluster(settings=SMALL | {"ottla.flush": "synced"}) as cluster:
            await cluster.create_topic("news")
            for life in range(4):
                sent = [b"%d of life %d" % (number, life) for number in range(30 - 7 * life)]
                async with cluster.producer(linger_ms=0) as producer:
                    for value in sent:
                        await producer.send_and_wait("news", value, partition=0)
                await cluster.advance(1.5 if life % 2 else 0.1)
                down = [cluster.nodes[1 + (life + seed) % 3]]
                if life == 3:
                    down = list(cluster.nodes.values())
                for node in down:
                    getattr(node, how)()
                if life < 3:
                    async with cluster.admin() as admin:
                        await admin.delete_topics(["news"])
                    async with cluster.admin() as admin:
                        await admin.create_topics([NewTopic("news", 1, 3)])
                for node in down:
                    node.start()
                await cluster.until(lambda: cluster.full("news"), "in sync", within=30)
            async with cluster.consumer(auto_offset_reset="earliest") as consumer:
                consumer.assign([TopicPartition("news", 0)])
                got: list[bytes] = []
                while len(got) < len(sent):
                    for records in (await consumer.getmany(timeout_ms=500)).values():
                        got += [record.value or b"" for record in records]
                assert got == sent
            assert cluster.world.complaints == []
            assert not any(node.failures for node in cluster.nodes.values())

    run(scenario, seed)


def what_comes_late(seed: int) -> int:
    """A request arrives when its records were acknowledged by another leader, and there is another topic of the name.

    Returns how much that one has then.
    """

    async def scenario() -> int:
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("news")
            async with cluster.producer() as producer, cluster.admin() as admin:
                await producer.send_and_wait("news", b"in time")
                held = cluster.hold("Produce", source=CLIENTS)
                waiting = await producer.send("news", b"late")
                await held.caught()
                leader = cluster.leader("news")
                order = [*sorted(set(cluster.nodes) - {leader}), leader]
                await admin.alter_partition_reassignments({TopicPartition("news", 0): order})
                await admin.elect_leaders()
                assert (await waiting).offset == 1
                await admin.delete_topics(["news"])
                await admin.create_topics([NewTopic("news", replica_assignments={0: order[::-1]})])
                held.release()
                await cluster.advance(1)
                return cluster.invariants.committed("news", 0)

    return run(scenario, seed)


def test_a_request_that_arrives_late_is_for_the_topic_that_was_meant():
    assert what_comes_late(0) == 0


def test_by_the_name_it_would_be_written_to_the_next_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sender, "PRODUCE_VERSIONS", (3, sender.TOPIC_IDS - 1))
    assert what_comes_late(0) > 0


def what_a_group_reads(seed: int) -> list[int]:
    """Offsets of a topic that is made anew while the group's coordinator is down, which so has never heard of it."""

    async def scenario() -> list[int]:
        async with SimulatedCluster(settings={"offsets.topic.num.partitions": "1"}) as cluster:
            await cluster.create_topic("news")
            await read(cluster, await write(cluster, 5))
            coordinator = cluster.kill(cluster.leader(OFFSETS_TOPIC))
            async with cluster.admin() as admin:
                await admin.delete_topics(["news"])
                await admin.create_topics([NewTopic("news", 1, 3)])
                cluster.start(coordinator)
                await cluster.until(lambda: cluster.full("news"), "in sync", within=30)
                assert await admin.list_consumer_group_offsets("readers") == {}
            return await read(cluster, await write(cluster, 8))

    return run(scenario, seed)


async def write(cluster: SimulatedCluster, count: int) -> int:
    async with cluster.producer() as producer:
        for _ in range(count):
            last = await producer.send_and_wait("news", b"")
    return last.offset


async def read(cluster: SimulatedCluster, last: int) -> list[int]:
    """Up to that offset, and commit it."""
    met: list[int] = []
    async with cluster.consumer("news", group_id="readers", auto_offset_reset="earliest") as consumer:
        while last not in met:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                met += [record.offset for record in records]
        await consumer.commit()
    return met


def test_a_group_begins_a_new_topic_at_its_beginning():
    assert what_a_group_reads(0) == [*range(8)]


def test_without_the_topic_id_it_would_miss_the_first_records(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(OffsetValue, "is_of", lambda *_: True)
    with pytest.raises(AssertionError, match="OffsetAndMetadata"):
        what_a_group_reads(0)


async def read_on(cluster: SimulatedCluster, failovers: int, policy: str) -> list[int]:
    """Offsets that a consumer which goes on meets when the topic is made anew, with 8 records, after it has read 5."""
    for _ in range(failovers):
        node = cluster.kill(cluster.leader("news"))
        await cluster.advance(5)
        cluster.start(node)
        await cluster.until(lambda: cluster.full("news"), "in sync", within=30)
    async with cluster.consumer(auto_offset_reset=policy) as consumer, cluster.admin() as admin:
        consumer.assign([TopicPartition("news", 0)])
        consumer.seek(TopicPartition("news", 0), 0)
        met: list[int] = []
        for last, count in ((4, 5), (7, 8)):
            if count == 8:
                await admin.delete_topics(["news"])
                await admin.create_topics([NewTopic("news", 1, 3)])
                met = []
            await write(cluster, count)
            async with asyncio.timeout(30):
                while last not in met:
                    for records in (await consumer.getmany(timeout_ms=500)).values():
                        met += [record.offset for record in records]
    return met


@pytest.mark.parametrize("policy", ["earliest", "latest"])
@pytest.mark.parametrize("failovers", [0, 2])
def test_a_consumer_that_goes_on_reads_a_new_topic_from_its_beginning(failovers: int, policy: str):
    async def scenario() -> None:
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("news")
            assert await read_on(cluster, failovers, policy) == [*range(8)]

    run(scenario, 0)


def test_without_a_policy_it_is_told():
    async def scenario() -> None:
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("news")
            with pytest.raises(NoOffsetForPartitionError):
                await read_on(cluster, 0, "none")

    run(scenario, 0)
