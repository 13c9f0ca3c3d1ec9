"""What the client knows about the cluster: a state machine without I/O.

Knowledge arrives from Metadata answers of any broker and from the hints in Produce and Fetch errors
(KIP-951), in any order. A leader is replaced only by one of a newer epoch, so that the late answer of a stale
broker cannot send the client back (KIP-320).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.client.structs import BrokerMetadata, PartitionMetadata, TopicMetadata, TopicPartition

ABSENT_ANSWERS = 5
"""So many answers in a row that a topic is unknown, and it is taken for deleted."""


class ClusterMetadata:
    """Brokers and topics, newest leader epoch wins."""

    def __init__(self) -> None:
        self.cluster_id: str | None = None
        self.controller_id: int = -1
        self.brokers: dict[int, BrokerMetadata] = {}
        self.topics: dict[str, TopicMetadata] = {}
        self.topic_names: dict[UUID, str] = {}
        self.version = 0
        """Grows with every change that a waiter could care about."""
        self._absent: dict[str, int] = {}

    def partition(self, tp: TopicPartition) -> PartitionMetadata | None:
        """The partition, or None if it is not known."""
        name, index = tp
        topic = self.topics.get(name)
        return topic.partitions.get(index) if topic is not None else None

    def leader(self, tp: TopicPartition) -> int | None:
        """The node id of the leader, None if there is none or its address is unknown."""
        partition = self.partition(tp)
        if partition is None or partition.leader not in self.brokers:
            return None
        return partition.leader

    def leader_epoch(self, tp: TopicPartition) -> int:
        """The newest known leader epoch, -1 if unknown."""
        partition = self.partition(tp)
        return -1 if partition is None else partition.leader_epoch

    def partitions_for(self, topic: str) -> frozenset[int]:
        """The numbers of a topic's partitions; empty if the topic is not known."""
        known = self.topics.get(topic)
        return frozenset(known.partitions) if known is not None else frozenset()

    def update(self, response: Any, *, all_topics: bool = False) -> bool:
        """Take in a Metadata answer (a kio entity of any version >= 1). True if anything changed.

        With `all_topics` the answer is the whole list, and topics that are not in it are forgotten.
        """
        brokers = {b.node_id: BrokerMetadata(b.node_id, b.host, b.port, b.rack) for b in response.brokers}
        changed = brokers != self.brokers or response.controller_id != self.controller_id
        # An answer without brokers comes from a broker that is still starting: keep the addresses we have.
        if brokers:
            self.brokers = brokers
        self.cluster_id = getattr(response, "cluster_id", None) or self.cluster_id
        self.controller_id = response.controller_id
        seen = set()
        for answer in response.topics:
            if answer.name is None:
                continue
            seen.add(answer.name)
            changed |= self._update_topic(answer)
        if all_topics:
            for name in self.topics.keys() - seen:
                self._forget(name)
                changed = True
        self.version += changed
        return changed

    def apply_hint(self, tp: TopicPartition, leader_id: int, leader_epoch: int, endpoints: Iterable[Any] = ()) -> bool:
        """Take in a leader named by an error answer (KIP-951). True if it is news and its address is known."""
        old = self.partition(tp)
        if leader_id < 0 or old is None or leader_epoch <= old.leader_epoch:
            return False
        for node in endpoints:
            self.brokers[node.node_id] = BrokerMetadata(node.node_id, node.host, node.port, node.rack)
        if leader_id not in self.brokers:
            return False
        topic = self.topics[tp.topic]
        new = PartitionMetadata(
            tp.topic, tp.partition, leader_id, leader_epoch, old.replicas, old.isr, old.offline_replicas
        )
        self._put(TopicMetadata(topic.name, topic.topic_id, topic.is_internal, {**topic.partitions, tp.partition: new}))
        self.version += 1
        return True

    def _update_topic(self, answer: Any) -> bool:
        old = self.topics.get(answer.name)
        if answer.error_code is ErrorCode.unknown_topic_or_partition and old is not None and old.partitions:
            # A broker that lags says the same of a topic that was just created, so one answer proves nothing.
            self._absent[answer.name] = self._absent.get(answer.name, 0) + 1
            if self._absent[answer.name] < ABSENT_ANSWERS:
                return False
            self._forget(answer.name)
            old = None
        self._absent.pop(answer.name, None)
        topic_id = getattr(answer, "topic_id", None)
        same_topic = old is not None and (topic_id is None or old.topic_id is None or old.topic_id == topic_id)
        partitions: dict[int, PartitionMetadata] = {}
        for p in answer.partitions:
            new = PartitionMetadata(
                answer.name,
                p.partition_index,
                p.leader_id,
                getattr(p, "leader_epoch", -1),
                tuple(p.replica_nodes),
                tuple(p.isr_nodes),
                tuple(getattr(p, "offline_replicas", ())),
                p.error_code,
            )
            known = old.partitions.get(new.partition) if old is not None and same_topic else None
            stale = known is not None and 0 <= new.leader_epoch < known.leader_epoch
            partitions[new.partition] = known if known is not None and stale else new
        if old is not None and same_topic:
            # Partitions are only ever added to a topic: a shorter list is an older one.
            for index, known in old.partitions.items():
                partitions.setdefault(index, known)
        new_topic = TopicMetadata(
            answer.name, topic_id, getattr(answer, "is_internal", False), partitions, answer.error_code
        )
        if new_topic == old:
            return False
        self._put(new_topic)
        return True

    def forget(self, topic: str) -> None:
        """Drop a topic that is gone, so that one of the same name starts afresh."""
        if topic in self.topics:
            self._forget(topic)
            self.version += 1

    def _forget(self, name: str) -> None:
        topic = self.topics.pop(name)
        self._absent.pop(name, None)
        if topic.topic_id is not None:
            self.topic_names.pop(topic.topic_id, None)

    def _put(self, topic: TopicMetadata) -> None:
        old = self.topics.get(topic.name)
        if old is not None and old.topic_id is not None and old.topic_id != topic.topic_id:
            self.topic_names.pop(old.topic_id, None)
        self.topics[topic.name] = topic
        if topic.topic_id is not None:
            self.topic_names[topic.topic_id] = topic.name
