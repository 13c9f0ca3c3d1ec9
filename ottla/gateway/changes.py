"""Counts what happens to partitions, from the committed metadata: nothing is counted where records pass."""

from ottla.controller import Delta, MetadataImage, PartitionImage


class MetadataChanges:
    """Pass `see` to `MetadataView.subscribe`.

    Every change is counted on one node only, so that sums over the nodes are right: changes of an ISR by the
    partition's leader, elections by the node that was elected. Counting begins with the image given here.
    """

    def __init__(self, node_id: int, image: MetadataImage) -> None:
        self._node_id = node_id
        self._before = image
        self.isr_shrinks = 0
        self.isr_expands = 0
        self.elections = 0
        self.unclean_elections = 0

    def see(self, image: MetadataImage, delta: Delta) -> None:
        before, self._before = self._before, image
        for topic, index in delta.partitions:
            old, new = before.partition(topic, index), image.partition(topic, index)
            if old is not None and new is not None and before.topics[topic].id == image.topics[topic].id:
                self._compare(old, new)

    def _compare(self, old: PartitionImage, new: PartitionImage) -> None:
        if new.leader == self._node_id and new.leader_epoch != old.leader_epoch and new.leader != old.leader:
            self.elections += 1
            self.unclean_elections += new.leader not in (*old.isr, *old.elr)
        counted_by = old.leader if old.leader >= 0 else new.leader
        if counted_by == self._node_id:
            self.isr_shrinks += not set(old.isr) <= set(new.isr)
            self.isr_expands += not set(new.isr) <= set(old.isr)
