"""Replicas that move in a whole cluster, asked for with the admin client."""

from __future__ import annotations

import pytest
from kio.schema.errors import ErrorCode

from ottla.client import BrokerResponseError, ConfigResource, TopicPartition
from ottla.simulation import SimulatedCluster, leader_of

ORDERS = TopicPartition("orders", 0)


def state(cluster: SimulatedCluster, topic: str = "orders", index: int = 0):
    node = cluster.nodes[cluster.controller()].node
    return node.quorum.view.image.topics[topic].partitions[index]


def code_of(error: BaseException | None) -> ErrorCode:
    assert isinstance(error, BrokerResponseError)
    return error.code


@pytest.mark.simulation(nodes=5)
async def test_a_partition_moves_under_traffic_and_a_dead_controller(simulated_cluster: SimulatedCluster):
    cluster = simulated_cluster
    await cluster.create_topic("orders")
    others = [node for node in cluster.nodes if node not in state(cluster).replicas]
    target = (*others, state(cluster).replicas[0])
    async with cluster.traffic("orders", 1, interval=0.02) as traffic, cluster.admin() as admin:
        await cluster.advance(0.5)
        await admin.alter_partition_reassignments({ORDERS: target})
        killed = cluster.kill(next(node for node in (cluster.controller(),)))
        await cluster.advance(1)
        cluster.start(killed)
        await cluster.until(lambda: state(cluster).replicas == target, "it has moved", within=20)
        assert await admin.list_partition_reassignments() == {}
        await cluster.until(lambda: cluster.full("orders"), "everybody is in sync", within=20)
        assert cluster.leader("orders") in target
        await traffic.start_reading()
        await traffic.stop_writing(within=60)
        await traffic.read_everything()
        assert traffic.ledger.verdict().clean


@pytest.mark.simulation(nodes=5)
async def test_what_is_under_way_is_listed_replaced_and_cancelled(simulated_cluster: SimulatedCluster):
    cluster = simulated_cluster
    await cluster.create_topic("orders")
    before = state(cluster).replicas
    new, other = [node for node in cluster.nodes if node not in before]
    cluster.kill(new)
    async with cluster.admin() as admin:
        target = (new, *before[1:])
        await admin.alter_partition_reassignments({ORDERS: target})
        found = await admin.list_partition_reassignments([ORDERS, TopicPartition("orders", 7)])
        assert list(found) == [ORDERS]
        assert found[ORDERS].adding_replicas == (new,) and found[ORDERS].removing_replicas == (before[0],)
        assert found[ORDERS].target_replicas == target
        await admin.alter_partition_reassignments({ORDERS: None})
        assert await admin.list_partition_reassignments() == {}
        assert set(state(cluster).replicas) == set(before)
        outcomes = await admin.try_alter_partition_reassignments(
            {ORDERS: (*before, other), TopicPartition("orders", 1): None}, allow_replication_factor_change=False
        )
        assert [code_of(error) for error in outcomes.values()] == [
            ErrorCode.invalid_replication_factor,
            ErrorCode.unknown_topic_or_partition,
        ]
        with pytest.raises(BrokerResponseError) as none:
            await admin.alter_partition_reassignments({ORDERS: None})
        assert code_of(none.value) is ErrorCode.no_reassignment_in_progress


@pytest.mark.simulation(nodes=3)
async def test_elections(simulated_cluster: SimulatedCluster):
    cluster = simulated_cluster
    await cluster.create_topic("orders", 2)
    preferred = cluster.kill(leader_of("orders"))
    await cluster.until(lambda: state(cluster).leader not in (-1, preferred), "another leads", within=20)
    async with cluster.admin() as admin:
        outcomes = await admin.elect_leaders("preferred", [ORDERS, TopicPartition("orders", 9)])
        assert [code_of(error) for error in outcomes.values()] == [
            ErrorCode.preferred_leader_not_available,
            ErrorCode.unknown_topic_or_partition,
        ]
        cluster.start(preferred)
        await cluster.until(lambda: cluster.full("orders"), "it is in sync again", within=20)
        assert (await admin.elect_leaders())[ORDERS] is None
        assert state(cluster).leader == preferred
        assert await admin.elect_leaders() == {}, "asked for all, those that need none are left out"
        outcomes = await admin.elect_leaders("unclean", [ORDERS])
        assert code_of(outcomes[ORDERS]) is ErrorCode.election_not_needed
        with pytest.raises(ValueError, match="preferred"):
            await admin.elect_leaders("any")  # type: ignore[arg-type]


@pytest.mark.simulation(nodes=5)
async def test_a_broker_that_is_unregistered_is_forgotten_and_may_come_again(simulated_cluster: SimulatedCluster):
    cluster = simulated_cluster
    await cluster.create_topic("orders")
    gone = next(node for node in cluster.nodes if node not in (*state(cluster).replicas, cluster.controller()))
    async with cluster.admin() as admin:
        await cluster.stop(gone)
        await admin.unregister_broker(gone)
        with pytest.raises(BrokerResponseError) as unknown:
            await admin.unregister_broker(gone)
        assert code_of(unknown.value) is ErrorCode.broker_id_not_registered
        with pytest.raises(BrokerResponseError) as refused:
            await admin.alter_partition_reassignments({ORDERS: (gone,)})
        assert code_of(refused.value) is ErrorCode.invalid_replica_assignment
        cluster.start(gone)
        await cluster.nodes[gone].ready()
        await admin.alter_partition_reassignments({ORDERS: (gone,)})
        await cluster.until(lambda: state(cluster).replicas == (gone,), "it has all of it", within=20)


async def filled(cluster: SimulatedCluster, topic: str, size: int) -> None:
    """A topic of one partition with so many bytes in batches of 10 kB."""
    await cluster.create_topic(topic)
    async with cluster.producer(linger_ms=0) as producer:
        for _ in range(size // 10_000):
            await producer.send_and_wait(topic, bytes(10_000))


async def throttled(cluster: SimulatedCluster, kind: str, rate: int | None) -> float:
    """Seconds that 100 kB need to move, while somebody writes to a topic that is not throttled."""
    await filled(cluster, "orders", 100_000)
    await cluster.create_topic("quick")
    new = next(node for node in cluster.nodes if node not in state(cluster).replicas)
    async with cluster.admin() as admin, cluster.producer(linger_ms=0) as producer:
        if rate is not None:
            await admin.incremental_alter_configs(
                {
                    ConfigResource("topic", "orders"): {f"{kind}.replication.throttled.replicas": "*"},
                    ConfigResource("broker", ""): {f"{kind}.replication.throttled.rate": str(rate)},
                }
            )
        began = cluster.world.loop.time()
        await admin.alter_partition_reassignments({ORDERS: (*state(cluster).replicas[:2], new)})
        while state(cluster).reassigning:
            sent = cluster.world.loop.time()
            await producer.send_and_wait("quick", b"x")
            assert cluster.world.loop.time() - sent < 0.5, "what is not throttled does not wait"
            await cluster.advance(0.1)
        assert new in state(cluster).replicas
        return cluster.world.loop.time() - began


@pytest.mark.simulation(nodes=4)
@pytest.mark.parametrize("kind", ["leader", "follower"])
async def test_replicas_are_copied_no_faster_than_the_throttle_lets_them(
    simulated_cluster: SimulatedCluster, kind: str
):
    """A second's worth may go at once, and a batch more at the end."""
    assert 7.0 < await throttled(simulated_cluster, kind, 10_000) < 13.0


@pytest.mark.simulation(nodes=4)
async def test_without_a_throttle_they_are_copied_at_once(simulated_cluster: SimulatedCluster):
    assert await throttled(simulated_cluster, "leader", None) < 1.0


@pytest.mark.simulation(nodes=4)
async def test_a_throttle_that_stops_everything_can_be_taken_away(simulated_cluster: SimulatedCluster):
    cluster = simulated_cluster
    await filled(cluster, "orders", 50_000)
    new = next(node for node in cluster.nodes if node not in state(cluster).replicas)
    topic, broker = ConfigResource("topic", "orders"), ConfigResource("broker", "")
    async with cluster.admin() as admin:
        await admin.incremental_alter_configs(
            {
                topic: {"follower.replication.throttled.replicas": f"0:{new}"},
                broker: {"follower.replication.throttled.rate": "0"},
            }
        )
        await admin.alter_partition_reassignments({ORDERS: (*state(cluster).replicas[:2], new)})
        await cluster.advance(20)
        assert state(cluster).reassigning
        await admin.incremental_alter_configs({broker: {"follower.replication.throttled.rate": None}})
        await cluster.until(lambda: not state(cluster).reassigning, "it goes on", within=3)
        for wrong in ("1", "1:2:3", "*,1:2", "a:b", "1:-2"):
            with pytest.raises(BrokerResponseError, match="literal"):
                await admin.incremental_alter_configs({topic: {"leader.replication.throttled.replicas": wrong}})


@pytest.mark.simulation(nodes=3)
async def test_a_broker_may_die_while_a_controller_that_it_is_introduced_to_still_reads_its_disk(
    simulated_cluster: SimulatedCluster,
):
    cluster = simulated_cluster
    broker = cluster.add_broker()
    await cluster.nodes[broker].ready()
    slow = cluster.nodes[cluster.kill(next(node for node in (1, 2, 3) if node != cluster.controller()))]
    slow.machine.disk_delay = (3.0, 3.0)
    slow.start()

    def met() -> bool:
        quorum = None if slow.node is None else slow.node.quorum
        return quorum is not None and broker in {*quorum.addresses} and not quorum.started

    await cluster.until(met, "it listens, and has not read its log")
    cluster.kill(broker)
    await cluster.advance(2)
    slow.machine.disk_delay = (0.0, 0.001)
    cluster.start(broker)
    await slow.ready()
    await cluster.nodes[broker].ready()
    assert cluster.world.complaints == []
