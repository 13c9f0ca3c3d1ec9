"""Who decides on the metadata changes while all else goes wrong: nodes become voters, and cease to be voters.

A change is made by AddRaftVoter and RemoveRaftVoter of a real admin client, asked for again until the answer is known.
What Raft does not promise to get over is not done (see `Electorate`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

from ottla.client import Admin, BrokerResponseError, KafkaError
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.errors import SimulationError
from ottla.simulation.faults.disks import fragile
from ottla.simulation.faults.kind import Kind, Loses, Scene, Undo
from ottla.simulation.faults.operators import PATIENCE_S, POLL_S, admin_of, has_room, in_the_background
from ottla.simulation.node import CONTROLLER_PORT


def _new_voter(scene: Scene) -> Undo | None:
    """A node that only follows is made a voter: one that was a voter once, or was added to become one."""
    cluster, electorate = scene.cluster, scene.cluster.electorate
    candidates = [
        node.id
        for node in cluster.nodes.values()
        if "controller" in node.settings["process.roles"]
        and node.id not in electorate.committed
        and node.id not in electorate.leaving
    ]
    if has_room(cluster) and (not candidates or scene.rng.random() < 0.5):
        candidates = [cluster.add_broker(controller=True)]
    if not candidates or not electorate.survives():
        return None
    node_id = scene.rng.choice(candidates)
    return _work(scene, _join(cluster, node_id), f"make {node_id} a voter")


async def _join(cluster: SimulatedCluster, node_id: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await cluster.nodes[node_id].ready()
    async with admin_of(cluster) as admin:
        await ask_to_add(cluster, admin, node_id)


def _voter_leaves(scene: Scene) -> Undo | None:
    """It goes on as a learner."""
    cluster, electorate = scene.cluster, scene.cluster.electorate
    victim = _voter(scene)
    # Small quorums are rare: what is down for a moment is all too often half of them.
    fewest = scene.rng.choice((1, 2, 3, 3, 3))
    if victim is None or len(electorate.committed) <= fewest or not electorate.survives(removed=victim):
        return None
    return _work(scene, _leave(cluster, victim), f"remove voter {victim}")


async def _leave(cluster: SimulatedCluster, node_id: int) -> None:
    async with admin_of(cluster) as admin:
        await ask_to_remove(cluster, admin, node_id)


def _replaced(scene: Scene) -> Undo | None:
    """A voter's disk is lost: it is removed, comes back with an empty one, and is made a voter again."""
    cluster, electorate = scene.cluster, scene.cluster.electorate
    node = fragile(scene)
    if node is None or node.id not in electorate.committed or not electorate.survives(removed=node.id):
        return None
    cluster.wipe(node.id)
    late = scene.rng.random() < 0.5

    async def replace() -> None:
        if not late:
            node.start()
        await _leave(cluster, node.id)
        scene.revive(node.id)
        await _join(cluster, node.id)

    work = _work(scene, replace(), f"replace voter {node.id}")

    def undo() -> None:
        work()
        scene.revive(node.id)

    return undo


def _voter(scene: Scene) -> int | None:
    """One of them, and often the leader."""
    voters = sorted(scene.cluster.electorate.committed.intersection(scene.cluster.nodes))
    try:
        leader = scene.cluster.controller()
    except SimulationError:
        leader = None
    if leader in voters and scene.rng.random() < 0.4:
        return leader
    return scene.rng.choice(voters) if voters else None


def _work(scene: Scene, change: Coroutine[Any, Any, None], what: str) -> Undo:
    scene.cluster.world.trace.note("nemesis", what)
    task = in_the_background(scene.cluster, change, what)

    def undo() -> None:
        task.cancel()

    return undo


async def ask_to_add(cluster: SimulatedCluster, admin: Admin, node_id: int) -> None:
    """Until it is known to be done, or would be a mistake by now."""
    while cluster.electorate.survives() and node_id not in cluster.electorate.leaving:
        answered = cluster.electorate.asked_to_add(node_id)
        address = cluster.nodes[node_id].machine.address
        if await _is_done(admin.add_raft_voter(node_id, address, CONTROLLER_PORT)):
            answered()
            return


async def ask_to_remove(cluster: SimulatedCluster, admin: Admin, node_id: int) -> None:
    """Until it is known to be done. Raises SimulationError when too few voters would be left by now."""
    while cluster.electorate.survives(removed=node_id):
        cluster.electorate.asked_to_remove(node_id)
        if await _is_done(admin.remove_raft_voter(node_id)):
            return
    raise SimulationError(f"without voter {node_id} too few would be left")


async def _is_done(request: Awaitable[None]) -> bool:
    """Whether it is known to be; otherwise some time has passed."""
    try:
        await request
    except BrokerResponseError as error:
        if error.code.name in ("duplicate_voter", "voter_not_found"):
            return True
    except KafkaError:
        pass
    else:
        return True
    await asyncio.sleep(POLL_S)
    return False


KINDS: dict[str, Kind] = {
    "new voter": Kind(
        _new_voter, "a node that follows the metadata log, perhaps a new one, is made a voter of it", nodes=2
    ),
    "voter leaves": Kind(_voter_leaves, "a voter is removed, often the leader, and goes on as a learner", nodes=2),
    "voter replaced": Kind(
        _replaced,
        "a voter's disk is lost while all others are well; it is removed, and added again with an empty one",
        Loses.ONE_CACHE,
        nodes=3,
    ),
}
