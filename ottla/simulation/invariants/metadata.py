"""What the metadata promises: one history for all nodes, in which epochs only grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import UUID

from ottla.controller import MetadataImage, PartitionImage
from ottla.simulation.errors import Anomaly

_KEPT = 512
_UNCLEAN = "unclean.leader.election.enable"


class MetadataTruth:
    """The images that nodes had, by offset, the latest few; `latest` is the one with the highest offset.

    `settings` are those of every node, by Kafka's names. `joined(topic id, partition, node)` is called when a node was
    put into an ISR, `dropped` when it is no replica any more.
    """

    def __init__(
        self,
        settings: Mapping[str, str],
        joined: Callable[[UUID, int, int], None],
        dropped: Callable[[UUID, int, int], None],
    ) -> None:
        self._settings = settings
        self._joined = joined
        self._dropped = dropped
        self._blocks: dict[int, tuple[int, int]] = {}  # end -> (node, life)
        self.latest = MetadataImage(cluster_id="")
        self._gone: set[int] = set()
        self._images: dict[int, tuple[int, MetadataImage]] = {}

    def topic_id(self, topic: str) -> UUID | None:
        found = self.latest.topics.get(topic)
        return None if found is None else found.id

    def permits_loss(self, topic: str) -> bool:
        """Whether somebody who lacks records may be made a leader of this topic."""
        configs = self.latest.configs
        for values in (configs.get(("topic", topic), {}), configs.get(("broker", ""), {}), self._settings):
            if _UNCLEAN in values:
                return values[_UNCLEAN] == "true"
        return False

    def seen(self, node: int, image: MetadataImage) -> None:
        """A node has this image now. Raises Anomaly."""
        known = self._images.get(image.offset)
        if known is not None:
            if known[1] is not image and known[1] != image:
                raise Anomaly(f"nodes {known[0]} and {node} have different metadata at offset {image.offset}")
            return
        self._images[image.offset] = (node, image)
        if len(self._images) > _KEPT:
            del self._images[next(iter(self._images))]
        if image.offset > self.latest.offset:
            self._follows(node, self.latest, image)
            self.latest = image

    def issued(self, node: int, life: int, end: int) -> None:
        """A broker hands out a block of producer ids, which ends before `end`; no other ever may. Raises Anomaly."""
        other = self._blocks.setdefault(end, (node, life))
        if other != (node, life):
            raise Anomaly(f"the producer ids up to {end} of node {node} were given to node {other[0]} before")

    def leaves(self, node: int) -> None:
        """This node has left the cluster for good. Raises Anomaly when a partition has it for a replica."""
        self._gone.add(node)
        for topic, index, state in self.latest.all_partitions():
            self._has_nobody_gone(f"metadata at offset {self.latest.offset}: {topic.name}-{index}", state)

    def _has_nobody_gone(self, where: str, state: PartitionImage) -> None:
        if not self._gone.isdisjoint(state.replicas):
            raise Anomaly(f"{where}: of the replicas {state.replicas} {self._gone & {*state.replicas}} have left")

    def _follows(self, node: int, old: MetadataImage, new: MetadataImage) -> None:
        where = f"metadata of node {node} at offset {new.offset}"
        if new.next_producer_id < old.next_producer_id:
            raise Anomaly(f"{where}: producer ids went back from {old.next_producer_id} to {new.next_producer_id}")
        if new.brokers is not old.brokers:
            for broker in old.brokers.values():
                now = new.brokers.get(broker.id)
                if now is None or now is broker:
                    continue
                if now.epoch < broker.epoch or (now.epoch == broker.epoch and now.incarnation != broker.incarnation):
                    raise Anomaly(
                        f"{where}: the epoch of broker {broker.id} is {now.epoch} in a new life, it was {broker.epoch}"
                    )
        for name, topic in new.topics.items():
            before = old.topics.get(name)
            if before is topic:
                continue
            for index, state in topic.partitions.items():
                was = None if before is None or before.id != topic.id else before.partitions.get(index)
                if was is not state:
                    self._partition(f"{where}: {name}-{index}", was, state)
                    for member in () if was is None else set(was.replicas).difference(state.replicas):
                        self._dropped(topic.id, index, member)
                    if was is not None and (was.leader_epoch == state.leader_epoch or was.reassigning):
                        for member in set(state.isr).difference(was.isr):
                            self._joined(topic.id, index, member)

    def _partition(self, where: str, was: PartitionImage | None, now: PartitionImage) -> None:
        without = not now.isr and now.last_known_leader not in now.replicas
        if without or not set(now.isr) <= set(now.replicas) or set(now.elr) & set(now.isr):
            raise Anomaly(f"{where}: ISR {now.isr}, ELR {now.elr} of replicas {now.replicas}")
        if now.leader >= 0 and now.leader not in now.isr:
            raise Anomaly(f"{where}: leader {now.leader} is not in the ISR {now.isr}")
        if self._gone:
            self._has_nobody_gone(where, now)
        if was is None or was == now:
            return
        if now.partition_epoch <= was.partition_epoch or now.leader_epoch < was.leader_epoch:
            raise Anomaly(
                f"{where}: (leader epoch, partition epoch) went from {was.leader_epoch, was.partition_epoch} "
                f"to {now.leader_epoch, now.partition_epoch}"
            )
        # A node can take in several changes at once; what led to the last of them is not seen then.
        once = now.partition_epoch == was.partition_epoch + 1
        dropped = set(was.replicas).difference(now.replicas)
        if once and dropped and not set(now.replicas) <= set(now.isr) and set(now.replicas) != set(was.original):
            given_up = set(was.adding).difference(was.isr, was.elr)
            if not dropped <= given_up:
                raise Anomaly(f"{where}: replicas {dropped} were dropped while the ISR is {now.isr} of {now.replicas}")
        ended = once and was.reassigning and not now.reassigning
        # If others are asked for meanwhile, those are all there already (or were all there before), or it goes on.
        there = now.replicas == was.target or {*now.replicas} == {*was.original} or {*now.replicas} <= {*was.isr}
        if ended and not there:
            raise Anomaly(f"{where}: a move from {was.original} to {was.target} has ended with {now.replicas}")
        if now.leader != was.leader and now.leader_epoch == was.leader_epoch:
            raise Anomaly(f"{where}: from leader {was.leader} to {now.leader} in one epoch, {now.leader_epoch}")
