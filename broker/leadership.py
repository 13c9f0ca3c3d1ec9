"""Whether this broker may answer for a partition, and whom to send the client to if not."""

from __future__ import annotations

from collections.abc import Iterable

from kio.schema.errors import ErrorCode

from ottla.broker.cluster_view import endpoint
from ottla.broker.context import BrokerContext
from ottla.broker.replication import Partition
from ottla.wire import NodeEndpoint

NO_EPOCH = -1

# The errors that carry the new leader (KIP-951).
LED_ELSEWHERE = frozenset({ErrorCode.not_leader_or_follower, ErrorCode.fenced_leader_epoch})


def led_partition(
    context: BrokerContext, topic: str, index: int, current_epoch: int = NO_EPOCH
) -> Partition | ErrorCode:
    """The partition if this broker leads it, or what the client is told."""
    partition = context.replicas.partition(topic, index)
    if isinstance(partition, ErrorCode):
        return partition
    error = partition.check_leader(current_epoch)
    return partition if error is ErrorCode.none else error


def leader_hint(context: BrokerContext, topic: str, index: int) -> tuple[int, int]:
    """(leader id, leader epoch) as this node's image has them; (-1, -1) when it knows no such partition."""
    partition = context.view.image.partition(topic, index)
    return (-1, -1) if partition is None else (partition.leader, partition.leader_epoch)


def hinted_endpoints(context: BrokerContext, leaders: Iterable[int], listener: str) -> list[NodeEndpoint]:
    """Where the hinted leaders are reached, on the client's own listener."""
    brokers = context.view.image.brokers
    found = []
    for leader in sorted(set(leaders)):
        broker = brokers.get(leader)
        address = None if broker is None else endpoint(broker, listener)
        if broker is not None and address is not None:
            found.append(NodeEndpoint(leader, address.host, address.port, broker.rack))
    return found
