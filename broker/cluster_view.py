"""How the metadata image looks to a client of one listener. Pure functions of the image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kio.schema.errors import ErrorCode

from ottla.controller import BrokerImage, Listener, MetadataImage, PartitionImage, TopicImage

OPERATIONS_NOT_ASKED = -(2**31)
# Bits are numbers of AclOperation (KIP-430); without an authorizer a client may do all that the resource knows.
ALL_TOPIC_OPERATIONS = sum(1 << bit for bit in (3, 4, 5, 6, 7, 8, 10, 11))
ALL_CLUSTER_OPERATIONS = sum(1 << bit for bit in (5, 7, 8, 9, 10, 11, 12))


def endpoint(broker: BrokerImage, listener: str) -> Listener | None:
    """The address that the broker advertises on the listener by which the client came."""
    for candidate in broker.listeners:
        if candidate.name == listener:
            return candidate
    return None


def endpoints(
    image: MetadataImage, listener: str, *, include_fenced: bool = False
) -> Iterator[tuple[BrokerImage, Listener]]:
    """Brokers that a client may be sent to, by id. Fenced ones are not shown unless asked for (KIP-631, KIP-1073)."""
    for broker_id in sorted(image.brokers):
        broker = image.brokers[broker_id]
        if broker.fenced and not include_fenced:
            continue
        address = endpoint(broker, listener)
        if address is not None:
            yield broker, address


def shown_controller(image: MetadataImage, listener: str, active: int, own: int) -> int:
    """The controller id to tell clients: the active one if it is a broker that they can reach, else any that is.

    Every broker passes requests on to the active controller, so any will do (Kafka gives a random one).
    """
    reachable = {broker.id for broker, _ in endpoints(image, listener)}
    for candidate in (active, own):
        if candidate in reachable:
            return candidate
    return min(reachable, default=-1)


def offline_replicas(image: MetadataImage, replicas: Iterable[int]) -> tuple[int, ...]:
    return tuple(replica for replica in replicas if _away(image, replica))


def _away(image: MetadataImage, replica: int) -> bool:
    broker = image.brokers.get(replica)
    return broker is None or broker.fenced


def seen_leader(image: MetadataImage, partition: PartitionImage, listener: str) -> tuple[ErrorCode, int]:
    """The leader as a client of `listener` may know it, and the error when there is none for it."""
    broker = image.brokers.get(partition.leader)
    if broker is None or broker.fenced:
        return ErrorCode.leader_not_available, -1
    if endpoint(broker, listener) is None:
        return ErrorCode.listener_not_found, -1
    return ErrorCode.none, partition.leader


def partition_row(image: MetadataImage, index: int, partition: PartitionImage, listener: str) -> dict[str, object]:
    """One partition under the names that Metadata and DescribeTopicPartitions share."""
    error, leader = seen_leader(image, partition, listener)
    return {
        "error_code": error,
        "partition_index": index,
        "leader_id": leader,
        "leader_epoch": partition.leader_epoch,
        "replica_nodes": partition.replicas,
        "isr_nodes": partition.isr,
        "offline_replicas": offline_replicas(image, partition.replicas),
    }


def topic_row(topic: TopicImage, partitions: list[dict[str, object]], *, operations: bool) -> dict[str, object]:
    return {
        "error_code": ErrorCode.none,
        "name": topic.name,
        "topic_id": topic.id,
        "is_internal": topic.internal,
        "partitions": partitions,
        "topic_authorized_operations": ALL_TOPIC_OPERATIONS if operations else OPERATIONS_NOT_ASKED,
    }


def broker_row(broker: BrokerImage, address: Listener, id_field: str) -> dict[str, object]:
    return {
        id_field: broker.id,
        "host": address.host,
        "port": address.port,
        "rack": broker.rack,
        "is_fenced": broker.fenced,
    }
