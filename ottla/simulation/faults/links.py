"""Faults of the network between nodes, and between nodes and clients."""

from __future__ import annotations

from ottla.simulation.faults.kind import Kind, Scene, Undo, nothing


def _partition(scene: Scene) -> Undo | None:
    scene.cluster.partition(*scene.sides())
    return scene.cluster.heal


def _isolate(scene: Scene) -> Undo | None:
    scene.cluster.isolate(scene.victim(), clients=True)
    return scene.cluster.heal


def _one_way(scene: Scene) -> Undo | None:
    one, others = scene.sides()
    if scene.rng.random() < 0.5:
        one, others = others, one
    if scene.rng.random() < 0.5:
        others = [scene.rng.choice(others)]
    scene.cluster.cut(one, others)
    return scene.cluster.heal


def _reset(scene: Scene) -> Undo | None:
    (one,), others = scene.sides()
    scene.cluster.reset(one, scene.rng.choice(others))
    return nothing


def _slow_links(scene: Scene) -> Undo | None:
    links = scene.rng.sample(scene.cluster.world.network.links(scene.machines(), scene.machines()), 2)
    for link in links:
        link.latency, link.loss = (0.001, scene.rng.choice((0.01, 0.1, 0.5))), scene.rng.choice((0.0, 0.2))

    def undo() -> None:
        for link in links:
            link.recover()

    return undo


KINDS: dict[str, Kind] = {
    "partition": Kind(_partition, "one node is cut off from all other nodes; clients reach everybody", nodes=2),
    "isolate": Kind(_isolate, "one node is cut off from all other nodes and from the clients", nodes=2),
    "one way": Kind(_one_way, "links carry in one direction only", nodes=2),
    "reset": Kind(_reset, "every connection between two nodes breaks, and both ends hear of it", nodes=2),
    "slow links": Kind(_slow_links, "two directions of links take up to 10, 100 or 500 ms, and may lose", nodes=2),
}
