"""What operators do while all else goes wrong: replicas are moved, leaders elected, brokers added and removed.

The requests are a real admin client's, so they may come late, or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from ottla.client import Admin, KafkaError, TopicPartition
from ottla.controller import Site, plan_evacuation
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.errors import SimulationError
from ottla.simulation.faults.kind import Kind, Scene, Undo, nothing

_PATIENCE_S = 5.0
_POLL_S = 0.3
_MOST_ADDED = 2
_VOTERS = "broker,controller"


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
    _in_the_background(cluster, _ask_to_reassign(cluster, where, target), "reassign")
    if rng.random() < 0.7:
        return nothing

    def undo() -> None:
        _in_the_background(cluster, _ask_to_reassign(cluster, where, None), "cancel")

    return undo


async def _ask_to_reassign(cluster: SimulatedCluster, where: TopicPartition, target: list[int] | None) -> None:
    async with _admin(cluster) as admin:
        await admin.try_alter_partition_reassignments({where: target})


def _elect(scene: Scene) -> Undo | None:
    """Only preferred leaders: an unclean election permits loss."""
    where = TopicPartition(scene.topic, scene.rng.randrange(scene.partitions))
    wanted = None if scene.rng.random() < 0.5 else [where]

    async def ask() -> None:
        async with _admin(scene.cluster) as admin:
            await admin.elect_leaders("preferred", wanted)

    _in_the_background(scene.cluster, ask(), "elect")
    return nothing


def _added(cluster: SimulatedCluster) -> list[int]:
    return [node.id for node in cluster.nodes.values() if node.settings["process.roles"] != _VOTERS]


def _new_broker(scene: Scene) -> Undo | None:
    """And a partition moves to it, if it is up in time."""
    cluster, rng = scene.cluster, scene.rng
    if len(_added(cluster)) >= _MOST_ADDED:
        return None
    node_id = cluster.add_broker()
    where = TopicPartition(scene.topic, rng.randrange(scene.partitions))
    others = rng.sample(scene.others(node_id), 2)

    async def move() -> None:
        async with asyncio.timeout(_PATIENCE_S):
            await cluster.nodes[node_id].ready()
        await _ask_to_reassign(cluster, where, [node_id, *others])

    _in_the_background(cluster, move(), "fill")
    return nothing


def _broker_leaves(scene: Scene) -> Undo | None:
    """One that was added: its replicas move to others, it stops, and is unregistered. If that does not come to its end
    in time, it stays."""
    cluster = scene.cluster
    added = _added(cluster)
    if not added:
        return None
    node_id = scene.rng.choice(added)
    leaving = _in_the_background(cluster, _leave(cluster, node_id), "leave")

    def undo() -> None:
        leaving.cancel()
        scene.revive(node_id)

    return undo


async def _leave(cluster: SimulatedCluster, node_id: int) -> None:
    async with _admin(cluster) as admin:
        await _drain(cluster, admin, node_id)
        await cluster.nodes[node_id].stop()
        await admin.unregister_broker(node_id)
        # Somebody may have given it something meanwhile; from now on nobody can.
        await _drain(cluster, admin, node_id)
    # Whoever had it told to stop may have started it again.
    if node_id in cluster.nodes and not cluster.nodes[node_id].alive:
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
        await asyncio.sleep(_POLL_S)


def _admin(cluster: SimulatedCluster) -> Admin:
    return cluster.admin(request_timeout_ms=_PATIENCE_S * 1000)


def _in_the_background(cluster: SimulatedCluster, work: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
    """An operator whose request fails gives up."""

    async def attempt() -> None:
        try:
            await work
        except (KafkaError, TimeoutError, SimulationError) as error:
            cluster.world.trace.note("nemesis", f"{what} failed", error=repr(error))

    return cluster.world.loop.create_task(attempt(), name=what)


KINDS: dict[str, Kind] = {
    "reassign": Kind(
        _reassign, "a partition is to have other replicas, and perhaps not after all", nodes=3, usual=False
    ),
    "elect": Kind(_elect, "preferred leaders are asked for", usual=False),
    "new broker": Kind(_new_broker, "a broker is added, and a partition moves to it", nodes=2, usual=False),
    "broker leaves": Kind(
        _broker_leaves,
        "a broker that was added gives its replicas to others, and is unregistered",
        nodes=2,
        usual=False,
    ),
}
