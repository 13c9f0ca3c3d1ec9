"""A compacted topic on three nodes that clean by themselves, through failovers."""

import pytest

from ottla.client import ConfigResource
from ottla.simulation import SimulatedCluster, leader_of, run

SETTINGS = {"log.cleaner.backoff.ms": "500", "log.segment.bytes": "2048", "log.cleaner.min.cleanable.ratio": "0.1"}
ROUNDS, KEYS = 60, 5


async def table(cluster):
    """What somebody reads who comes late, as {key: value} and how many records that took."""
    found, count = {}, 0
    end = cluster.partition_on(cluster.leader("prices"), "prices").high_watermark
    async with cluster.consumer("prices", auto_offset_reset="earliest") as consumer:
        while True:
            record = await consumer.getone()
            found[record.key], count = record.value, count + 1
            if record.offset == end - 1:
                return found, count


@pytest.mark.parametrize("seed", range(3))
def test_the_last_value_of_every_key_survives_failovers_and_cleaning_on_every_replica(seed):
    async def scenario():
        async with SimulatedCluster(settings=SETTINGS) as cluster:
            await cluster.create_topic("prices", cleanup_policy="compact")
            async with cluster.producer(linger_ms=0) as producer:
                for number in range(ROUNDS):
                    for key in range(KEYS):
                        await producer.send_and_wait("prices", b"%d" % number * 30, key=b"k%d" % key)
                    if number % 20 == 10:
                        killed = cluster.kill(leader_of("prices"))
                        await cluster.advance(1)
                        cluster.start(killed)
                await cluster.until(lambda: cluster.full("prices"), "every replica is in sync")
                await producer.send_and_wait("prices", b"end", key=b"end")
            await cluster.advance(3)
            sizes, tables = [], []
            for node_id in cluster.nodes:
                log = cluster.partition_on(node_id, "prices").log
                sizes.append(log.size)
                assert log.log_end_offset == ROUNDS * KEYS + 1
            for _ in range(2):
                tables.append(await table(cluster))
                cluster.kill(leader_of("prices"))
                await cluster.advance(2)
                cluster.start(next(node.id for node in cluster.nodes.values() if not node.alive))
                await cluster.until(lambda: cluster.full("prices"), "every replica is in sync")
            return sizes, tables, [node.failures for node in cluster.nodes.values()]

    sizes, tables, failures = run(scenario, seed)
    assert failures == [[], [], []]
    for found, count in tables:
        assert found == {b"end": b"end"} | {b"k%d" % key: b"%d" % (ROUNDS - 1) * 30 for key in range(KEYS)}
        assert count < ROUNDS * KEYS / 3
    assert max(sizes) < 10_000


@pytest.mark.parametrize("seed", range(2))
def test_a_replica_starts_over_from_a_log_that_is_not_compacted_any_more(seed):
    async def scenario():
        async with SimulatedCluster(settings=SETTINGS) as cluster:
            await cluster.create_topic("prices", cleanup_policy="compact")
            async with cluster.producer(linger_ms=0) as producer:
                for number in range(ROUNDS):
                    for key in range(KEYS):
                        await producer.send_and_wait("prices", b"%d" % number * 30, key=b"k%d" % key)
                await cluster.advance(3)
                async with cluster.admin() as admin:
                    change = {ConfigResource("topic", "prices"): {"cleanup.policy": "delete"}}
                    await admin.incremental_alter_configs(change)
                wiped = cluster.wipe(next(node for node in cluster.nodes if node != cluster.leader("prices")))
                cluster.start(wiped)
                # Nobody has noticed yet that it was away, so that its old place in the ISR says nothing.
                await cluster.nodes[wiped].ready()
                await cluster.until(lambda: cluster.full("prices"), "the wiped replica is in sync")
                await producer.send_and_wait("prices", b"end", key=b"end")
            size = cluster.partition_on(wiped, "prices").log.size
            # What is missing is no damage, neither to who reads it nor to who recovers it.
            cluster.power_off(wiped)
            cluster.start(wiped)
            await cluster.until(lambda: cluster.full("prices"), "every replica is in sync")
            for node_id in cluster.nodes:
                cluster.kill(node_id)
            for node_id in cluster.nodes:
                cluster.start(node_id)
            await cluster.until(lambda: cluster.full("prices"), "every replica is in sync")
            return size, await table(cluster), [node.failures for node in cluster.nodes.values()]

    size, (found, count), failures = run(scenario, seed)
    assert failures == [[], [], []]
    assert found == {b"end": b"end"} | {b"k%d" % key: b"%d" % (ROUNDS - 1) * 30 for key in range(KEYS)}
    assert count < ROUNDS * KEYS / 3 and size < 10_000
