"""Who decides on the metadata changes while all else goes wrong: nodes become voters, and cease to be voters.

A change is made by AddRaftVoter and RemoveRaftVoter of a real admin client, asked for again until the answer is known.
What Raft does not promise to get over is not done (see `Electorate`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from ottla.client import Admin, BrokerResponseError, KafkaError
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.errors import SimulationError
from ottla.simulation.faults.disks import fragile
from ottla.simulation.faults.kind import Kind, Loses, Scene, Undo
from ottla.simulation.faults.operators import PATIENCE_S, POLL_S, admin_of, has_room, in_the_background
from ottla.simulation.node import CONTROLLER_PORT

_DONE = ("duplicate_voter", "voter_not_found")
# Whether it is done then, or may be done yet, is not known.
_UNKNOWN = "request_timed_out"


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
    """Until it is known to be done."""
    while cluster.electorate.survives() and node_id not in cluster.electorate.leaving:
        cluster.electorate.adding[node_id] += 1
        try:
            await admin.add_raft_voter(node_id, cluster.nodes[node_id].machine.address, CONTROLLER_PORT)
        except BrokerResponseError as error:
            if error.code.name in _DONE:
                break
            if error.code.name != _UNKNOWN:
                cluster.electorate.adding[node_id] -= 1
        except KafkaError:
            pass
        else:
            break
        await asyncio.sleep(POLL_S)
    else:
        return
    cluster.electorate.adding[node_id] = 0


async def ask_to_remove(cluster: SimulatedCluster, admin: Admin, node_id: int) -> None:
    """Until it is known to be done. Raises SimulationError when meanwhile too few voters would be left."""
    removing = cluster.electorate.removing
    while cluster.electorate.survives(removed=node_id):
        removing[node_id] += 1
        try:
            await admin.remove_raft_voter(node_id)
        except BrokerResponseError as error:
            if error.code.name in _DONE:
                break
            if error.code.name != _UNKNOWN:
                removing[node_id] -= 1
        except KafkaError:
            pass
        else:
            break
        await asyncio.sleep(POLL_S)
    else:
        raise SimulationError(f"without voter {node_id} too few would be left")
    removing[node_id] = 0


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
