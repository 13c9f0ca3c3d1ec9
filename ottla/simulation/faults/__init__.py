"""The faults that a simulation knows, as a table; each module has one group. A row is all that a new kind needs."""

from collections.abc import Iterable

from ottla.simulation.faults import clocks, disks, links, members, nodes, voters
from ottla.simulation.faults.kind import Kind, Loses, Scene, Undo, nothing
from ottla.simulation.faults.schedule import Fault, draw, swarm

__all__ = [
    "FAULTS",
    "GROUPS",
    "Fault",
    "Kind",
    "Loses",
    "Scene",
    "Undo",
    "draw",
    "kinds_for",
    "moves_replicas",
    "needs_sync",
    "nothing",
    "swarm",
]

GROUPS: dict[str, dict[str, Kind]] = {
    "nodes": nodes.KINDS,
    "network": links.KINDS,
    "disks": disks.KINDS,
    "clocks": clocks.KINDS,
    "members": members.KINDS | voters.KINDS,
}
FAULTS: dict[str, Kind] = {name: kind for group in GROUPS.values() for name, kind in group.items()}


def kinds_for(nodes: int) -> list[str]:
    """Names of the usual kinds that make sense in a cluster of so many nodes."""
    return [name for name, kind in FAULTS.items() if kind.usual and kind.nodes <= nodes]


def needs_sync(kinds: Iterable[str]) -> bool:
    """Whether only a cluster with flush = synced can take these faults without loss: power fails on any number of
    nodes at once. A kill beside it loses nothing, as a process knows by the boot id that its page cache is still
    there."""
    return any(FAULTS[name].loses is Loses.CACHES for name in kinds)


def moves_replicas(kinds: Iterable[str]) -> bool:
    """Whether replicas are moved by one of these faults."""
    return any(name in members.KINDS for name in kinds)
