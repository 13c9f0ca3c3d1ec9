"""What is known of a node's death is about one process; the next one may be there before everybody has met it."""

import asyncio

import pytest

from ottla.simulation import SimulatedCluster, controller, run


@pytest.mark.parametrize("seed", range(4))
def test_a_new_controller_does_not_fence_a_broker_for_the_death_of_its_last_process(seed):
    """It may not have met the present one yet, and would take away its partitions, although it is in sync."""
    fenced = []

    async def scenario():
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders", 3)
            back = next(node_id for node_id in cluster.nodes if node_id != cluster.controller())
            cluster.kill(back)
            await cluster.advance(3)
            cluster.start(back)
            await cluster.until(lambda: cluster.full("orders"), "every replica is in sync again")

            def see(image, _delta):
                fenced.append(image.brokers[back].fenced)

            cluster.the(back).node.quorum.view.subscribe(see)
            cluster.kill(controller)
            await cluster.advance(1)

    run(scenario, seed)
    assert fenced and not any(fenced)


@pytest.mark.parametrize("seed", range(4))
def test_a_broker_that_dies_again_before_the_controller_has_met_it_is_fenced_at_once(seed):
    async def scenario():
        loop = asyncio.get_running_loop()
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders", 3)
            active = cluster.controller()
            watch = cluster.the(active).node.quorum.watch
            twice = next(node_id for node_id in cluster.nodes if node_id != active)
            cluster.kill(twice)
            await cluster.advance(3)
            cluster.start(twice)
            image = lambda: cluster.the(active).node.quorum.view.image  # noqa: E731
            await cluster.until(lambda: not image().brokers[twice].fenced, "it is unfenced")
            assert twice in watch.dead_peers
            cluster.kill(twice)
            died = loop.time()
            await cluster.until(lambda: image().brokers[twice].fenced, "it is fenced again")
            return loop.time() - died

    assert run(scenario, seed) < 1


@pytest.mark.parametrize("seed", range(2))
def test_a_broker_that_is_fenced_by_mistake_is_unfenced_at_once(seed):
    """It does not wait for its next heartbeat, which may be two seconds off."""
    changed = []

    async def scenario():
        loop = asyncio.get_running_loop()
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders", 3)
            quorum = cluster.the(controller).node.quorum
            wronged = next(node_id for node_id in cluster.nodes if node_id != cluster.controller())

            def see(image, _delta):
                changed.append((image.brokers[wronged].fenced, loop.time()))

            quorum.view.subscribe(see)
            quorum.active.peer_dead(wronged)
            await cluster.until(lambda: changed and not changed[-1][0], "it is unfenced")

    run(scenario, seed)
    assert changed[0][0]
    assert changed[-1][1] - changed[0][1] < 0.1
