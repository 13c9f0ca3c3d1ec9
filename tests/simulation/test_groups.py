"""Consumer groups in virtual time, with aiokafka's consumer: a coordinator that dies, and offsets that grow old."""

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from ottla.broker.coordination import partition_for
from ottla.simulation import SimulatedCluster, current_world, leader_of, run

RECORDS = 40
GROUP = "readers"


def consumer(cluster, **more):
    return AIOKafkaConsumer(
        "orders",
        bootstrap_servers=cluster.bootstrap,
        group_id=GROUP,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **more,
    )


async def write(cluster, first, count):
    async with AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, acks="all", enable_idempotence=True) as producer:
        for number in range(first, first + count):
            await producer.send_and_wait("orders", b"%d" % number, partition=number % 4)


async def take(members, seen, total):
    """Read and commit in turn, until every record was seen."""
    while len(seen) < total:
        for member in members:
            polled = await member.getmany(timeout_ms=200)
            seen |= {int(record.value) for records in polled.values() for record in records}
            if polled:
                await member.commit()


async def through_the_death_of_the_coordinator():
    async with SimulatedCluster() as cluster:
        await cluster.create_topic("orders", 4)
        seen = set()
        async with consumer(cluster) as one, consumer(cluster) as two:
            await write(cluster, 0, RECORDS)
            await take((one, two), seen, RECORDS)
            before = {at: await one.committed(at) for at in one.assignment()}
            cluster.kill(leader_of("__consumer_offsets", partition_for(GROUP, 50)))
            await write(cluster, RECORDS, RECORDS)
            await take((one, two), seen, 2 * RECORDS)
            owned = [one.assignment(), two.assignment()]
            after = {at: await one.committed(at) for at in before}
            await cluster.advance(1)
        return owned, before, after, current_world().complaints


@pytest.mark.parametrize("seed", range(2))
def test_a_group_survives_its_coordinator(seed):
    (one, two), before, after, complaints = run(through_the_death_of_the_coordinator, seed)
    assert not one & two
    assert one | two == {TopicPartition("orders", partition) for partition in range(4)}
    assert all(after[at] >= before[at] for at in before)
    assert complaints == []


async def growing_old():
    settings = {"offsets.retention.minutes": "1", "offsets.retention.check.interval.ms": "5000"}
    async with SimulatedCluster(settings=settings) as cluster:
        await cluster.create_topic("orders", 4)
        async with consumer(cluster) as one:
            await write(cluster, 0, RECORDS)
            await take((one,), set(), RECORDS)
            where = sorted(one.assignment())
            await cluster.advance(75)
            kept = [await one.committed(at) for at in where]
        await cluster.advance(20)
        async with AIOKafkaConsumer(bootstrap_servers=cluster.bootstrap, group_id=GROUP) as outsider:
            soon = [await outsider.committed(at) for at in where]
        await cluster.advance(50)
        async with AIOKafkaConsumer(bootstrap_servers=cluster.bootstrap, group_id=GROUP) as outsider:
            late = [await outsider.committed(at) for at in where]
        return kept, soon, late


def test_23_offsets_do_not_expire_while_a_member_lives():
    """KIP-211: an idle partition keeps its offset while the group has a member, and for the retention after that."""
    kept, soon, late = run(growing_old, 1)
    assert kept == soon == [RECORDS // 4] * 4
    assert late == [None] * 4


def test_the_same_seed_gives_the_same_run():

    async def told():
        await through_the_death_of_the_coordinator()
        return current_world().trace.fingerprint

    assert run(told, 4) == run(told, 4)
