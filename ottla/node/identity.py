"""Whose data a directory holds: it is locked, and ``meta.properties`` checked (or made), before anything is touched."""

from __future__ import annotations

import random
from uuid import UUID

from ottla.log import LOCK_FILE, CorruptFile, Disk, DiskLocked, Lock, MetaProperties, encode_uuid
from ottla.node.errors import NodeError


def lock_directory(disk: Disk, directory: str) -> Lock:
    """Keep every other process out of the directory until the lock is released or this process ends.

    Raises:
        NodeError: another process has it. DiskError: the directory cannot be made.
    """
    disk.mkdir(directory)
    try:
        return disk.lock(f"{directory}/{LOCK_FILE}")
    except DiskLocked as error:
        raise NodeError(f"{directory} is in use by another process") from error


def claim_directory(disk: Disk, directory: str, *, cluster_id: str, node_id: int, rng: random.Random) -> MetaProperties:
    """The directory's own id, after checking that it belongs to this node of this cluster.

    So two clusters cannot mix, and a directory cannot be started under another node's id.

    Raises:
        NodeError: the directory belongs to another cluster or node, or its ``meta.properties`` cannot be read.
    """
    try:
        found = MetaProperties.read(disk, directory)
    except CorruptFile as error:
        raise NodeError(f"{directory}: {error}") from error
    if found is None:
        found = MetaProperties(cluster_id, node_id, encode_uuid(UUID(int=rng.getrandbits(128), version=4)))
        found.write(disk, directory)
    if found.cluster_id != cluster_id:
        raise NodeError(f"{directory} belongs to cluster {found.cluster_id}, this node is of cluster {cluster_id}")
    if found.node_id != node_id:
        raise NodeError(f"{directory} belongs to node {found.node_id}, this is node {node_id}")
    return found
