"""Against librdkafka's mock cluster: a broker that this project did not write."""

from __future__ import annotations

import asyncio

import confluent_kafka
import pytest

from ottla.client import Admin, Consumer, ConsumerRecord, Producer, TopicPartition, UnsupportedVersionError


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_what_is_sent_is_read_back(mock_bootstrap: str, codec: str | None) -> None:
    topic = f"roundtrip-{codec}"
    headers = [("a", b"1"), ("b", None), ("a", b"")]
    async with Producer(bootstrap_servers=mock_bootstrap, compression_type=codec) as producer:
        await producer.send_and_wait(topic, b"first", key=b"k", partition=1, timestamp_ms=1234, headers=headers)
        await producer.send_and_wait(topic, None, key=None, partition=1)
        futures = [await producer.send(topic, b"%d" % i * 100, key=b"%d" % (i % 5)) for i in range(500)]
        await producer.flush()
        assert all(future.done() and future.result().offset >= 0 for future in futures)
    async with Consumer(topic, bootstrap_servers=mock_bootstrap, auto_offset_reset="earliest") as consumer:
        records: list[ConsumerRecord] = []
        async with asyncio.timeout(10):
            while len(records) < 502:
                for batch in (await consumer.getmany(timeout_ms=1000)).values():
                    records += batch
    one, two = [record for record in records if record.partition == 1][:2]
    assert (one.offset, one.timestamp, one.key, one.value) == (0, 1234, b"k", b"first")
    assert one.headers == tuple(headers)
    assert (two.key, two.value) == (None, None)
    for key in range(5):
        sent = [b"%d" % i * 100 for i in range(key, 500, 5)]
        assert [r.value for r in records if r.key == b"%d" % key] == sent


async def test_keys_go_where_librdkafka_sends_them_by_murmur2(mock_bootstrap: str) -> None:
    topic = "partitioning"
    keys = [bytes(range(n)) for n in range(1, 40)]
    theirs: dict[bytes | None, int | None] = {}
    other = confluent_kafka.Producer({"bootstrap.servers": mock_bootstrap, "partitioner": "murmur2_random"})
    for key in keys:
        other.produce(topic, b"", key=key, on_delivery=lambda e, m: theirs.__setitem__(m.key(), m.partition()))
    assert await asyncio.to_thread(other.flush, 10) == 0
    async with Producer(bootstrap_servers=mock_bootstrap) as producer:
        ours = {key: (await producer.send_and_wait(topic, b"", key=key)).partition for key in keys[:8]}
    assert ours == {key: theirs[key] for key in keys[:8]}


async def test_admin_describes(mock_bootstrap: str) -> None:
    async with Producer(bootstrap_servers=mock_bootstrap) as producer:
        await producer.send_and_wait("described", b"x", partition=0)
    async with Admin(bootstrap_servers=mock_bootstrap) as admin:
        cluster = await admin.describe_cluster()
        assert [broker.node_id for broker in cluster.brokers] == [1, 2, 3]
        assert "described" in await admin.list_topics()
        topic = (await admin.describe_topics(["described"]))["described"]
        assert len(topic.partitions) == 4 and len(topic.partitions[0].replicas) == 3
        end = await admin.list_offsets({TopicPartition("described", 0): -1})
        assert end[TopicPartition("described", 0)].offset == 1
        with pytest.raises(UnsupportedVersionError):
            await admin.describe_metadata_quorum()
