"""DeleteRecords and DescribeLogDirs on a whole cluster, and what becomes of deleted records when leaders change."""

import asyncio

import pytest

from ottla.client import (
    AlterConfigOp,
    BrokerResponseError,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetOutOfRangeError,
    OffsetSpec,
    ReplicaLogDirInfo,
    TopicPartition,
    TopicPartitionReplica,
    UnknownTopicOrPartitionError,
)
from ottla.simulation import SimulatedCluster, leader_of, run

SETTINGS = {"log.retention.check.interval.ms": "500", "log.segment.bytes": "500"}
TP = TopicPartition("t", 0)


async def write(cluster, count, topic="t"):
    async with cluster.producer(linger_ms=0) as producer:
        for number in range(count):
            await producer.send_and_wait(topic, b"v" * 100, key=b"%d" % number, partition=0)


def starts(cluster):
    return {node_id: cluster.partition_on(node_id, "t").log_start_offset for node_id in cluster.nodes}


@pytest.mark.parametrize("seed", range(3))
def test_deleted_records_are_gone_on_every_replica_and_stay_gone(seed):
    """When the answer comes, no live replica has them: so no election brings them back, nor does a restart."""

    async def scenario():
        async with SimulatedCluster(settings=SETTINGS) as cluster, cluster.admin() as admin:
            await cluster.create_topic("t")
            await write(cluster, 50)
            began = asyncio.get_running_loop().time()
            assert await admin.delete_records({TP: 30}) == {TP: 30}
            took = asyncio.get_running_loop().time() - began
            assert starts(cluster) == {1: 30, 2: 30, 3: 30}
            await cluster.until(
                lambda: all(
                    cluster.partition_on(node_id, "t").log.segments[0].base_offset > 20 for node_id in cluster.nodes
                ),
                "the segments below are gone",
            )
            await cluster.advance(6)
            for _ in range(2):
                killed = cluster.kill(leader_of("t"))
                await cluster.advance(2)
                assert await admin.list_offsets({TP: OffsetSpec.EARLIEST}) == {TP: (30, -1, 0)}
                cluster.start(killed)
                await cluster.until(lambda: cluster.full("t"), "every replica is in sync")
                assert starts(cluster) == {1: 30, 2: 30, 3: 30}
            assert await admin.delete_records({TP: -1}) == {TP: 50}
            await write(cluster, 1)
            async with cluster.consumer("t", auto_offset_reset="earliest") as consumer:
                assert (await consumer.getone()).offset == 50
            return took

    assert run(scenario, seed) < 0.3


def test_a_replica_that_was_away_deletes_them_when_it_comes_back():
    async def scenario():
        async with SimulatedCluster(settings=SETTINGS) as cluster, cluster.admin() as admin:
            await cluster.create_topic("t")
            await write(cluster, 50)
            away = next(node_id for node_id in cluster.nodes if node_id != cluster.leader("t"))
            cluster.kill(away)
            await cluster.advance(2)
            assert await admin.delete_records({TP: 40}) == {TP: 40}
            cluster.start(away)
            await cluster.until(lambda: cluster.full("t"), "every replica is in sync")
            await cluster.until(lambda: starts(cluster) == {1: 40, 2: 40, 3: 40}, "it has heard of it")

    run(scenario, 1)


def test_what_may_not_be_deleted():
    async def scenario():
        async with SimulatedCluster(settings=SETTINGS) as cluster, cluster.admin() as admin:
            await cluster.create_topic("t", cleanup_policy="compact")
            await write(cluster, 5)
            with pytest.raises(BrokerResponseError, match="POLICY_VIOLATION"):
                await admin.delete_records({TP: 2})
            append = {ConfigResource("topic", "t"): {"cleanup.policy": AlterConfigOp("append", "delete")}}
            await admin.incremental_alter_configs(append)
            await cluster.advance(1)
            with pytest.raises(OffsetOutOfRangeError):
                await admin.delete_records({TP: 6})
            assert await admin.delete_records({TP: 2}) == {TP: 2}
            with pytest.raises(UnknownTopicOrPartitionError):
                await admin.delete_records({TopicPartition("unknown", 0): 0}, timeout_ms=1000)

    run(scenario, 1)


def test_log_directories():
    async def scenario():
        async with SimulatedCluster() as cluster, cluster.admin() as admin:
            await cluster.create_topic("t", partitions=2)
            await write(cluster, 10)
            await cluster.advance(1)
            cluster.nodes[2].disk.capacity = cluster.nodes[2].disk.used() + 1000
            return await admin.describe_log_dirs(), await admin.describe_log_dirs([3])

    everybody, third = run(scenario, 1)
    assert set(everybody) == {1, 2, 3}
    assert set(third) == {3}
    for broker, directories in everybody.items():
        (path, found) = next(iter(directories.items()))
        assert path == "/data"
        assert found.replica_infos[TP].size > 1000
        assert found.replica_infos[TopicPartition("t", 1)].size == 0
        assert {info.offset_lag for info in found.replica_infos.values()} == {0}
        assert (found.total_bytes > found.usable_bytes == 1000) if broker == 2 else (found.total_bytes == -1)


def test_where_single_replicas_lie_and_where_they_can_go():
    """KIP-113, with the one directory that a broker has."""

    async def scenario():
        async with SimulatedCluster() as cluster, cluster.admin() as admin:
            await cluster.create_topic("t", partitions=2)
            await admin.create_topics([NewTopic("far", replica_assignments={0: (3, 1)})])
            await cluster.until(lambda: cluster.full("far"), "it is there")
            here = [TopicPartitionReplica("t", 1, 1), TopicPartitionReplica("far", 0, 3)]
            elsewhere = TopicPartitionReplica("far", 0, 2)
            found = await admin.describe_replica_log_dirs([*here, elsewhere])
            assert found == {**dict.fromkeys(here, ReplicaLogDirInfo("/data", 0)), elsewhere: ReplicaLogDirInfo()}
            await admin.alter_replica_log_dirs(dict.fromkeys(here, "/data"))
            with pytest.raises(BrokerResponseError, match="LOG_DIR_NOT_FOUND"):
                await admin.alter_replica_log_dirs({here[0]: "/data", here[1]: "/other"})
            with pytest.raises(BrokerResponseError, match="REPLICA_NOT_AVAILABLE"):
                await admin.alter_replica_log_dirs({elsewhere: "/data"})

    run(scenario, 1)


def test_limits_of_the_cluster_are_told_by_name():
    """The code and the text, over the wire, also where nothing would have been made."""
    settings = {
        "ottla.policy.max.partitions.per.topic": "3",
        "ottla.policy.max.replication.factor": "2",
        "default.replication.factor": "2",
    }

    async def scenario():
        async with SimulatedCluster(settings=settings) as cluster, cluster.admin() as admin:
            for topic, text in (
                (NewTopic("t", 4), "max.partitions.per.topic = 3"),
                (NewTopic("t", 1, 3), "max.replication.factor = 2"),
                (NewTopic("t", replica_assignments={0: (1, 2, 3)}), "max.replication.factor = 2"),
            ):
                for validate_only in (True, False):
                    with pytest.raises(BrokerResponseError, match=f"POLICY_VIOLATION.*{text}"):
                        await admin.create_topics([topic], validate_only=validate_only)
            await admin.create_topics([NewTopic("t", 2, 2)])
            for validate_only in (True, False):
                with pytest.raises(BrokerResponseError, match=r"POLICY_VIOLATION.*would have 4 partitions"):
                    await admin.create_partitions({"t": 4}, validate_only=validate_only)
            await admin.create_partitions({"t": 3})

    run(scenario, 1)


def test_partitions_and_topics_where_they_were_asked_for():
    async def scenario():
        async with SimulatedCluster() as cluster, cluster.admin() as admin:
            await admin.create_topics([NewTopic("t", replica_assignments={0: (3, 1)})], validate_only=True)
            await cluster.advance(1)
            assert await admin.list_topics() == []
            await admin.create_topics([NewTopic("t", replica_assignments={0: (3, 1)})])
            wanted = {"t": NewPartitions(3, ((1, 2), (2, 3)))}
            await admin.create_partitions(wanted, validate_only=True)
            await admin.create_partitions(wanted)
            await cluster.until(lambda: cluster.full("t"), "every node knows")
            found = (await admin.describe_topics(["t"]))["t"]
            replicas = [partition.replicas for partition in found.partitions.values()]
            assert replicas == [(3, 1), (1, 2), (2, 3)]
            with pytest.raises(BrokerResponseError, match="POLICY_VIOLATION"):
                await admin.create_topics([NewTopic("huge", 10_001, 1)])
            with pytest.raises(BrokerResponseError, match="POLICY_VIOLATION"):
                await admin.create_partitions({"t": 10_004})
            await admin.delete_topics([found.topic_id])
            await cluster.advance(1)
            assert await admin.list_topics() == []
            broker = ConfigResource("broker", "2")
            await admin.alter_configs({broker: {"log.retention.ms": "5", "log.roll.ms": "7"}}, validate_only=True)
            await admin.alter_configs({broker: {"log.retention.ms": "5", "log.roll.ms": "7"}})
            await admin.alter_configs({broker: {"log.roll.ms": "8"}})
            await cluster.advance(1)
            described = (await admin.describe_configs([broker], include_synonyms=True))[broker]
            entry = described["log.roll.ms"]
            assert (entry.value, entry.source, entry.type) == ("8", "DYNAMIC_BROKER_CONFIG", "LONG")
            assert entry.synonyms[0] == ("log.roll.ms", "8", "DYNAMIC_BROKER_CONFIG")
            assert described["log.retention.ms"].value is None
            return await admin.list_config_resources(["broker"])

    assert run(scenario, 1) == [("broker", "1"), ("broker", "2"), ("broker", "3")]
