"""The cluster's metadata at one Raft index, as an immutable value.

Nothing here changes once it is made: `ottla.controller.metadata.apply` makes the next image from this one and
the records of one committed entry. The maps are shared between images and must only be read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from ottla.controller.metadata.feature_levels import FEATURES

NO_LEADER = -1

CORDONED = "cordoned.log.dirs"
"""The broker config of KIP-1066."""

CLIENT_QUOTA = "client-quota"
"""The kind of configs that hold client quotas; the name is that of an entity."""

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Listener:
    """An advertised listener of a broker."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class BrokerImage:
    """A registered broker. `epoch` grows with every registration; `http` is "host:port" or empty.

    A fenced broker leads nothing, is in no ISR that has another member, and is not shown to clients (KIP-631).
    `previous_epoch` is that of the registration before, whose promises this one has all kept; -1 if it has not, and
    once it was unfenced, for from then on it makes promises of its own.
    """

    id: int
    epoch: int
    incarnation: str
    listeners: tuple[Listener, ...]
    rack: str | None = None
    fenced: bool = True
    in_controlled_shutdown: bool = False
    http: str = ""
    previous_epoch: int = -1

    @property
    def eligible(self) -> bool:
        """Whether it may lead a partition and join an ISR."""
        return not self.fenced and not self.in_controlled_shutdown

    def knows_stop(self, epoch: int) -> bool:
        """Whether nothing was promised since a stop of the registration with this epoch: it is this one, or this one
        has not been unfenced, and may not even have been heard of."""
        return epoch >= 0 and epoch in (self.epoch, self.previous_epoch)


@dataclass(frozen=True, slots=True)
class PartitionImage:
    """`replicas` are in order of preference; `isr` keeps its last member when that one is away.

    `leader_epoch` grows with every change of leader and whenever a replica is dropped, `partition_epoch` with every
    change at all. `elr` are the eligible leader replicas of KIP-966: not in the ISR, but known to have every committed
    record, because nothing has been committed since the ISR fell below min.insync.replicas. ISR and ELR are empty only
    when the last that was in them may have lost records: that is `last_known_leader`, without whom nobody leads again.

    While a reassignment is under way (KIP-455) `replicas` are the wanted ones, in their order, and behind them those
    that will go. `adding` are the replicas that were none when it began, `removing` those that are not wanted; in both
    is who was still being added when other replicas were asked for. `automatic`: the controller began it by itself.
    """

    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    leader: int
    leader_epoch: int
    partition_epoch: int
    elr: tuple[int, ...] = ()
    last_known_leader: int = NO_LEADER
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()
    automatic: bool = False

    @property
    def reassigning(self) -> bool:
        return bool(self.adding or self.removing)

    @property
    def target(self) -> tuple[int, ...]:
        """The replicas that there will be when nothing is under way any more."""
        return tuple(replica for replica in self.replicas if replica not in self.removing)

    @property
    def original(self) -> tuple[int, ...]:
        """The replicas that there were before the reassignment that is under way."""
        return tuple(replica for replica in self.replicas if replica not in self.adding)

    def required_in_sync(self, min_insync_replicas: int) -> int:
        """In-sync replicas without which nothing is committed: never more than there are replicas, and those that are
        being added are not asked for before all of them are in sync."""
        return min(min_insync_replicas, len(self.original))


@dataclass(frozen=True, slots=True)
class TopicImage:
    """A topic; its partitions are numbered from 0 without gaps."""

    id: UUID
    name: str
    partitions: Mapping[int, PartitionImage]
    internal: bool = False


@dataclass(frozen=True, slots=True)
class MetadataImage:
    """`offset` is the Raft index of the last entry in it. `configs` are by (kind, name): kinds "topic", "group",
    CLIENT_QUOTA and "broker", the broker "" holding the default of all brokers. `features` are the levels that were
    changed, and `features_epoch` the Raft index of the last such change. `away` tells for how many ms, at least,
    brokers have been away."""

    cluster_id: str
    offset: int = 0
    brokers: Mapping[int, BrokerImage] = field(default_factory=dict)
    topics: Mapping[str, TopicImage] = field(default_factory=dict)
    topic_names: Mapping[UUID, str] = field(default_factory=dict)
    configs: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    next_producer_id: int = 0
    features: Mapping[str, int] = field(default_factory=dict)
    features_epoch: int = 0
    away: Mapping[int, int] = field(default_factory=dict)

    def feature(self, name: str) -> int:
        """The finalised level of a feature of FEATURES."""
        return self.features.get(name, FEATURES[name].default)

    def topic_by_id(self, topic_id: UUID) -> TopicImage | None:
        name = self.topic_names.get(topic_id)
        return None if name is None else self.topics[name]

    def partition(self, topic: str, partition: int) -> PartitionImage | None:
        image = self.topics.get(topic)
        return None if image is None else image.partitions.get(partition)

    def eligible(self, broker_id: int) -> bool:
        """Whether this broker is registered, unfenced and not leaving."""
        broker = self.brokers.get(broker_id)
        return broker is not None and broker.eligible

    def cordoned(self, broker_id: int) -> bool:
        """Whether this broker is to be given no more replicas (KIP-1066): a broker has one directory."""
        return any(self.configs.get(("broker", name), {}).get(CORDONED) for name in (str(broker_id), ""))

    def placeable(self, broker_id: int) -> bool:
        """Whether this broker may be given replicas."""
        return self.eligible(broker_id) and not self.cordoned(broker_id)

    def all_partitions(self) -> Iterator[tuple[TopicImage, int, PartitionImage]]:
        for topic in self.topics.values():
            for partition, state in topic.partitions.items():
                yield topic, partition, state


@dataclass(frozen=True, slots=True)
class Delta:
    """What one entry (or a snapshot) changed, so that a subscriber need not compare images.

    `partitions` names those that are new or differ; partitions of deleted topics are found in `deleted`. A topic
    deleted and made anew under its name is in both `deleted` and `created`: deal with `deleted` first.
    """

    brokers: frozenset[int] = frozenset()
    partitions: frozenset[tuple[str, int]] = frozenset()
    created: tuple[TopicImage, ...] = ()
    deleted: tuple[TopicImage, ...] = ()
    configs: frozenset[tuple[str, str]] = frozenset()
    features: bool = False

    def __bool__(self) -> bool:
        return bool(self.brokers or self.partitions or self.created or self.deleted or self.configs or self.features)


def diff(old: MetadataImage, new: MetadataImage) -> Delta:
    """What changed from `old` to `new`, by comparison: for the install of a snapshot."""
    created = tuple(topic for name, topic in new.topics.items() if _other_topic(old.topics.get(name), topic))
    deleted = tuple(topic for name, topic in old.topics.items() if _other_topic(new.topics.get(name), topic))
    partitions = frozenset(
        (topic.name, partition)
        for topic, partition, state in new.all_partitions()
        if old.partition(topic.name, partition) != state or old.topics[topic.name].id != topic.id
    )
    return Delta(
        brokers=_changed(old.brokers, new.brokers),
        partitions=partitions,
        created=created,
        deleted=deleted,
        configs=_changed(old.configs, new.configs),
        features=old.features != new.features,
    )


def _other_topic(there: TopicImage | None, here: TopicImage) -> bool:
    return there is None or there.id != here.id


def _changed(old: Mapping[K, V], new: Mapping[K, V]) -> frozenset[K]:
    return frozenset(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
