"""The coordinator's side of big groups: time to a stable assignment, commits per second, time to serve after a kill.

Run by hand: ``python benchmarks/groups.py [MEMBERS] [PARTITIONS]``. Three nodes; all members are in this one process
and do no more than their protocol asks, over a connection each, so that the coordinator is what is measured.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from common import cluster, cpu_seconds, make_topic, show

from ottla.cluster import Supervisor
from ottla.simulation.groups import ClassicMember, ConsumerMember, Member, Trouble
from ottla.wire import KafkaConnection

TOPIC = "big"
FIND_COORDINATOR = 10
PATIENCE_S = 120.0
BEAT_S = 0.25
COMMITS = 50
PER_COMMIT = 5


async def main(members: int, partitions: int) -> None:
    """Measure both protocols, and print."""
    settings: dict[str, str | int | bool] = {"group.initial.rebalance.delay.ms": 0}
    async with cluster(3, settings) as supervisor:
        await make_topic(supervisor, TOPIC, partitions, 1)
        rows = [await _measure(supervisor, each, members, partitions) for each in ("classic", "consumer")]
    show(
        f"{members} members, {partitions} partitions, three nodes, offsets with three replicas",
        [
            "protocol",
            "all join: s to stable",
            "CPU s",
            "one more: s",
            "commits/s",
            "us each",
            "kill: s to all heard",
            "to stable",
        ],
        rows,
    )


async def _measure(supervisor: Supervisor, protocol: str, count: int, partitions: int) -> list[str]:
    addresses = [each.rpartition(":") for each in supervisor.layout.bootstrap.split(",")]
    servers = [(host, int(port)) for host, _, port in addresses]
    group = f"group-{protocol}"
    everybody = [_member(servers, group, protocol, number, partitions) for number in range(count + 1)]
    members, late = everybody[:count], everybody[count]
    loop = asyncio.get_running_loop()
    node = supervisor.node(await _coordinator(servers, group))
    async with asyncio.TaskGroup() as tasks:
        living = [tasks.create_task(_live(member)) for member in members]
        assert node.pid is not None
        began, cpu = loop.time(), cpu_seconds(node.pid)
        joined = await _stable(members, partitions) - began
        cpu = cpu_seconds(node.pid) - cpu
        began = loop.time()
        living.append(tasks.create_task(_live(late)))
        one_more = await _stable(everybody, partitions) - began
        rate, each = await _commits(everybody, node.pid)
        began = loop.time()
        node.kill()
        heard = await _heard(everybody, began)
        again = await _stable(everybody, partitions) - began
        for task in living:
            task.cancel()
    await node.gone()
    await node.start()
    for member in everybody:
        member.forget_coordinator()
    return [
        protocol,
        f"{joined:.1f}",
        f"{cpu:.1f}",
        f"{one_more:.1f}",
        f"{rate:,.0f}",
        f"{each * 1e6:,.0f}",
        f"{heard:.2f}",
        f"{again:.2f}",
    ]


def _member(servers: Sequence[tuple[str, int]], group: str, protocol: str, number: int, partitions: int) -> Member:
    name = f"{protocol}-{number}"
    if protocol == "classic":
        return ClassicMember(servers, group, TOPIC, name, session_s=60.0, patience_s=60.0, partitions=partitions)
    return ConsumerMember(servers, group, TOPIC, name, session_s=60.0, patience_s=60.0)


async def _coordinator(servers: Sequence[tuple[str, int]], group: str) -> int:
    """The node that coordinates the group, as soon as one does."""
    connection = await KafkaConnection.open(*servers[0])
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answer = await connection.call(FIND_COORDINATOR, 4, {"key_type": 0, "coordinator_keys": [group]})
                (found,) = answer.coordinators
                if not found.error_code:
                    return int(found.node_id)
                await asyncio.sleep(0.1)
    finally:
        await connection.close()


async def _live(member: Member) -> None:
    """Heartbeats four times a second, so that what is measured is not their interval."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            await member.tick()
            heard[member.name] = loop.time()
            await asyncio.sleep(BEAT_S if member.settled else 0.0)
        except Trouble:
            await asyncio.sleep(0.05)


heard: dict[str, float] = {}


async def _stable(members: Sequence[Member], partitions: int) -> float:
    """When every partition has an owner, and everybody its share."""
    loop = asyncio.get_running_loop()
    least, most = partitions // len(members), -(-partitions // len(members))
    async with asyncio.timeout(PATIENCE_S):
        while True:
            parts = [member.assignment for member in members if member.settled]
            fair = all(least <= len(part) <= most for part in parts) and len(parts) == len(members)
            if fair and sum(map(len, parts)) == len(frozenset().union(*parts)) == partitions:
                return loop.time()
            await asyncio.sleep(0.02)


async def _heard(members: Sequence[Member], since: float) -> float:
    """Seconds until the new coordinator has answered every one of them."""
    async with asyncio.timeout(PATIENCE_S):
        while min(heard[member.name] for member in members) < since:
            await asyncio.sleep(0.01)
    return max(heard[member.name] for member in members) - since


async def _commits(members: Sequence[Member], pid: int) -> tuple[float, float]:
    """(commits a second, CPU seconds of the coordinator for each), every member one commit after the other."""
    loop = asyncio.get_running_loop()
    began, cpu = loop.time(), cpu_seconds(pid)

    async def work(member: Member) -> int:
        done = 0
        mine = sorted(member.assignment)[:PER_COMMIT]
        for number in range(COMMITS):
            done += bool(mine) and not await member.commit(dict.fromkeys(mine, number))
        return done

    done = sum(await asyncio.gather(*(work(member) for member in members)))
    if done < len(members) * COMMITS * 0.9:
        raise RuntimeError(f"{done} commits of {len(members) * COMMITS} were taken")
    return done / (loop.time() - began), (cpu_seconds(pid) - cpu) / done


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    asyncio.run(main(*(given + [200, 1000][len(given) :])))
