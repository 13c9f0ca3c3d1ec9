"""Power is lost at any disk operation of a cleaning, on a node that follows or leads: the table stays what it was."""

import random

import pytest

from ottla.records import decode_batch, iter_headers
from ottla.simulation import SimulatedCluster, run

SETTINGS = {
    "log.cleaner.backoff.ms": "300",
    "log.segment.bytes": "1024",
    "log.cleaner.min.cleanable.ratio": "0.05",
    "log.cleaner.delete.retention.ms": "2000",
}
CRASHES = 6


def table(partition):
    """What a replica holds below its high watermark, as {key: value}."""
    found, at = {}, partition.log.log_start_offset
    while at < partition.high_watermark:
        data = partition.log.read(at, 1 << 20, up_to=partition.high_watermark)
        for position, header in iter_headers(data):
            at = header.next_offset
            found.update((record.key, record.value) for record in decode_batch(data, position) if header.count)
    return {key: value for key, value in found.items() if value is not None}


def power_off_in_cleaning(node, operations):
    """Once it cleans the log, the node loses power in place of the operation that comes after so many others."""
    inner, armed = node.disk.on_operation, []

    def watch(operation, path):
        if not armed and "/prices-0/" in path and path.endswith((".cleaned", "/compacted")):
            armed.append(path)
            node.power_off_within(operations)
        inner(operation, path)

    node.disk.on_operation = watch


def whole(cluster, end):
    if not cluster.full("prices") or not all(node.is_ready for node in cluster.nodes.values()):
        return False
    replicas = [cluster.partition_on(node_id, "prices") for node_id in cluster.nodes]
    return all(replica is not None and replica.high_watermark == end for replica in replicas)


async def crash_after_crash(choice, flush, operations):
    crashes, expected, end = 0, {}, 0
    async with SimulatedCluster(settings=SETTINGS | {"ottla.flush": flush}) as cluster:
        await cluster.create_topic("prices", cleanup_policy="compact")
        async with cluster.producer(linger_ms=0) as producer:
            for number in operations:
                node = cluster.nodes[choice.choice(list(cluster.nodes))]
                power_off_in_cleaning(node, number)
                for _ in range(40):
                    key, end = b"k%d" % choice.randrange(6), end + 1
                    value = None if choice.random() < 0.15 else b"%d" % end + b"x" * choice.randrange(60)
                    await producer.send_and_wait("prices", value, key=key)
                    expected[key] = value
                await cluster.advance(2)
                if node.alive:
                    node.lives_on()
                else:
                    crashes += 1
                    cluster.start(node.id)
                await cluster.until(lambda end=end: whole(cluster, end), "every replica has all", within=60)
                for node_id in cluster.nodes:
                    found = table(cluster.partition_on(node_id, "prices"))
                    assert found == {key: value for key, value in expected.items() if value is not None}
        assert [node.failures for node in cluster.nodes.values()] == [[], [], []]
    return crashes


@pytest.mark.parametrize("flush", ["os", "synced"])
@pytest.mark.parametrize("seed", range(3))
def test_a_table_survives_the_loss_of_power_in_any_cleaning(seed, flush):
    choice = random.Random(seed)
    operations = [choice.randrange(40) for _ in range(CRASHES)]
    assert run(lambda: crash_after_crash(choice, flush, operations), seed) >= CRASHES - 2
