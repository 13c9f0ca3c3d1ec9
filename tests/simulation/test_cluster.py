"""Real nodes and the real client in virtual time: failover, pauses, cuts, power loss."""

import asyncio
import os
import subprocess
import sys

import pytest

from ottla.simulation import (
    SimulatedCluster,
    SimulationError,
    controller,
    current_world,
    follower_of,
    leader_of,
    run,
)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_the_readme_of_a_unit_test():
    """What a user writes: their own client code, and a failure in the middle of it."""

    async def scenario():
        async with SimulatedCluster(nodes=3) as cluster:
            await cluster.create_topic("orders")
            async with cluster.producer(linger_ms=0) as producer:
                await producer.send_and_wait("orders", b"before", partition=0)
                cluster.kill(leader_of("orders", 0))
                await producer.send_and_wait("orders", b"after", partition=0)
            async with cluster.consumer("orders", auto_offset_reset="earliest") as consumer:
                return [(await consumer.getone()).value for _ in range(2)]

    assert run(scenario, seed=7) == [b"before", b"after"]


def test_failover_takes_milliseconds_of_virtual_time():
    async def scenario():
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders", 2)
            async with cluster.traffic("orders", 2, interval=0.02) as traffic:
                await traffic.start_reading()
                for who in (leader_of("orders", 0), controller, follower_of("orders", 1)):
                    await cluster.advance(1)
                    killed, at = cluster.kill(who), now()
                    for partition in range(2):
                        again = await traffic.acknowledged_again(partition, at)
                        assert again - at < 1.0
                    cluster.start(killed)
                    await cluster.until(lambda: cluster.full("orders"), "every replica is in sync", within=10)
                await traffic.stop_writing()
                await traffic.read_everything()
                return traffic.ledger.verdict()

    verdict = run(scenario, seed=1)
    assert verdict.clean
    assert verdict.acknowledged > 200


def test_a_paused_leader_is_replaced_and_acknowledges_nothing_afterwards():
    async def scenario():
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders")
            async with cluster.traffic("orders", 1, interval=0.02) as traffic:
                await cluster.advance(1)
                paused, at = cluster.pause(leader_of("orders")), now()
                await traffic.acknowledged_again(0, at)
                assert cluster.leader("orders") != paused
                await cluster.advance(5)
                cluster.resume(paused)
                await cluster.until(lambda: cluster.full("orders"), "it has rejoined", within=10)
                await traffic.start_reading()
                await traffic.stop_writing()
                await traffic.read_everything()
                return traffic.ledger.verdict()

    assert run(scenario, seed=1).clean


def test_an_isolated_leader_with_a_client_attached_acknowledges_nothing():
    async def scenario():
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders")
            old = cluster.leader("orders")
            async with cluster.producer(linger_ms=0, delivery_timeout_ms=20_000) as producer:
                await producer.send_and_wait("orders", b"before", partition=0)
                cluster.partition([old], [other for other in cluster.nodes if other != old])
                metadata = await producer.send_and_wait("orders", b"after", partition=0)
            assert cluster.leader("orders") != old
            lagging = cluster.partition_on(old, "orders")
            assert lagging is not None and lagging.high_watermark == 1
            return metadata.offset

    assert run(scenario, seed=1) == 1


def test_power_loss_of_all_nodes_loses_nothing_when_flush_is_synced():
    async def scenario():
        async with SimulatedCluster(settings={"ottla.flush": "synced"}) as cluster:
            await cluster.create_topic("orders")
            async with cluster.traffic("orders", 1, interval=0.01) as traffic:
                await cluster.advance(1)
                for node_id in cluster.nodes:
                    cluster.power_off(node_id)
                await cluster.advance(1)
                at = now()
                for node_id in cluster.nodes:
                    cluster.start(node_id)
                await traffic.acknowledged_again(0, at, within=60)
                await traffic.start_reading()
                await traffic.stop_writing(within=60)
                await traffic.read_everything()
                return traffic.ledger.verdict()

    for seed in range(3):
        verdict = run(scenario, seed)
        assert verdict.clean
        assert verdict.acknowledged > 50


@pytest.mark.parametrize("operations", range(3))
def test_a_process_that_dies_in_mid_write_leaves_the_page_cache_and_what_it_had_begun(operations: int):
    async def scenario():
        async with SimulatedCluster(nodes=1) as cluster:
            await cluster.create_topic("orders")
            node = cluster.nodes[1]
            async with cluster.producer(linger_ms=0) as producer:
                await producer.send_and_wait("orders", b"before", partition=0)
                boot, begun = node.disk.boot_id(), node.disk.operations
                node.kill_within(operations)
                sending = asyncio.ensure_future(producer.send_and_wait("orders", b"after", partition=0))
                await node.ended()
                assert (node.disk.operations, node.disk.boot_id()) == (begun + operations + 1, boot)
                node.start()
                await sending
            async with cluster.consumer("orders", auto_offset_reset="earliest") as consumer:
                return [(await consumer.getone()).value for _ in range(2)]

    assert run(scenario, seed=7) == [b"before", b"after"]


def test_a_clean_stop_hands_over_and_the_node_comes_back():
    async def scenario():
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders")
            async with cluster.traffic("orders", 1, interval=0.01) as traffic:
                await cluster.advance(0.5)
                stopped = await cluster.stop(leader_of("orders"))
                assert not cluster.nodes[stopped].failures
                at = now()
                assert await traffic.acknowledged_again(0, at) - at < 0.5
                cluster.start(stopped)
                await cluster.until(lambda: cluster.full("orders"), "it has rejoined", within=10)
                await traffic.stop_writing()
                return traffic.failed

    assert run(scenario, seed=1) == []


def test_roles_that_nobody_has_say_so():
    async def scenario():
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders")
            for node_id in cluster.nodes:
                cluster.kill(node_id)
            for role in (leader_of("orders"), controller, follower_of("orders")):
                with pytest.raises(SimulationError):
                    cluster.the(role)

    run(scenario, seed=1)


def test_five_nodes_outlive_two():
    async def scenario():
        async with SimulatedCluster(nodes=5) as cluster:
            # Both may be replicas, and then one is left.
            await cluster.create_topic("orders", 1, min_insync_replicas="1")
            async with cluster.traffic("orders", 1, interval=0.05) as traffic:
                await cluster.advance(0.5)
                victims = {controller(cluster), leader_of("orders")(cluster)}
                for victim in sorted(victims):
                    cluster.kill(victim)
                    await cluster.advance(0.01)
                at = now()
                return await traffic.acknowledged_again(0, at, within=30) - at

    assert run(scenario, seed=1) < 10


SCRIPT = """
from ottla.simulation.storm import storm
kinds = ["kill", "one way", "power off", "new voter", "voter leaves", "reassign"]
print(storm(3, seconds=5, kinds=kinds, rate=20).fingerprint)
"""


def test_the_same_seed_gives_the_same_bytes_in_processes_with_different_hash_seeds():
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    fingerprints = [process.communicate(timeout=120)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert fingerprints[0] == fingerprints[1] != ""


def test_another_seed_gives_another_run():
    async def scenario():
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders")
            return current_world().trace.fingerprint

    assert run(scenario, seed=1) != run(scenario, seed=2)
