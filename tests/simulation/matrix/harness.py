"""A cluster under traffic, hit by something, and the question afterwards whether every promise was kept."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from ottla.cluster.traffic import Traffic
from ottla.simulation import SimulatedCluster, run
from ottla.simulation.storm import replicas_are_equal

Story = Callable[[SimulatedCluster, Traffic], Awaitable[None]]

# Segments of a few batches, and checkpoints every second, so that a story of some seconds has all kinds of files.
SMALL = {
    "log.segment.bytes": "4096",
    "log.index.interval.bytes": "512",
    "log.flush.offset.checkpoint.interval.ms": "1000",
    "replica.high.watermark.checkpoint.interval.ms": "1000",
}


def survives(story: Story, *, seed: int | str = 1, within: float = 30.0, equal: bool = True, **settings: str) -> int:
    """Run the story in a cluster under traffic. Afterwards every node is up, every replica in sync and equal, nothing
    acknowledged is lost or doubled, and nothing was left unhandled. Returns how many records were acknowledged."""

    async def scenario() -> int:
        names = {name.replace("_", "."): value for name, value in settings.items()}
        async with SimulatedCluster(settings=SMALL | {"ottla.flush": "os"} | names) as cluster:
            await cluster.create_topic("orders")
            async with cluster.traffic("orders", 1, interval=0.02) as traffic:
                await traffic.start_reading()
                await traffic.acknowledged_count(100)
                await story(cluster, traffic)
                await in_order(cluster, traffic, within)
                if equal:  # each replica's retention has its own moment
                    replicas_are_equal(cluster, "orders", 1)
                return traffic.ledger.verdict().acknowledged

    return run(scenario, seed)


async def in_order(cluster: SimulatedCluster, traffic: Traffic, within: float) -> None:
    since = cluster.world.loop.time()
    await cluster.until(lambda: cluster.full("orders"), "every replica is in sync", within=within)
    await traffic.acknowledged_again(0, since, within=within)
    await traffic.stop_writing(within=within)
    await traffic.read_everything(within=within)
    verdict = traffic.ledger.verdict()
    assert verdict.clean, verdict
    await cluster.until(lambda: at_end(cluster), "every high watermark is at the end", within=within)
    assert cluster.world.complaints == []
    assert {node.id: node.failures for node in cluster.nodes.values() if node.failures} == {}


def at_end(cluster: SimulatedCluster) -> bool:
    found = [cluster.partition_on(node_id, "orders") for node_id in cluster.nodes]
    ends = {end for each in found if each is not None for end in (each.high_watermark, each.log_end_offset)}
    return None not in found and len(ends) == 1


async def takes_writes(cluster: SimulatedCluster, traffic: Traffic, *, within: float = 10.0) -> None:
    await traffic.acknowledged_again(0, cluster.world.loop.time(), within=within)


async def ended(cluster: SimulatedCluster, node_id: int, *, within: float = 15.0) -> None:
    """The node has ended by itself."""
    await cluster.until(lambda: not cluster.nodes[node_id].alive, f"node {node_id} ends", within=within)
    assert cluster.nodes[node_id].casualties


@contextlib.asynccontextmanager
async def down(cluster: SimulatedCluster, node_id: int) -> AsyncIterator[None]:
    """The node is killed, and started again afterwards."""
    cluster.kill(node_id)
    yield
    cluster.start(node_id)
