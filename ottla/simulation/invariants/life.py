"""One life of a node as the invariants see it: what it showed at the last look."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING, cast

from ottla.controller import MetadataImage, MetadataView
from ottla.simulation.invariants.partitions import Replica
from ottla.simulation.invariants.raft import RaftLife
from ottla.simulation.node import SimulatedNode

if TYPE_CHECKING:
    from ottla.broker import ReplicaManager
    from ottla.simulation.invariants import Invariants


class Life:
    """Made for each process of a node; `look` is called after each of its callbacks."""

    def __init__(self, invariants: Invariants, node: SimulatedNode) -> None:
        self._invariants = invariants
        self._node = node
        self._name = node.id
        self._raft: RaftLife | None = None
        self._view: MetadataView
        self._image: MetadataImage | None = None
        self._manager: ReplicaManager | None = None
        self._held: Sized = ()
        self._count = -1  # so that the first look meets them
        self._replicas: list[Replica] = []

    def look(self) -> None:
        """Compare what is cheap to compare, and look closely at what has moved. Raises Anomaly.

        On the path of every callback: plain attributes, compared one by one.
        """
        raft = self._raft
        if raft is None:
            raft = self._begin()
            if raft is None:
                return
        core = raft.core
        if (
            core.commit != raft.commit
            or core.term != raft.term
            or core.role is not raft.role
            or core.vote != raft.vote
            or core.snapshot is not raft.snapshot
            or core.log.voters is not raft.voters
            or len(raft.entries) < raft.floor
        ):
            raft.look()
        if self._view._image is not self._image:
            self._image = self._view.image
            self._invariants.metadata.seen(self._name, self._image)
            self._issued()
        if len(self._held) != self._count:
            self._meet()
        for replica in self._replicas:
            role, log = replica.partition.role, replica.log
            if (
                role is not replica.role
                or role.high_watermark != replica.high_watermark
                or log.log_end_offset < replica.end
            ):
                if replica.partition.retired:
                    self._meet()
                    return
                replica.look()

    def _issued(self) -> None:
        """Blocks of producer ids come with the metadata that takes them off the store."""
        running = self._node.node
        broker = None if running is None or running.broker is None else running.broker._broker
        if broker is not None and broker.context.producer_ids._end:
            self._invariants.metadata.issued(self._name, self._node.lives, broker.context.producer_ids._end)

    def _begin(self) -> RaftLife | None:
        running = self._node.node
        if running is None or running.quorum is None or not running.quorum.started or not self._node.alive:
            return None
        self._view = running.quorum.view
        self._raft = self._invariants.raft.begins(self._name, running.quorum.driver)
        return self._raft

    def _meet(self) -> None:
        """Take note of the replicas that are here."""
        if self._manager is None:
            running = self._node.node
            if running is None or running.broker is None or running.broker.replicas is None:
                return
            self._manager = running.broker.replicas
            self._held = cast(Sized, self._manager.partitions())
        known = {id(replica.partition): replica for replica in self._replicas}
        self._replicas = []
        for partition in self._manager.partitions():
            if partition.log is None:
                continue
            replica = known.get(id(partition))
            if replica is None:
                truth = self._invariants.truth_of(partition.topic, partition.topic_id, partition.index)
                replica = Replica(truth, self._name, self._node.disk, partition, partition.log)
                replica.look()
            self._replicas.append(replica)
        self._count = len(self._held)
