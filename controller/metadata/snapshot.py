"""A metadata image as bytes and back, for Raft snapshots.

A snapshot holds records, as the log does, and is read through the same `apply`: what a snapshot can say and what
the log can say cannot drift apart.
"""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from ottla.controller.metadata.apply import apply
from ottla.controller.metadata.image import MetadataImage
from ottla.controller.metadata.records import (
    BrokerAway,
    BrokerRegistered,
    ConfigChanged,
    FeatureChanged,
    PartitionCreated,
    ProducerIdsAllocated,
    Record,
    TopicCreated,
    decode_records,
    encode_records,
)


class _Header(BaseModel):
    """The first line of a snapshot."""

    model_config = ConfigDict(extra="forbid")

    version: int
    cluster_id: str
    offset: int


class SnapshotMismatch(Exception):
    """The snapshot has another format, or belongs to another cluster."""


VERSION = 1


def encode_snapshot(image: MetadataImage) -> bytes:
    """One line of JSON saying whose image this is and of which Raft index, then the records that make it."""
    header = _Header(version=VERSION, cluster_id=image.cluster_id, offset=image.offset)
    return header.model_dump_json().encode() + b"\n" + encode_records(list(image_records(image)))


def decode_snapshot(data: bytes, cluster_id: str) -> MetadataImage:
    """Raises SnapshotMismatch, pydantic.ValidationError or BrokenInvariant; none of them leaves room to go on."""
    head, _, records = data.partition(b"\n")
    header = _Header.model_validate_json(head)
    if header.version != VERSION:
        raise SnapshotMismatch(f"snapshot format {header.version} is not {VERSION}")
    if header.cluster_id != cluster_id:
        raise SnapshotMismatch(f"snapshot of cluster {header.cluster_id!r} met in cluster {cluster_id!r}")
    image, _ = apply(MetadataImage(cluster_id=cluster_id), decode_records(records), header.offset)
    return image


def image_records(image: MetadataImage) -> Iterator[Record]:
    """Records that make this image from an empty one."""
    for broker in image.brokers.values():
        yield BrokerRegistered(
            id=broker.id,
            epoch=broker.epoch,
            incarnation=broker.incarnation,
            listeners=tuple((listener.name, listener.host, listener.port) for listener in broker.listeners),
            rack=broker.rack,
            http=broker.http,
            fenced=broker.fenced,
            in_controlled_shutdown=broker.in_controlled_shutdown,
            previous_epoch=broker.previous_epoch,
        )
    for broker_id, for_ms in image.away.items():
        yield BrokerAway(id=broker_id, for_ms=for_ms)
    for topic in image.topics.values():
        yield TopicCreated(id=topic.id, name=topic.name, internal=topic.internal)
        for partition, state in sorted(topic.partitions.items()):
            yield PartitionCreated(
                topic_id=topic.id,
                partition=partition,
                replicas=state.replicas,
                isr=state.isr,
                leader=state.leader,
                leader_epoch=state.leader_epoch,
                partition_epoch=state.partition_epoch,
                elr=state.elr,
                last_known_leader=state.last_known_leader,
                adding=state.adding,
                removing=state.removing,
                automatic=state.automatic,
            )
    for (kind, name), values in image.configs.items():
        for key, value in values.items():
            yield ConfigChanged(kind=kind, name=name, key=key, value=value)
    for feature, level in image.features.items():
        yield FeatureChanged(name=feature, level=level, epoch=image.features_epoch)
    if image.next_producer_id:
        # The broker that got the last block is history, which a snapshot does not keep.
        yield ProducerIdsAllocated(node_id=-1, broker_epoch=-1, next_producer_id=image.next_producer_id)
