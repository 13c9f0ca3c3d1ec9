"""Replication between brokers in one process, through sockets, handlers and files."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kio.schema.errors import ErrorCode

from ottla.wire import FetchPartition, FetchRequest, KafkaConnection, decode_fetch_response, encode_fetch_request
from tests.replication.live import LONG_POLL_MS, WAIT_S, LiveNode, Metadata, cluster, until
from tests.replication.waiting import errors_of

assert LONG_POLL_MS / 1000 > WAIT_S  # a test that passes only because a long poll ran out would fail


async def test_acks_all_waits_for_the_followers_who_learn_the_commit_at_once(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (metadata, nodes):
        metadata.create("t", 1, 2, 3)
        for number in range(5):
            assert await nodes[1].produce(b"%d" % number) == number
        await until(lambda: all(node.partition().high_watermark == 5 for node in nodes.values()))
        assert nodes[1].bytes_of() == nodes[2].bytes_of() == nodes[3].bytes_of()


async def test_many_partitions_over_one_connection(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as (metadata, nodes):
        metadata.create("t", 1, 2, partitions=50)
        await asyncio.gather(*(nodes[1].produce(b"x", index=index) for index in range(50)))
        await until(lambda: all(nodes[2].partition("t", index).high_watermark == 1 for index in range(50)))
        assert nodes[1].server.connections == 1


async def test_a_new_assignment_interrupts_the_long_poll(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as (metadata, nodes):
        metadata.create("t", 1, 2)
        await nodes[1].produce(b"parked now")
        metadata.create("u", 1, 2)
        await nodes[1].produce(b"x", "u")


async def test_failover_and_return(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (metadata, nodes):
        metadata.create("t", 1, 2, 3, min_insync_replicas="2")
        await nodes[1].produce(b"before")
        _, lost = nodes[1].send(b"perhaps")
        outcome = errors_of(lost, WAIT_S)
        await nodes[1].stop()
        assert (await outcome).get(0, ErrorCode.none) in (ErrorCode.none, ErrorCode.not_leader_or_follower)
        metadata.fence(1)
        assert metadata.leader() == 2
        await nodes[2].produce(b"after")
        await nodes[1].start()
        await until(lambda: metadata.isr() == {1, 2, 3})
        await nodes[2].produce(b"all again")
        await until(lambda: all(n.partition().high_watermark == n.partition().log_end_offset for n in nodes.values()))
        assert nodes[1].bytes_of() == nodes[2].bytes_of() == nodes[3].bytes_of()


async def test_a_leader_that_wrote_alone_is_cut_when_it_returns(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as (metadata, nodes):
        metadata.create("t", 1, 2)
        await nodes[1].produce(b"common")
        await until(lambda: nodes[2].partition().high_watermark == 1)
        await nodes[2].server.stop(0)
        metadata.subscribers.pop(1)  # cut off: neither followers nor metadata
        metadata.fence(1)
        _, alone = nodes[1].send(b"alone", acks=1)
        assert alone.done
        await nodes[1].stop()
        await nodes[2].produce(b"other")
        await nodes[2].stop()
        await nodes[2].start()
        await nodes[1].start()
        await until(lambda: metadata.isr() == {1, 2} and nodes[1].partition().log_end_offset == 2)
        assert nodes[1].bytes_of() == nodes[2].bytes_of()


async def test_acknowledged_means_synced_where_the_topic_says_so(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as (metadata, nodes):
        metadata.create("t", 1, 2, flush_messages="1")
        await asyncio.gather(*(nodes[1].produce(b"x") for _ in range(20)))
        for node in nodes.values():
            held = node.partition().log
            assert held is not None and held.recovery_point >= 20
        await nodes[1].produce(b"y", acks=1)
        held = nodes[1].partition().log
        assert held is not None and held.recovery_point == 21


async def test_a_topic_made_anew_shows_nothing_of_the_old_one(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as (metadata, nodes):
        metadata.create("t", 1, 2)
        await nodes[1].produce(b"old")
        await nodes[2].stop()
        metadata.fence(2)
        metadata.delete("t")
        assert nodes[1].replicas.partition("t", 0) is ErrorCode.unknown_topic_or_partition
        metadata.create("t", 1)
        metadata.create("gone", 1)
        assert nodes[1].partition().log_end_offset == 0
        await nodes[1].produce(b"new")
        metadata.delete("t")
        metadata.create("t", 1)
        await nodes[2].start()  # still has the first "t" on disk, of which it is no replica
        assert nodes[2].logs.get("t", 0) is None
        metadata.delete("t")
        metadata.create("t", 1, 2)
        assert nodes[1].partition().log_end_offset == nodes[2].partition().log_end_offset == 0


async def test_an_older_namesake_on_disk_gives_way(tmp_path: Path) -> None:
    """The topic was deleted and made anew while the broker was away: what it holds of the old one is no start."""
    async with cluster(tmp_path, 2) as (metadata, nodes):
        metadata.create("t", 1, 2)
        await nodes[1].produce(b"old")
        await until(lambda: nodes[2].partition().log_end_offset == 1)
        await nodes[2].stop()
        metadata.delete("t")
        metadata.create("t", 1, 2)  # nobody has noticed yet that 2 is gone
        metadata.fence(2)
        await nodes[1].produce(b"new")
        await nodes[2].start()
        await until(lambda: metadata.isr() == {1, 2})
        assert nodes[1].bytes_of() == nodes[2].bytes_of()


async def test_a_corrupt_batch_holds_up_only_its_partition_and_is_not_copied(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as (metadata, nodes):
        metadata.create("t", 1, 2)
        metadata.create("u", 1, 2)
        await nodes[1].produce(b"good")
        await nodes[2].stop()
        metadata.fence(2)
        nodes[1].send(b"will rot")
        path = Path(nodes[1].directory) / "t-0" / "00000000000000000000.log"
        data = bytearray(path.read_bytes())
        data[-2] ^= 1
        path.write_bytes(data)
        await nodes[2].start()
        await nodes[1].produce(b"x", "u")
        await until(lambda: nodes[2].partition("u").high_watermark == 1)
        assert nodes[2].partition().log_end_offset == 1 and metadata.isr() == {1}


async def test_a_node_without_the_secret_replicates_nothing(tmp_path: Path) -> None:
    metadata = Metadata()
    leader = LiveNode(1, metadata, tmp_path)
    stranger = LiveNode(2, metadata, tmp_path, secret=b"x" * 32)
    await leader.start()
    await stranger.start()
    try:
        metadata.create("t", 1, 2)
        _, wait = leader.send(b"x")
        await until(lambda: leader.server.stats.accepted >= 2)
        assert not wait.done and stranger.partition().log_end_offset == 0
    finally:
        await stranger.stop()
        await leader.stop()


async def test_a_fetch_in_a_brokers_name_needs_its_proof(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as (metadata, _):
        metadata.create("t", 1, 2)
        endpoint = metadata.image.brokers[1].listeners[0]
        connection = await KafkaConnection.open(endpoint.host, endpoint.port)
        topic = (metadata.image.topics["t"].id, [FetchPartition(0, 5, 100)])
        request = FetchRequest(0, 1, topics=[topic], replica_id=2, replica_epoch=99)
        answer = decode_fetch_response(await connection.call_raw(1, 17, encode_fetch_request(17, request)), 17)
        await connection.close()
        assert answer.error_code == ErrorCode.cluster_authorization_failed


async def test_a_silent_follower_leaves_the_isr(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, replica_lag_time_max_ms=300) as (metadata, nodes):
        metadata.create("t", 1, 2, 3)
        await nodes[1].produce(b"x")
        await nodes[3].stop()  # nobody tells the controller
        await nodes[1].produce(b"y")
        assert metadata.isr() == {1, 2}


async def test_high_watermarks_survive_a_stop(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as (metadata, nodes):
        metadata.create("t", 1)
        for _ in range(3):
            await nodes[1].produce(b"x")
        await nodes[1].stop()
        await nodes[1].start()
        assert nodes[1].partition().high_watermark == 3
