"""A fixed set of seeds under every kind of fault. A seed that found something stays here with what it found."""

import random

import pytest

from ottla.simulation import Machine, SimulatedCluster, run
from ottla.simulation.faults import FAULTS, GROUPS, Scene, draw
from ottla.simulation.link import Harm
from ottla.simulation.nemesis import Nemesis
from ottla.simulation.plan import WORKLOADS
from ottla.simulation.storm import storm


@pytest.mark.parametrize("kind", list(FAULTS))
def test_every_kind_of_fault_by_itself(kind: str):
    report = storm(f"only {kind}", seconds=5, kinds=[kind], rate=20)
    assert set(report.faults) <= {kind}
    assert report.acknowledged


@pytest.mark.parametrize("seed", [3, 14, 26, 35, 44])
def test_swarm(seed: int):
    assert storm(seed, seconds=10, rate=20).acknowledged


@pytest.mark.parametrize("workload", WORKLOADS)
def test_swarm_beside_others(workload: str):
    assert storm(5, seconds=10, rate=5, workload=workload).work_besides


def test_overlapping_faults_leave_nothing_behind():
    async def scenario():
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders")
            nemesis = Nemesis(cluster, "orders", 1)
            await nemesis.play(draw(random.Random(1), [*GROUPS["network"], "slow disk", "clock"], 60), 60)
            for node in cluster.nodes.values():
                assert node.machine.disk_delay == Machine("x", "x").disk_delay
                assert node.clock_offset_ms == 0
            machines = [node.machine for node in cluster.nodes.values()]
            for link in cluster.world.network.links(machines, machines):
                assert not link.harms
            return nemesis.done

    assert sum(run(scenario, 1).values()) > 20


def test_a_fault_of_the_network_takes_back_its_own_harm_only():
    async def scenario():
        async with SimulatedCluster(nodes=5) as cluster:
            await cluster.create_topic("orders")
            network = cluster.world.network
            machines = [node.machine for node in cluster.nodes.values()]
            links = network.links([*machines, cluster.world.home], machines)
            kept = Harm(refused=True, latency=(0.001, 0.002))
            network.harm(links, kept)
            for name, kind in GROUPS["network"].items():
                for lot in range(4):
                    undo = kind.do(Scene(cluster, "orders", 1, random.Random(lot)))
                    assert undo is not None
                    await cluster.advance(0.1)
                    undo()
                    await cluster.advance(0.01)
                    assert all(link.harms == (kept,) for link in links), name

    run(scenario, 1)
