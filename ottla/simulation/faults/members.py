"""What operators do while all else goes wrong: replicas are moved, leaders elected, brokers added and removed."""

from __future__ import annotations

import asyncio

from ottla.client import Admin, TopicPartition
from ottla.controller import Site, plan_evacuation
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.faults.kind import Kind, Scene, Undo, nothing
from ottla.simulation.faults.operators import PATIENCE_S, POLL_S, added, admin_of, has_room, in_the_background
from ottla.simulation.faults.voters import ask_to_remove


def _reassign(scene: Scene) -> Undo | None:
    """To two replicas or more, since one would be only as safe as its node."""
    cluster, rng = scene.cluster, scene.rng
    where = TopicPartition(scene.topic, rng.randrange(scene.partitions))
    others = [topic for name, topic in cluster.invariants.metadata.latest.topics.items() if name != scene.topic]
    if others and rng.random() < 0.4:
        # Where groups and transactions have their coordinators.
        topic = rng.choice(others)
        where = TopicPartition(topic.name, rng.randrange(len(topic.partitions)))
    brokers = list(cluster.nodes)
    target = rng.sample(brokers, min(len(brokers), rng.choice((2, 3, 3, 4))))
    cluster.world.trace.note("nemesis", "reassign", partition=str(where), replicas=target)
    in_the_background(cluster, _ask_to_reassign(cluster, where, target), "reassign")
    if rng.random() < 0.7:
        return nothing

    def undo() -> None:
        in_the_background(cluster, _ask_to_reassign(cluster, where, None), "cancel")

    return undo


async def _ask_to_reassign(cluster: SimulatedCluster, where: TopicPartition, target: list[int] | None) -> None:
    async with admin_of(cluster) as admin:
        await admin.try_alter_partition_reassignments({where: target})


def _elect(scene: Scene) -> Undo | None:
    """Only preferred leaders: an unclean election permits loss."""
    where = TopicPartition(scene.topic, scene.rng.randrange(scene.partitions))
    wanted = None if scene.rng.random() < 0.5 else [where]

    async def ask() -> None:
        async with admin_of(scene.cluster) as admin:
            await admin.elect_leaders("preferred", wanted)

    in_the_background(scene.cluster, ask(), "elect")
    return nothing


def _new_broker(scene: Scene) -> Undo | None:
    """And a partition moves to it, if it is up in time."""
    cluster, rng = scene.cluster, scene.rng
    if not has_room(cluster):
        return None
    node_id = cluster.add_broker()
    where = TopicPartition(scene.topic, rng.randrange(scene.partitions))
    others = scene.others(node_id)
    others = rng.sample(others, min(2, len(others)))

    async def move() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await cluster.nodes[node_id].ready()
        await _ask_to_reassign(cluster, where, [node_id, *others])

    in_the_background(cluster, move(), "fill")
    return nothing


def _broker_leaves(scene: Scene) -> Undo | None:
    """One that was added: it ceases to vote, its replicas move to others, it stops, and is unregistered. If that does
    not come to its end in time, it stays."""
    cluster, electorate = scene.cluster, scene.cluster.electorate
    candidates = [node for node in added(cluster) if node not in electorate.leaving and not electorate.adding[node]]
    if not candidates:
        return None
    node_id = scene.rng.choice(candidates)
    if not electorate.is_out(node_id) and not electorate.survives(removed=node_id):
        return None
    electorate.leaving.add(node_id)
    leaving = in_the_background(cluster, _leave(cluster, node_id), "leave")

    def undo() -> None:
        leaving.cancel()
        electorate.leaving.discard(node_id)
        scene.revive(node_id)

    return undo


async def _leave(cluster: SimulatedCluster, node_id: int) -> None:
    electorate = cluster.electorate
    async with admin_of(cluster) as admin:
        if not electorate.is_out(node_id):
            await ask_to_remove(cluster, admin, node_id)
        await _drain(cluster, admin, node_id)
        await cluster.nodes[node_id].stop()
        await admin.unregister_broker(node_id)
        # Somebody may have given it something meanwhile; from now on nobody can.
        await _drain(cluster, admin, node_id)
    # Whoever had it told to stop may have started it again.
    if node_id in cluster.nodes and not cluster.nodes[node_id].alive and electorate.is_out(node_id):
        cluster.world.trace.note("nemesis", "has left", node=node_id)
        cluster.forget(node_id)


async def _drain(cluster: SimulatedCluster, admin: Admin, node_id: int) -> None:
    """Until the newest metadata have it nowhere: a broker that is behind could not tell."""
    while True:
        image = cluster.invariants.metadata.latest
        held = {
            (topic.name, index): state.target
            for topic, index, state in image.all_partitions()
            if node_id in state.replicas
        }
        if not held:
            return
        sites = [Site(broker) for broker in image.brokers]
        plan = plan_evacuation(sites, held, {node_id}, held)
        wanted = {key: plan.get(key) or tuple(each for each in held[key] if each != node_id) for key in held}
        await admin.try_alter_partition_reassignments(
            {TopicPartition(*key): replicas for key, replicas in wanted.items()}
        )
        await asyncio.sleep(POLL_S)


KINDS: dict[str, Kind] = {
    "reassign": Kind(_reassign, "a partition is to have other replicas, and perhaps not after all", nodes=3),
    "elect": Kind(_elect, "preferred leaders are asked for"),
    "new broker": Kind(_new_broker, "a broker is added, and a partition moves to it", nodes=2),
    "broker leaves": Kind(
        _broker_leaves,
        "a broker that was added ceases to vote, gives its replicas to others, and is unregistered",
        nodes=2,
    ),
}
