"""What each config of a topic does on a whole cluster: it is set by an admin client, and its effect is looked for on
every replica. How it works in detail is tested with the parts (`tests/log`, `tests/broker`, `tests/metadata`)."""

import asyncio

import pytest
from kio.schema.errors import ErrorCode

from ottla.client import (
    BrokerResponseError,
    ConfigResource,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NewTopic,
)
from ottla.records import Compression, decode_batch, iter_headers
from ottla.simulation import Anomaly, SimulatedCluster, run
from ottla.simulation.node import KAFKA_PORT
from ottla.wire import KafkaConnection
from tests.failover.attached import Attached

TOPIC = ConfigResource("topic", "t")
QUICK = {"log.retention.check.interval.ms": "200", "log.cleaner.backoff.ms": "200"}
DAY_MS = 24 * 3600 * 1000


def logs(cluster, topic="t"):
    return [cluster.partition_on(node_id, topic).log for node_id in cluster.nodes]


def headers(held):
    for segment in held.segments:
        data = segment.file.pread(0, segment.size)
        yield from (header for _, header in iter_headers(data))


def records(held):
    found = []
    for segment in held.segments:
        data = segment.file.pread(0, segment.size)
        for at, header in iter_headers(data):
            found += decode_batch(data[at : at + header.size])
    return found


async def change(cluster, **values):
    """Change configs of the topic, and wait until every replica goes by them."""
    async with cluster.admin() as admin:
        named = {name.replace("_", "."): value for name, value in values.items()}
        await admin.incremental_alter_configs({TOPIC: named})

    def known():
        views = [node.node.quorum.view.image.configs.get(("topic", "t"), {}) for node in cluster.nodes.values()]
        return all(view.get(name) == value for view in views for name, value in named.items())

    await cluster.until(known, "every node knows the new values")


async def write(cluster, count, *, key=b"k", value=b"v" * 100, pause=0.0, topic="t", **options):
    async with cluster.producer(linger_ms=0, **options) as producer:
        for number in range(count):
            await producer.send_and_wait(topic, value, key=b"%s%d" % (key, number) if key else None, partition=0)
            if pause:
                await asyncio.sleep(pause)


async def in_step(cluster, topic="t"):
    """Every replica has the leader's records and knows that they are committed."""

    def same():
        partitions = [cluster.partition_on(node_id, topic) for node_id in cluster.nodes]
        ends = {partition.log_end_offset for partition in partitions}
        return len(ends) == 1 and {partition.high_watermark for partition in partitions} == ends

    await cluster.until(same, "every replica is in step")


def scenario(topic_configs=None, settings=None, seed=1):
    """Run a test's body against a cluster that has the topic."""

    def decorate(body):
        async def whole():
            async with SimulatedCluster(settings=QUICK | (settings or {})) as cluster:
                await cluster.create_topic("t", **(topic_configs or {}))
                await body(cluster)

        def test():
            run(whole, seed)

        test.__name__, test.__doc__ = body.__name__, body.__doc__
        return test

    return decorate


@scenario({"segment_bytes": "500", "retention_ms": "1000"})
async def test_retention_ms(cluster):
    await write(cluster, 30)
    await cluster.until(
        lambda: all(held.log_start_offset == 30 and not held.size for held in logs(cluster)), "all gone"
    )


@scenario({"segment_bytes": "500", "retention_bytes": "2000"})
async def test_retention_bytes(cluster):
    await write(cluster, 100)
    await cluster.until(lambda: all(held.size < 2600 for held in logs(cluster)), "what is too much is gone")
    assert all(held.size >= 2000 for held in logs(cluster))
    assert len({held.log_start_offset for held in logs(cluster)}) == 1


@scenario({"segment_bytes": "500", "retention_ms": "-1"})
async def test_no_retention(cluster):
    await write(cluster, 30)
    await cluster.advance(60)
    assert [len(records(held)) for held in logs(cluster)] == [30, 30, 30]


@scenario({"segment_bytes": "300", "cleanup_policy": "compact", "retention_ms": "1000"})
async def test_cleanup_policy_compact_then_both(cluster):
    """Compaction alone keeps the last value of every key for ever; with delete that ends after retention.ms."""
    for _ in range(10):
        await write(cluster, 3)
    await write(cluster, 1, key=b"end")
    await cluster.advance(10)
    for held in logs(cluster):
        kept = records(held)
        assert {record.key for record in kept} == {b"k0", b"k1", b"k2", b"end0"}
        assert len(kept) < 12
    await change(cluster, cleanup_policy="compact,delete")
    await cluster.until(lambda: all(not held.size for held in logs(cluster)), "all is older than retention.ms")


@scenario({"segment_bytes": "300", "cleanup_policy": "compact", "min_cleanable_dirty_ratio": "0"})
async def test_delete_retention_ms_and_min_compaction_lag_ms(cluster):
    await change(cluster, min_compaction_lag_ms="20000", delete_retention_ms="5000")
    await write(cluster, 3)
    await write(cluster, 3, value=None)
    await write(cluster, 5, key=b"fill")
    await cluster.advance(10)
    assert all(len(records(held)) == 11 for held in logs(cluster)), "none is old enough to be compacted"
    await cluster.until(
        lambda: all([record.value for record in records(held)][:3] == [None] * 3 for held in logs(cluster)),
        "only the tombstones are left of the first keys",
    )
    await cluster.advance(6)
    # A log with nothing new in it is not looked at again.
    await write(cluster, 5, key=b"more")
    await cluster.advance(25)
    assert all(records(held)[0].key.startswith(b"fill") for held in logs(cluster)), "the tombstones are gone"


@scenario({"cleanup_policy": "compact", "min_cleanable_dirty_ratio": "1", "max_compaction_lag_ms": "5000"})
async def test_max_compaction_lag_ms(cluster):
    """Closes a segment that is not full, and cleans a log that is hardly dirty."""
    await write(cluster, 3)
    await cluster.advance(6)
    await write(cluster, 3)
    await cluster.advance(6)
    await write(cluster, 1, key=b"end")
    await cluster.until(lambda: all(len(records(held)) == 4 for held in logs(cluster)), "the old values are gone")


@scenario({"segment_bytes": "1000", "index_interval_bytes": "0"})
async def test_segment_bytes_and_index_interval_bytes(cluster):
    await write(cluster, 40)
    await in_step(cluster)
    for held in logs(cluster):
        closed = held.segments[:-1]
        assert len(closed) >= 5
        assert all(600 < segment.size <= 1000 for segment in closed)
        # Every batch but a segment's first has an entry.
        assert all(
            segment.index.count == len(list(iter_headers(segment.file.pread(0, segment.size)))) - 1
            for segment in closed
        )


@scenario({"segment_index_bytes": "40", "index_interval_bytes": "0"})
async def test_segment_index_bytes(cluster):
    """A full index closes the segment too: five entries of eight bytes, or three of twelve and one to spare."""
    await write(cluster, 40)
    await in_step(cluster)
    for held in logs(cluster):
        assert len(held.segments) > 8
        assert all(segment.index.count <= 5 for segment in held.segments)


@scenario({"segment_ms": "1000"})
async def test_segment_ms_and_segment_jitter_ms(cluster):
    await write(cluster, 30, pause=0.2)
    await in_step(cluster)
    steady = [[segment.base_offset for segment in held.segments] for held in logs(cluster)]
    assert all(4 <= len(bases) <= 7 for bases in steady)
    await change(cluster, segment_jitter_ms="900")
    await write(cluster, 30, pause=0.2)
    await in_step(cluster)
    jittered = [len(held.segments) - len(before) for held, before in zip(logs(cluster), steady, strict=True)]
    assert all(count > 7 for count in jittered)
    assert len({tuple(segment.base_offset for segment in held.segments) for held in logs(cluster)}) > 1


@scenario({"max_message_bytes": "1000"})
async def test_max_message_bytes(cluster):
    await write(cluster, 1, value=b"x" * 800)
    with pytest.raises(MessageSizeTooLargeError):
        await write(cluster, 1, value=b"x" * 1200)
    await change(cluster, max_message_bytes="2000")
    await write(cluster, 1, value=b"x" * 1200)
    await in_step(cluster)
    assert [held.log_end_offset for held in logs(cluster)] == [2, 2, 2]


@scenario({"message_timestamp_type": "LogAppendTime"})
async def test_message_timestamp_type(cluster):
    async with cluster.producer() as producer:
        told = await producer.send_and_wait("t", b"v", partition=0, timestamp_ms=5)
    await in_step(cluster)
    assert told.timestamp_type == 1
    assert told.timestamp > DAY_MS
    for held in logs(cluster):
        (header,) = headers(held)
        assert (header.timestamp_type, header.max_timestamp) == (1, told.timestamp)
    await change(cluster, message_timestamp_type="CreateTime", message_timestamp_before_max_ms=str(2**62))
    async with cluster.producer() as producer:
        told = await producer.send_and_wait("t", b"v", partition=0, timestamp_ms=5)
    assert (told.timestamp_type, told.timestamp) == (0, 5)


@scenario({"message_timestamp_before_max_ms": "60000", "message_timestamp_after_max_ms": "1000"})
async def test_message_timestamp_limits(cluster):
    """KIP-937"""
    now = cluster.nodes[1].node.broker._clock()
    async with cluster.producer() as producer:
        for offset, taken in ((-30_000, True), (-90_000, False), (500, True), (20_000, False)):
            sent = producer.send_and_wait("t", b"v", partition=0, timestamp_ms=now + offset)
            if taken:
                await sent
            else:
                with pytest.raises(BrokerResponseError, match="INVALID_TIMESTAMP"):
                    await sent


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd", "uncompressed", "producer"])
@pytest.mark.parametrize("value", [b"small", b"large " * 20_000], ids=["small", "large"])
def test_compression_type(codec, value):
    """Every replica has the topic's codec, and who reads gets what was sent, in order."""

    async def body():
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("t", compression_type=codec)
            sent = []
            for producers in (None, "gzip", "lz4"):
                async with cluster.producer(linger_ms=0, compression_type=producers) as producer:
                    futures = []
                    for number in range(4):
                        sent.append(value + b"%d" % number)
                        futures.append(await producer.send("t", sent[-1], partition=0))
                    await asyncio.gather(*futures)
            await in_step(cluster)
            async with cluster.consumer("t", auto_offset_reset="earliest") as consumer:
                for expected in sent:
                    assert (await consumer.getone()).value == expected
            return [{header.compression for header in headers(held)} for held in logs(cluster)]

    expected = {"producer": {0, Compression.GZIP, Compression.LZ4}, "uncompressed": {0}}
    found = run(body, 1)
    assert all(each == expected.get(codec, {Compression.__members__.get(codec.upper())}) for each in found)


@scenario({"min_insync_replicas": "3", "retention_ms": "-1"}, {"replica.lag.time.max.ms": "2000"})
async def test_min_insync_replicas(cluster):
    """What is refused before it is written is nowhere; what was written when a replica went may still be committed."""
    leader = cluster.leader("t")
    gone, other = [node_id for node_id in cluster.nodes if node_id != leader]
    address = cluster.nodes[leader].machine.address
    attached = Attached(await KafkaConnection.open(address, KAFKA_PORT, client_id="attached", timeout=20.0), "t", -1)

    def marks():
        both = [cluster.partition_on(node_id, "t") for node_id in (leader, other)]
        return [(partition.log_end_offset, partition.high_watermark) for partition in both]

    await attached.acknowledged(b"kept")
    await in_step(cluster)
    cluster.isolate(gone)
    answer = await attached.send(b"written, and not acknowledged")
    assert answer.error is ErrorCode.not_enough_replicas_after_append
    assert gone not in cluster.partition_on(leader, "t").role.isr.committed
    await cluster.advance(2)
    assert marks() == [(2, 1), (2, 1)]
    answer = await attached.send(b"not even written")
    assert answer.error is ErrorCode.not_enough_replicas
    await cluster.advance(2)
    assert marks() == [(2, 1), (2, 1)]
    with pytest.raises(KafkaTimeoutError, match=r"NOT_ENOUGH_REPLICAS.*the records are not in the log"):
        # The client tries again for as long as it is let.
        await write(cluster, 1, delivery_timeout_ms=5000, request_timeout_ms=2000)
    async with cluster.admin() as admin:
        await admin.incremental_alter_configs({TOPIC: {"min.insync.replicas": "2"}})
    await cluster.until(lambda: marks() == [(2, 2), (2, 2)], "two are enough for what two have")
    assert (await attached.acknowledged(b"kept, too")).offset == 2
    attached.close()
    cluster.heal()
    await in_step(cluster)
    values = [[record.value for record in records(held)] for held in logs(cluster)]
    assert values == [[b"kept", b"written, and not acknowledged", b"kept, too"]] * 3


def test_unclean_leader_election_enable():
    """With the only member of the ISR gone nobody leads, until the topic says that another may, at the price of what
    only that one had."""

    async def body():
        async with SimulatedCluster() as cluster, cluster.admin() as admin:
            await admin.create_topics(
                [NewTopic("t", replica_assignments={0: (1, 2)}, topic_configs={"min.insync.replicas": "1"})]
            )
            await cluster.until(lambda: cluster.full("t"), "both are in sync")
            await write(cluster, 3)
            cluster.kill(2)
            await cluster.until(lambda: cluster.partition_on(1, "t").role.isr.committed == {1}, "one is alone")
            await write(cluster, 2)
            cluster.kill(1)
            cluster.start(2)
            await cluster.until(lambda: cluster.nodes[2].node and cluster.partition_on(2, "t"), "the other is back")
            await cluster.advance(10)
            assert not cluster.partition_on(2, "t").is_leader
            await admin.incremental_alter_configs({TOPIC: {"unclean.leader.election.enable": "true"}})
            await cluster.until(lambda: cluster.partition_on(2, "t").is_leader, "it leads all the same")
            await write(cluster, 1)
            return cluster.partition_on(2, "t").log_end_offset

    assert run(body, 1) == 4


@pytest.mark.parametrize("configs", [{"flush_messages": "1"}, {"flush_messages": "1000"}, {"flush_ms": "1000"}])
def test_flush_messages_and_flush_ms(configs):
    """Any flush config means that what was acknowledged is on disk."""
    assert run(lambda: power_off_right_after_an_acknowledgement(configs), 1) == [5, 5, 5]


@pytest.mark.parametrize("configs", [{}, {"flush_messages": str(2**63 - 1)}], ids=["none", "never"])
def test_without_either_it_may_be_gone(configs):
    with pytest.raises(Anomaly, match="committed is 5"):
        run(lambda: power_off_right_after_an_acknowledgement(configs), 1)


async def power_off_right_after_an_acknowledgement(configs):
    """Of all machines at once."""
    async with SimulatedCluster(settings=QUICK) as cluster:
        await cluster.create_topic("t", **configs)
        await write(cluster, 5)
        for node_id in cluster.nodes:
            cluster.power_off(node_id)
        for node_id in cluster.nodes:
            cluster.start(node_id)
        await cluster.until(lambda: cluster.full("t"), "all are back")
        return [held.log_end_offset for held in logs(cluster)]


@scenario({"preallocate": "true", "segment_bytes": "1000000"})
async def test_preallocate(cluster):
    assert all(node.disk.used() > 1_000_000 for node in cluster.nodes.values())
    await write(cluster, 5)
    await in_step(cluster)
    assert all(held.size < 1000 for held in logs(cluster))
    for node_id in cluster.nodes:
        cluster.kill(node_id)
        cluster.start(node_id)
    await cluster.until(lambda: cluster.full("t"), "all are back")
    await write(cluster, 5)
    assert [held.log_end_offset for held in logs(cluster)] == [10, 10, 10]


@scenario({"file_delete_delay_ms": "30000"})
async def test_file_delete_delay_ms(cluster):
    await write(cluster, 5)

    def doomed():
        return [
            [name for name in node.disk.listdir("/data") if name.endswith("-delete")] for node in cluster.nodes.values()
        ]

    async with cluster.admin() as admin:
        await admin.delete_topics(["t"])
    await cluster.until(lambda: all(doomed()), "every replica's log is given up")
    await cluster.advance(25)
    assert all(doomed())
    await cluster.until(lambda: not any(doomed()), "their files are gone", within=10)
