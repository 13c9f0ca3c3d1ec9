"""A day with brokers that go, come and die, by the commands of docs/moving-replicas.md, while records are written."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from ottla.cluster import Supervisor, free_base_port, prepare
from ottla.cluster.traffic import Traffic
from tests.cli.running import asked, refused, told

PARTITIONS = 6
REPAIR_S = 30.0
SETTINGS: dict[str, str | int | bool] = {
    "ottla.repair.after.ms": 1500,
    "broker.session.timeout.ms": 1500,
    "broker.heartbeat.interval.ms": 300,
}


class Operator:
    """Somebody at a terminal."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.bootstrap = supervisor.layout.bootstrap

    async def run(self, *words: str) -> str:
        return await told(*words, bootstrap=self.bootstrap)

    async def brokers(self) -> dict[int, dict[str, Any]]:
        return {row["id"]: row for row in await asked("broker", "list", bootstrap=self.bootstrap)}

    async def voters(self) -> list[int]:
        found = await asked("quorum", "describe", bootstrap=self.bootstrap)
        return sorted(voter["id"] for voter in found["CurrentVoters"])


async def test_brokers_go_come_and_die(tmp_path: Path) -> None:
    supervisor = Supervisor(prepare(tmp_path, nodes=4, base_port=free_base_port(4), settings=SETTINGS))
    operator = Operator(supervisor)
    try:
        await supervisor.start()
        await operator.run("topic", "create", "orders", "-p", str(PARTITIONS), "-r", "3")
        async with Traffic(operator.bootstrap, "orders", PARTITIONS, interval=0.03) as traffic:
            await traffic.start_reading()
            await _drained(operator)
            await _filled(operator)
            await _repaired(operator)
            await traffic.acknowledged_again(0, asyncio.get_running_loop().time())
            await traffic.stop_writing()
            assert not traffic.failed
            await traffic.read_everything()
            assert traffic.ledger.verdict().clean
    finally:
        await supervisor.stop(within=10.0)


async def _drained(operator: Operator) -> None:
    before = (await operator.brokers())[4]["replicas"]
    plan = await operator.run("broker", "drain", "4", "--dry-run")
    assert f"{before} partitions change, {before} replicas are copied." in plan
    assert (await operator.brokers())[4]["state"] == "up", "nothing was done"
    out = await operator.run("broker", "drain", "4", "--throttle", "20000000")
    assert out.startswith(plan)
    assert out.endswith(": ottla quorum remove 4, then stop it, then ottla broker remove 4\n")
    found = (await operator.brokers())[4]
    assert (found["state"], found["replicas"], found["preferred_leader"]) == ("cordoned", 0, 0)
    assert "stop it first" in await refused("broker", "remove", "4", bootstrap=operator.bootstrap)
    assert await operator.run("quorum", "remove", "4") == "Removed voter 4.\n"
    await operator.supervisor.node(4).stop()
    assert await operator.run("broker", "remove", "4") == "Broker 4 is not registered any more.\n"
    assert sorted(await operator.brokers()) == await operator.voters() == [1, 2, 3]


async def _filled(operator: Operator) -> None:
    """The same node again, which counts as a new one."""
    await operator.supervisor.node(4).start()
    plan = await operator.run("rebalance", "--dry-run")
    assert (await operator.brokers())[4]["replicas"] == 0
    assert (await operator.run("rebalance")).startswith(plan)
    brokers = await operator.brokers()
    for what in ("replicas", "preferred_leader"):
        counts = [each[what] for each in brokers.values()]
        assert max(counts) - min(counts) <= 1, brokers
    assert await operator.run("rebalance") == "Nothing to move.\n"


async def _repaired(operator: Operator) -> None:
    """What is gone for longer than the set time is replaced by nobody's command."""
    operator.supervisor.node(3).kill()
    await operator.supervisor.node(3).gone()
    async with asyncio.timeout(REPAIR_S):
        while (brokers := await operator.brokers())[3]["replicas"]:  # noqa: ASYNC110 - a cluster has no event to offer
            await asyncio.sleep(0.1)
    assert brokers[3]["state"] == "fenced"
    assert sum(each["replicas"] for each in brokers.values()) == 3 * PARTITIONS
    assert await operator.run("partition", "list-reassignments") == "No partition reassignments found.\n"
    (topic,) = (await asked("status", bootstrap=operator.bootstrap))["topics"]
    assert all(sorted(row["isr"]) == sorted(row["replicas"]) == [1, 2, 4] for row in topic["partitions"])
    await operator.supervisor.node(3).start()
    found = (await operator.brokers())[3]
    assert (found["state"], found["replicas"]) == ("up", 0), "nothing moves back by itself"
