"""Row 14: a bit flips on one disk of three. Corrupt bytes are never served; the copy is repaired or the node refuses
to start; writes go on."""

import asyncio

import pytest

from ottla.broker import Partition
from ottla.client import CorruptRecordError, TopicPartition
from ottla.cluster.traffic import Traffic
from ottla.log import PartitionLog
from ottla.log.reader import locate
from ottla.simulation import SimulatedCluster, leader_of, run
from ottla.simulation.upkeep import kept_up
from tests.simulation.matrix.harness import survives, takes_writes
from tests.simulation.test_nearby import SETTINGS as NEARBY

LEADER = leader_of("orders")


async def read_from_the_beginning(cluster: SimulatedCluster, records: int, **options: str) -> list[bytes]:
    """What a consumer that comes late gets."""
    async with cluster.consumer(auto_offset_reset="earliest", **options) as consumer:
        consumer.assign([TopicPartition("orders", 0)])
        got: list[bytes] = []
        async with asyncio.timeout(20):
            while len(got) < records:
                for batch in (await consumer.getmany(timeout_ms=500)).values():
                    got += [record.value or b"" for record in batch]
    return got


async def revive(cluster: SimulatedCluster) -> None:
    for node in cluster.nodes.values():
        if await node.stopping():
            node.start()


@pytest.mark.parametrize("lot", range(3))
def test_a_closed_segment_of_the_leader_that_runs(lot: int):
    """Whoever reads the old records gets the right ones, and in the end every copy is the same."""

    async def story(cluster: SimulatedCluster, traffic: Traffic) -> None:
        cluster.rot(LEADER, "closed segment", lot=lot)
        got = await read_from_the_beginning(cluster, 100)
        assert [int(value) for value in got[:100]] == list(range(100))
        await cluster.advance(1)
        await revive(cluster)
        await takes_writes(cluster, traffic)

    assert survives(story, seed=lot) > 100


@pytest.mark.parametrize(
    ("part", "how", "lot"),
    [
        ("closed segment", "stop", 2),
        ("closed segment", "kill", 2),
        ("closed segment", "power", 0),
        ("tail", "stop", 2),
        ("tail", "kill", 2),
        ("tail", "power", 1),
        ("index", "kill", 0),
        ("time index", "stop", 0),
        ("producer snapshot", "stop", 0),
        ("epochs", "stop", 0),
        ("topic id", "kill", 1),
        ("recovery points", "kill", 0),
        ("high watermarks", "stop", 0),
        ("vote", "kill", 0),
        ("metadata log", "power", 0),
        ("metadata tail", "kill", 0),
        ("identity", "stop", 0),
    ],
)
def test_rot_while_the_node_is_down(part: str, how: str, lot: int):
    """The node is back in the ISR, leads, and serves what is right; or refuses to start, until it is wiped."""

    async def story(cluster: SimulatedCluster, traffic: Traffic) -> None:
        victim = cluster.the(LEADER).id
        if how == "stop":
            await cluster.stop(victim)
        elif how == "kill":
            cluster.kill(victim)
        else:
            await cluster.advance(1.5)
            cluster.power_off(victim)
        await takes_writes(cluster, traffic)
        cluster.rot(victim, part, lot=lot)
        cluster.start(victim)
        await cluster.advance(8)
        await takes_writes(cluster, traffic)
        if not cluster.nodes[victim].alive:
            assert cluster.nodes[victim].casualties
            cluster.wipe(victim)
            cluster.start(victim)
            await cluster.nodes[victim].ready()
        await cluster.until(lambda: cluster.full("orders"), "in sync", within=20)
        # It is the preferred leader: its copy has to serve.
        await cluster.until(lambda: cluster.leader("orders") == victim, "it leads again", within=10)
        got = await read_from_the_beginning(cluster, 100)
        assert [int(value) for value in got[:100]] == list(range(100))
        await revive(cluster)

    survives(story, seed=f"{part} {how} {lot}", leader_imbalance_check_interval_seconds="1")


# So that all of it is in the segment that is still written to.
ONE_SEGMENT = {"log_segment_bytes": "1048576"}
LONG_AGO_S = 10.0


def flip(cluster: SimulatedCluster, node_id: int, position: int, bit: int = 0) -> None:
    """One bit of a batch in the middle of the log; `position` counts from where that batch begins."""
    node = cluster.nodes[node_id]
    replica = cluster.partition_on(node_id, "orders")
    assert replica is not None and replica.log is not None
    (segment,) = replica.log.segments
    node.excused = True
    node.disk.flip_bit(segment.path(".log"), locate(segment, 50) + position, bit)


async def rot_under_the_running_leader(cluster: SimulatedCluster, position: int) -> int:
    """In what it has written itself, some time ago; and whoever writes and reads at the end goes on."""
    leader = cluster.the(LEADER).id
    await cluster.advance(LONG_AGO_S)
    flip(cluster, leader, position)
    return leader


@pytest.mark.parametrize("position", [7, 10, 15, 30, 70], ids=["offset", "length", "epoch", "header", "record"])
def test_what_the_running_leader_wrote_itself(position: int):
    """Whoever reads it gets it from another one, and the leader starts over."""

    async def story(cluster: SimulatedCluster, traffic: Traffic) -> None:
        leader = await rot_under_the_running_leader(cluster, position)
        async with kept_up(cluster):
            got = await read_from_the_beginning(cluster, 100)
            assert [int(value) for value in got[:100]] == list(range(100))
            await cluster.until(lambda: cluster.nodes[leader].lives == 2, "it starts over")
            await cluster.until(lambda: cluster.full("orders"), "in sync", within=20)
            assert not cluster.nodes[leader].disk.rotten - set(stray(cluster, leader))

    assert survives(story, seed=position, **ONE_SEGMENT) > 100


def stray(cluster: SimulatedCluster, node_id: int) -> list[str]:
    """The files of logs that were set aside."""
    return [path for path in cluster.nodes[node_id].disk.files() if "-stray/" in path]


def test_if_it_were_taken_for_sound_as_long_as_the_process_runs_nobody_would_ever_get_it(
    monkeypatch: pytest.MonkeyPatch,
):
    """Two sound copies notwithstanding."""
    monkeypatch.setattr(PartitionLog, "cool", lambda _: None)

    async def story() -> None:
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders")
            async with cluster.producer() as producer:
                for at in range(100):
                    await producer.send_and_wait("orders", b"%d" % at, partition=0)
            await rot_under_the_running_leader(cluster, 70)
            async with cluster.consumer(auto_offset_reset="earliest") as consumer:
                consumer.assign([TopicPartition("orders", 0)])
                got, failed = 0, 0
                for _ in range(60):
                    try:
                        got += sum(map(len, (await consumer.getmany(timeout_ms=500)).values()))
                    except CorruptRecordError:
                        failed += 1
                assert got <= 50 and failed > 50
            assert all(node.alive for node in cluster.nodes.values())

    run(story, 1)


def test_a_follower_that_consumers_read_from():
    """KIP-392."""

    async def story() -> None:
        async with SimulatedCluster(settings=NEARBY, racks=True) as cluster:
            await cluster.create_topic("orders")
            async with cluster.producer() as producer:
                for at in range(100):
                    await producer.send_and_wait("orders", b"%d" % at, partition=0)
            near = next(node_id for node_id in cluster.nodes if node_id != cluster.leader("orders"))
            await cluster.advance(LONG_AGO_S)
            flip(cluster, near, 70)
            async with kept_up(cluster):
                got = await read_from_the_beginning(cluster, 100, client_rack=f"rack-{near}")
                assert [int(value) for value in got] == list(range(100))
                await cluster.until(lambda: cluster.nodes[near].lives == 2, "it starts over")
                await cluster.until(lambda: cluster.full("orders"), "in sync", within=20)

    run(story, 1)


OFFSET_DELTA = 24
"""The second byte of a batch's last offset delta."""


def copies(cluster: SimulatedCluster) -> list[Partition]:
    found = [cluster.partition_on(node, "orders") for node in cluster.nodes]
    return [each for each in found if each is not None]


def test_what_rots_at_the_leader_before_it_is_committed_is_no_measure_for_the_sound_copies():
    """Of the invariants: followers have it, and the leader has not heard of that yet when a bit flips in its own."""

    async def story() -> int:
        async with SimulatedCluster() as cluster, cluster.producer(linger_ms=0) as producer:
            await cluster.create_topic("orders")
            await producer.send_and_wait("orders", b"before", partition=0)
            leader = cluster.leader("orders")
            held = [cluster.hold("Fetch", source=node) for node in cluster.nodes if node != leader]
            sending = await producer.send("orders", b"meanwhile", partition=0)
            for each in held:
                await each.caught(5)
            replica = cluster.partition_on(leader, "orders")
            assert replica is not None and replica.log is not None
            (segment,) = replica.log.segments
            cluster.nodes[leader].excused = True
            cluster.nodes[leader].disk.flip_bit(segment.path(".log"), locate(segment, 1) + OFFSET_DELTA, 5)
            for each in held:
                each.release()
            offset = (await sending).offset
            await cluster.until(
                lambda: all(found.high_watermark == 2 for found in copies(cluster)),
                "everybody has heard of it",
                within=10,
            )
            return offset

    assert run(story, 1) == 1
