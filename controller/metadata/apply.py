"""`apply`: the one function that makes a new metadata image, live and on replay alike.

It checks what every record must hold true and raises `BrokenInvariant` otherwise: a committed record that does
not fit the image means that a decision was taken on another image than this one, and going on would spread the
damage.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import singledispatchmethod
from uuid import UUID

from ottla.controller.metadata.feature_levels import FEATURES, NO_FEATURE
from ottla.controller.metadata.image import (
    CLIENT_QUOTA,
    NO_LEADER,
    BrokerImage,
    Delta,
    Listener,
    MetadataImage,
    PartitionImage,
    TopicImage,
)
from ottla.controller.metadata.records import (
    BrokerAway,
    BrokerChanged,
    BrokerRegistered,
    BrokerUnregistered,
    ConfigChanged,
    FeatureChanged,
    MetadataRecord,
    PartitionChanged,
    PartitionCreated,
    ProducerIdsAllocated,
    Record,
    TopicCreated,
    TopicDeleted,
)


class BrokenInvariant(Exception):
    """A record contradicts the image that it is applied to."""


def require(holds: bool, record: MetadataRecord, why: str) -> None:
    if not holds:
        raise BrokenInvariant(f"{why}: {record!r}")


def apply(image: MetadataImage, records: Iterable[Record], offset: int) -> tuple[MetadataImage, Delta]:
    """The image after the entry at Raft index `offset`, and what changed. `image` stays as it is.

    Costs one shallow copy of each map that is touched, however many records there are.
    Raises BrokenInvariant.
    """
    builder = _Builder(image)
    for record in records:
        builder.apply(record)
    return builder.finish(offset)


class _Builder:
    """Private copies of the maps that an entry touches; everything else is shared with the old image."""

    def __init__(self, image: MetadataImage) -> None:
        self._old = image
        self._brokers = dict(image.brokers)
        self._topics = image.topics
        self._topic_names = image.topic_names
        self._configs = image.configs
        self._next_producer_id = image.next_producer_id
        self._features = image.features
        self._away = image.away
        self._features_epoch: int | None = image.features_epoch  # None: that of the entry
        self._open: dict[UUID, dict[int, PartitionImage]] = {}
        self._changed_brokers: set[int] = set()
        self._changed_partitions: dict[UUID, set[int]] = {}
        self._created: dict[UUID, TopicImage] = {}
        self._deleted: list[TopicImage] = []
        self._changed_configs: set[tuple[str, str]] = set()

    def finish(self, offset: int) -> tuple[MetadataImage, Delta]:
        topics = self._topics
        if self._open:
            topics = dict(topics)
            for topic_id, partitions in self._open.items():
                name = self._topic_names[topic_id]
                topics[name] = replace(topics[name], partitions=partitions)
        image = MetadataImage(
            cluster_id=self._old.cluster_id,
            offset=offset,
            brokers=self._brokers if self._changed_brokers else self._old.brokers,
            topics=topics,
            topic_names=self._topic_names,
            configs=self._configs,
            next_producer_id=self._next_producer_id,
            features=self._features,
            features_epoch=offset if self._features_epoch is None else self._features_epoch,
            away=self._away,
        )
        delta = Delta(
            brokers=frozenset(self._changed_brokers),
            partitions=frozenset(
                (self._topic_names[topic_id], partition)
                for topic_id, partitions in self._changed_partitions.items()
                for partition in partitions
            ),
            created=tuple(topics[topic.name] for topic in self._created.values()),
            deleted=tuple(self._deleted),
            configs=frozenset(self._changed_configs),
            features=self._features is not self._old.features,
        )
        return image, delta

    @singledispatchmethod
    def apply(self, record: MetadataRecord) -> None:
        raise BrokenInvariant(f"no such record: {record!r}")

    @apply.register
    def _broker(self, record: BrokerRegistered) -> None:
        before = self._brokers.get(record.id)
        require(before is None or record.epoch > before.epoch, record, "broker epoch does not grow")
        self._brokers[record.id] = BrokerImage(
            id=record.id,
            epoch=record.epoch,
            incarnation=record.incarnation,
            listeners=tuple(Listener(*listener) for listener in record.listeners),
            rack=record.rack,
            fenced=record.fenced,
            in_controlled_shutdown=record.in_controlled_shutdown,
            http=record.http,
            previous_epoch=record.previous_epoch,
        )
        self._changed_brokers.add(record.id)

    @apply.register
    def _broker_change(self, record: BrokerChanged) -> None:
        broker = self._brokers.get(record.id)
        if broker is None or broker.epoch != record.epoch:
            raise BrokenInvariant(f"no broker of this epoch: {record!r}")
        self._brokers[record.id] = broker = replace(
            broker,
            fenced=broker.fenced if record.fenced is None else record.fenced,
            in_controlled_shutdown=broker.in_controlled_shutdown
            if record.in_controlled_shutdown is None
            else record.in_controlled_shutdown,
            previous_epoch=-1 if record.fenced is False else broker.previous_epoch,
        )
        if broker.eligible:
            self._set_away(record.id, 0)
        self._changed_brokers.add(record.id)

    @apply.register
    def _broker_away(self, record: BrokerAway) -> None:
        broker = self._brokers.get(record.id)
        require(broker is None or not broker.eligible, record, "the broker is there")
        self._set_away(record.id, record.for_ms)

    def _set_away(self, broker_id: int, for_ms: int) -> None:
        if for_ms != self._away.get(broker_id, 0):
            others = {other: ms for other, ms in self._away.items() if other != broker_id}
            self._away = {**others, broker_id: for_ms} if for_ms else others

    @apply.register
    def _broker_remove(self, record: BrokerUnregistered) -> None:
        broker = self._brokers.get(record.id)
        if broker is None or broker.epoch != record.epoch:
            raise BrokenInvariant(f"no broker of this epoch: {record!r}")
        del self._brokers[record.id]
        self._changed_brokers.add(record.id)

    @apply.register
    def _topic(self, record: TopicCreated) -> None:
        require(record.name not in self._topics, record, "topic name is taken")
        require(record.id not in self._topic_names, record, "topic id is taken")
        topic = TopicImage(id=record.id, name=record.name, partitions={}, internal=record.internal)
        self._topics = {**self._topics, record.name: topic}
        self._topic_names = {**self._topic_names, record.id: record.name}
        self._created[record.id] = topic
        self._open[record.id] = {}

    @apply.register
    def _partition(self, record: PartitionCreated) -> None:
        partitions = self._partitions(record, record.topic_id)
        require(record.partition == len(partitions), record, "partition is out of order")
        self._put(record, record.topic_id, record.partition, _state(record, record.replicas, record.isr))

    @apply.register
    def _partition_change(self, record: PartitionChanged) -> None:
        before = self._partitions(record, record.topic_id).get(record.partition)
        if before is None:
            raise BrokenInvariant(f"no such partition: {record!r}")
        require(record.partition_epoch == before.partition_epoch + 1, record, "partition epoch skips or repeats")
        same_leader = record.leader == before.leader
        require(record.leader_epoch >= before.leader_epoch, record, "leader epoch goes back")
        require(same_leader or record.leader_epoch > before.leader_epoch, record, "new leader in an old epoch")
        state = _state(record, record.replicas or before.replicas, before.isr if record.isr is None else record.isr)
        dropped = set(before.replicas).difference(state.replicas)
        require(not dropped or record.leader_epoch > before.leader_epoch, record, "replica dropped in an old epoch")
        new = set(state.replicas).difference(before.replicas)
        require(self._brokers.keys() >= new, record, "new replica is no registered broker")
        self._put(record, record.topic_id, record.partition, state)

    def _put(self, record: MetadataRecord, topic_id: UUID, partition: int, state: PartitionImage) -> None:
        replicas = set(state.replicas)
        require(len(replicas) == len(state.replicas) > 0, record, "replicas are empty or repeated")
        require(replicas.issuperset((*state.adding, *state.removing)), record, "reassignment of no replica")
        isr = set(state.isr)
        require(len(isr) == len(state.isr), record, "ISR repeats a member")
        require(isr <= replicas, record, "ISR has a member that is no replica")
        elr = set(state.elr)
        require(elr <= replicas - isr, record, "ELR has a member that is no replica or in the ISR")
        # Without an ISR somebody must be known who may go on: a partition is never given up by itself.
        require(bool(isr) != (state.last_known_leader in replicas), record, "ISR and last known leader, or neither")
        require(bool(isr) or not elr, record, "ELR without an ISR")
        if state.leader != NO_LEADER:
            # Records about brokers come first in an entry, so that this holds on the way too.
            leader = self._brokers.get(state.leader)
            require(leader is not None and not leader.fenced, record, "leader is fenced or unknown")
            require(state.leader in isr, record, "leader is not in the ISR")
        self._open[topic_id][partition] = state
        self._changed_partitions.setdefault(topic_id, set()).add(partition)

    def _partitions(self, record: MetadataRecord, topic_id: UUID) -> dict[int, PartitionImage]:
        partitions = self._open.get(topic_id)
        if partitions is None:
            name = self._topic_names.get(topic_id)
            if name is None:
                raise BrokenInvariant(f"no such topic: {record!r}")
            partitions = self._open[topic_id] = dict(self._topics[name].partitions)
        return partitions

    @apply.register
    def _topic_delete(self, record: TopicDeleted) -> None:
        name = self._topic_names.get(record.id)
        if name is None:
            raise BrokenInvariant(f"no such topic: {record!r}")
        require(record.id not in self._created, record, "topic is created and deleted in one entry")
        self._topics = dict(self._topics)
        self._topic_names = dict(self._topic_names)
        self._deleted.append(self._topics.pop(name))
        del self._topic_names[record.id]
        self._open.pop(record.id, None)
        self._changed_partitions.pop(record.id, None)
        if ("topic", name) in self._configs:
            self._configs = {key: value for key, value in self._configs.items() if key != ("topic", name)}
            self._changed_configs.add(("topic", name))

    @apply.register
    def _config(self, record: ConfigChanged) -> None:
        require(record.kind in ("topic", "broker", "group", CLIENT_QUOTA), record, "configs of this kind do not exist")
        require(record.kind != "topic" or record.name in self._topics, record, "configs of no topic")
        resource = (record.kind, record.name)
        values = dict(self._configs.get(resource, {}))
        if record.value is None:
            require(values.pop(record.key, None) is not None, record, "config to remove is not set")
        else:
            values[record.key] = record.value
        configs = {key: value for key, value in self._configs.items() if key != resource}
        if values:
            configs[resource] = values
        self._configs = configs
        self._changed_configs.add(resource)

    @apply.register
    def _producer_ids(self, record: ProducerIdsAllocated) -> None:
        require(record.next_producer_id > self._next_producer_id, record, "producer ids would be given twice")
        self._next_producer_id = record.next_producer_id

    @apply.register
    def _feature(self, record: FeatureChanged) -> None:
        # What this version does not know, or not on that level, it would not do as all others do.
        low, high, _ = FEATURES.get(record.name, NO_FEATURE)
        require(low <= record.level <= high, record, "this version does not support that level of the feature")
        self._features = {**self._features, record.name: record.level}
        self._features_epoch = None if record.epoch < 0 else record.epoch


def _state(
    record: PartitionCreated | PartitionChanged, replicas: tuple[int, ...], isr: tuple[int, ...]
) -> PartitionImage:
    return PartitionImage(
        replicas=replicas,
        isr=isr,
        leader=record.leader,
        leader_epoch=record.leader_epoch,
        partition_epoch=record.partition_epoch,
        elr=record.elr,
        last_known_leader=record.last_known_leader,
        adding=record.adding,
        removing=record.removing,
        automatic=record.automatic,
    )
