"""A broker that stays away loses its replicas to others, and one that is back in time loses nothing."""

from __future__ import annotations

import pytest

from ottla.client import ConfigResource
from ottla.simulation import SimulatedCluster, follower_of, run

SOON = {"ottla.repair.after.ms": "4000", "broker.session.timeout.ms": "1000", "broker.heartbeat.interval.ms": "250"}
SLOW = SOON | {"ottla.repair.throttled.rate": "10000"}


def states(cluster: SimulatedCluster, topic: str = "orders"):
    node = cluster.nodes[cluster.controller()].node
    return node.quorum.view.image.topics[topic].partitions


def whole_without(cluster: SimulatedCluster, gone: int) -> bool:
    return all(
        gone not in state.replicas and set(state.isr) == set(state.replicas) for state in states(cluster).values()
    )


async def filled(cluster: SimulatedCluster, partitions: int, size: int) -> None:
    await cluster.create_topic("orders", partitions)
    async with cluster.producer(linger_ms=0) as producer:
        for index in range(partitions):
            for _ in range(size // 10_000):
                await producer.send_and_wait("orders", bytes(10_000), partition=index)


@pytest.mark.simulation(nodes=5, settings=SOON, limit=200)
async def test_replicas_of_a_broker_that_stays_away_are_rebuilt(simulated_cluster: SimulatedCluster):
    cluster = simulated_cluster
    await cluster.create_topic("orders", 6)
    async with cluster.traffic("orders", 6, interval=0.05) as traffic:
        gone = cluster.kill(follower_of("orders"))
        await cluster.advance(3)
        assert not any(state.reassigning for state in states(cluster).values())
        await cluster.until(lambda: whole_without(cluster, gone), "its replicas are elsewhere", within=20)
        cluster.start(gone)
        await cluster.nodes[gone].ready()
        await cluster.advance(1)
        logs = [path for path in cluster.nodes[gone].disk.files() if path.startswith("/data/orders-")]
        assert not [path for path in logs if not path.split("/")[2].endswith("-delete")], "it keeps nothing of them"
        assert not [path for path in logs if "-stray" in path]
        await traffic.start_reading()
        await traffic.stop_writing(within=60)
        await traffic.read_everything()
        assert traffic.ledger.verdict().clean


@pytest.mark.simulation(nodes=5, settings=SOON)
async def test_nothing_moves_when_it_is_back_in_time(simulated_cluster: SimulatedCluster):
    cluster = simulated_cluster
    await filled(cluster, 4, 20_000)
    before = {index: state.replicas for index, state in states(cluster).items()}
    gone = cluster.kill(follower_of("orders"))
    await cluster.advance(3)
    cluster.start(gone)
    await cluster.until(lambda: cluster.full("orders"), "it is back", within=20)
    await cluster.advance(20)
    assert {index: state.replicas for index, state in states(cluster).items()} == before


@pytest.mark.simulation(nodes=5, settings=SLOW, limit=200)
async def test_who_is_back_before_a_slow_repair_is_done_keeps_its_replicas(simulated_cluster: SimulatedCluster):
    cluster = simulated_cluster
    await filled(cluster, 1, 200_000)
    before = set(states(cluster)[0].replicas)
    gone = cluster.kill(follower_of("orders"))
    await cluster.until(lambda: states(cluster)[0].automatic, "a repair has begun", within=20)
    cluster.start(gone)
    await cluster.until(lambda: not states(cluster)[0].reassigning, "it is called off", within=10)
    assert set(states(cluster)[0].replicas) == before
    await cluster.until(lambda: cluster.full("orders"), "all is as it was", within=20)


@pytest.mark.simulation(nodes=5, settings=SLOW, limit=200)
async def test_a_repair_is_throttled_and_the_next_controller_goes_on_with_it(simulated_cluster: SimulatedCluster):
    cluster = simulated_cluster
    await filled(cluster, 1, 150_000)
    replicas = states(cluster)[0].replicas
    gone = cluster.kill(next(node for node in replicas if node not in (cluster.controller(), cluster.leader("orders"))))
    await cluster.until(lambda: states(cluster)[0].automatic, "a repair has begun", within=20)
    began = cluster.world.loop.time()
    if cluster.controller() not in states(cluster)[0].replicas:
        cluster.start(cluster.kill(cluster.controller()))
    await cluster.until(lambda: whole_without(cluster, gone), "it is done", within=60)
    assert cluster.world.loop.time() - began > 10, "150 kB at 10 kB/s"


@pytest.mark.simulation(nodes=5, settings=SOON | {"ottla.repair.partitions": "2"}, limit=200)
async def test_few_partitions_at_a_time(simulated_cluster: SimulatedCluster):
    cluster = simulated_cluster
    await filled(cluster, 8, 10_000)
    async with cluster.admin() as admin:
        # So slow that what is begun can be counted.
        await admin.incremental_alter_configs({ConfigResource("broker", ""): {"ottla.repair.throttled.rate": "0"}})
        gone = cluster.kill(follower_of("orders"))
        await cluster.advance(15)
        assert sum(state.automatic for state in states(cluster).values()) == 2
        await admin.incremental_alter_configs({ConfigResource("broker", ""): {"ottla.repair.throttled.rate": None}})
        await cluster.until(lambda: whole_without(cluster, gone), "all of them are done", within=60)


@pytest.mark.simulation(nodes=5, settings=SOON | {"ottla.repair.after.ms": "-1"})
async def test_without_a_limit_replicas_wait_for_their_broker(simulated_cluster: SimulatedCluster):
    cluster = simulated_cluster
    await filled(cluster, 2, 10_000)
    cluster.kill(follower_of("orders"))
    await cluster.advance(60)
    assert not any(state.reassigning for state in states(cluster).values())


@pytest.mark.parametrize("seed", range(2))
def test_a_replica_that_is_rebuilt_stays_in_the_rack_that_lost_it(seed: int):
    """KIP-36: two nodes stand in each rack, and every partition has a replica in each of three."""

    async def scenario():
        async with SimulatedCluster(nodes=6, settings=SOON, racks=True, nodes_per_rack=2) as cluster:

            def racks() -> list[list[str]]:
                return [sorted(map(cluster.rack_of, state.replicas)) for state in states(cluster).values()]

            everywhere = ["rack-1", "rack-2", "rack-3"]
            await filled(cluster, 12, 10_000)
            assert racks() == 12 * [everywhere]
            gone = cluster.kill(follower_of("orders"))
            (neighbour,) = (id for id in cluster.nodes if id != gone and cluster.rack_of(id) == cluster.rack_of(gone))
            held = [index for index, state in states(cluster).items() if gone in state.replicas]
            assert held
            await cluster.until(lambda: whole_without(cluster, gone), "its replicas are elsewhere", within=30)
            assert racks() == 12 * [everywhere]
            assert all(neighbour in states(cluster)[index].replicas for index in held)
            # With the whole rack gone there are the two others to go to.
            cluster.kill(neighbour)
            await cluster.until(lambda: whole_without(cluster, neighbour), "the replicas are elsewhere", within=30)
            lost = cluster.rack_of(gone)
            assert all(lost not in each and len(each) == 3 and len(set(each)) == 2 for each in racks())

    run(scenario, seed)


@pytest.mark.simulation(nodes=5, settings=SOON | {"ottla.repair.after.ms": "12000"}, limit=300)
async def test_controllers_that_do_not_live_that_long_repair_all_the_same(simulated_cluster: SimulatedCluster):
    """Each counts on from what the one before has noted in the metadata."""
    cluster = simulated_cluster
    await filled(cluster, 4, 10_000)
    gone = cluster.kill(follower_of("orders"))
    began, reigns = cluster.world.loop.time(), 0
    while any(gone in state.replicas for state in states(cluster).values()):
        assert cluster.world.loop.time() - began < 60, "its replicas are not rebuilt"
        await cluster.advance(5)
        reigns += 1
        killed = cluster.kill(cluster.controller())
        cluster.start(killed)
        await cluster.nodes[killed].ready()
    assert reigns > 2
    assert cluster.world.loop.time() - began >= 12
