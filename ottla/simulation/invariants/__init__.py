"""What must hold after every event, seen by somebody who looks into all nodes: of Raft, of the metadata, of replicas.

A look is cheap as long as nothing has moved (a few comparisons per callback of a node); the work is done on change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from ottla.simulation.errors import Anomaly
from ottla.simulation.invariants.life import Life
from ottla.simulation.invariants.metadata import MetadataTruth
from ottla.simulation.invariants.partitions import PartitionTruth
from ottla.simulation.invariants.raft import RaftTruth
from ottla.simulation.process import Process

if TYPE_CHECKING:
    from ottla.simulation.cluster import SimulatedCluster

__all__ = ["Invariants"]


class Invariants:
    """Watches a cluster from `watch` to `leave`; what is broken raises Anomaly out of the running loop.

    Raft: one leader per term, and it has every committed entry; terms, votes and commit indexes never go back; equal
    committed entries, on the disks of a majority; voters change by one at a time, once the change before and an entry
    of the leader's term are committed, and who is added remembers. Metadata: equal images at equal offsets; epochs of
    brokers, partitions and leaders and producer ids never go back; a reassignment ends with the replicas that were
    asked for, or those before. Partitions: one leader per epoch, and it has every record
    that was ever below a high watermark; high watermarks never go back; replicas are equal below them; nothing is
    committed that fewer than min.insync.replicas or not all of the ISR hold, or twice; last stable offsets never go
    back, and stand where open transactions and markers that are not committed put them; what a committed marker has
    aborted is in the index of each replica, and nothing else is. A compacted log has nothing but what was committed,
    and loses nothing of it before that. A node that has left has no replica, and no vote.
    """

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._found: Anomaly | None = None
        self.raft = RaftTruth()
        self.metadata = MetadataTruth(next(iter(cluster.nodes.values())).settings, self._joined, self._dropped)
        self.partitions: dict[tuple[UUID, int], PartitionTruth] = {}

    def watch(self) -> None:
        """Look after every callback from now on. One at a time may."""
        self._cluster.world.loop.watch = self._look_at

    def leave(self) -> None:
        self._cluster.world.loop.watch = None

    def _look_at(self, process: Process) -> Callable[[], None] | None:
        for node in self._cluster.nodes.values():
            if node.process is process:
                return Life(self, node).look
        return None

    def truth_of(self, topic: str, topic_id: UUID, partition: int) -> PartitionTruth:
        """What is committed of a partition."""
        found = self.partitions.get((topic_id, partition))
        if found is None:
            found = PartitionTruth(topic, partition, self.metadata)
            self.partitions[topic_id, partition] = found
        return found

    def committed(self, topic: str, partition: int) -> int:
        """Up to which offset; 0 if there is no such topic yet."""
        topic_id = self.metadata.topic_id(topic)
        return 0 if topic_id is None else self.truth_of(topic, topic_id, partition).end

    def left(self, node: int) -> None:
        """It is none of the cluster any more, and never comes back. Raises Anomaly when it still has a part in it."""
        self.metadata.leaves(node)
        self.raft.leaves(node)

    def _joined(self, topic_id: UUID, partition: int, node: int) -> None:
        truth = self.partitions.get((topic_id, partition))
        if truth is not None:
            truth.joined(node)

    def _dropped(self, topic_id: UUID, partition: int, node: int) -> None:
        """Should it become a replica again, it begins with nothing, and owes nothing of what it had."""
        truth = self.partitions.get((topic_id, partition))
        if truth is not None:
            truth.replicas.pop(node, None)

    def acknowledged(self, topic: str, partition: int, offset: int, how: str = "acknowledged") -> None:
        """A client was told that its record is at `offset`, and that it is safe (acks=all), or has read it there.

        Raises Anomaly, in the client and, should that go on, out of the loop.
        """
        topic_id = self.metadata.topic_id(topic)
        if topic_id is None:
            return
        try:
            self.truth_of(topic, topic_id, partition).acknowledged(offset, how)
        except Anomaly as anomaly:
            self._found = anomaly
            if self._cluster.world.loop.watch == self._look_at:
                self._cluster.world.loop.watch = lambda _process: self._raise
            raise

    def _raise(self) -> None:
        assert self._found is not None
        raise self._found

    def permit_loss(self, topic: str, partition: int) -> None:
        """From now on anything may be lost here: an unclean election was asked for."""
        topic_id = self.metadata.topic_id(topic)
        if topic_id is not None:
            self.truth_of(topic, topic_id, partition).loose = True
