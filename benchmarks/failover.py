"""Milliseconds from kill -9 of a leader to the first acknowledged write on the same partition by its successor.

Run by hand: ``python benchmarks/failover.py [KILLS]``. Every second kill also hits the active controller.
The client retries after 50 ms; one record is sent every 5 ms to each of three partitions.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys

from common import cluster, make_topic, show

from ottla.client import Admin
from ottla.cluster import Supervisor
from ottla.cluster.traffic import Traffic

TOPIC = "failover"
PARTITIONS = 3
LOOK_S = 0.02
PATIENCE_S = 20.0


async def main(kills: int) -> None:
    """Kill, measure, and print."""
    found: dict[bool, list[float]] = {False: [], True: []}
    async with cluster(3) as supervisor:
        bootstrap = supervisor.layout.bootstrap
        await make_topic(supervisor, TOPIC, PARTITIONS, 3)
        async with (
            Admin(bootstrap_servers=bootstrap) as admin,
            Traffic(bootstrap, TOPIC, PARTITIONS, interval=0.005) as traffic,
        ):
            await traffic.start_reading()
            await traffic.acknowledged_count(100)
            for number in range(kills):
                with_controller = number % 2 == 1
                found[with_controller].append(await _kill(supervisor, admin, traffic, with_controller))
            await traffic.stop_writing()
            await traffic.read_everything()
            verdict = traffic.ledger.verdict()
    show(
        f"{kills} kills: {verdict.acknowledged:,} acknowledged, {verdict.lost} lost, {verdict.duplicated} duplicated",
        ["killed", "kills", "median ms", "worst ms"],
        [
            [name, str(len(times)), f"{statistics.median(times) * 1000:.0f}", f"{max(times) * 1000:.0f}"]
            for name, times in (("a leader", found[False]), ("a leader that is the active controller", found[True]))
            if times
        ],
    )


async def _kill(supervisor: Supervisor, admin: Admin, traffic: Traffic, with_controller: bool) -> float:
    """Kill one leader, wait until it is back, and return the longest silence on its partitions from the kill on."""
    controller = (await admin.describe_metadata_quorum()).leader_id
    leaders = await _leaders(admin)
    choice = [node for node in leaders.values() if (node == controller) is with_controller] or list(leaders.values())
    victim = choice[0]
    loop = asyncio.get_running_loop()
    killed = loop.time()
    supervisor.node(victim).kill()
    hit = [index for index, node in leaders.items() if node == victim]
    await supervisor.node(victim).gone()
    async with asyncio.timeout(PATIENCE_S):
        while any(node in (victim, -1) for index, node in (await _leaders(admin)).items() if index in hit):
            await asyncio.sleep(LOOK_S)
    elected = loop.time()
    for index in hit:
        await traffic.acknowledged_again(index, elected)
    await supervisor.node(victim).start()
    async with asyncio.timeout(PATIENCE_S):
        while not await _full(admin):
            await asyncio.sleep(LOOK_S)
    return max(_silence(traffic, index, killed) for index in hit)


def _silence(traffic: Traffic, partition: int, killed: float) -> float:
    """Seconds from the kill to the end of the longest pause that touches the second after it."""
    times = [at for at in traffic.ledger.partitions[partition].acknowledged_at if at > killed - 0.5]
    pauses = [(later - earlier, later) for earlier, later in itertools.pairwise(times) if later > killed]
    return max(pauses)[1] - killed


async def _leaders(admin: Admin) -> dict[int, int]:
    topic = (await admin.describe_topics([TOPIC]))[TOPIC]
    return {index: partition.leader for index, partition in topic.partitions.items()}


async def _full(admin: Admin) -> bool:
    topic = (await admin.describe_topics([TOPIC]))[TOPIC]
    return all(len(partition.isr) == len(partition.replicas) for partition in topic.partitions.values())


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
