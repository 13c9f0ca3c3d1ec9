"""Row 14: a bit flips on one disk of three. Corrupt bytes are never served; the copy is repaired or the node refuses
to start; writes go on."""

import asyncio

import pytest

from ottla.client import TopicPartition
from ottla.cluster.traffic import Traffic
from ottla.simulation import SimulatedCluster, leader_of
from tests.simulation.matrix.harness import survives, takes_writes

LEADER = leader_of("orders")


async def read_from_the_beginning(cluster: SimulatedCluster, records: int) -> list[bytes]:
    """What a consumer that comes late gets."""
    async with cluster.consumer(auto_offset_reset="earliest") as consumer:
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
