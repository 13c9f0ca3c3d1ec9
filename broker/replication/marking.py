"""Transaction markers: what ends a producer's transaction in a partition, appended by its leader (KIP-98, KIP-890)."""

from __future__ import annotations

from dataclasses import dataclass

from kio.schema.errors import ErrorCode

from ottla.broker.replication.leader import LeaderState
from ottla.broker.replication.leading import append
from ottla.broker.replication.partition import Partition
from ottla.records import EndMarker, encode_marker, read_header


@dataclass(frozen=True, slots=True)
class MarkerOrder:
    """A coordinator's word. `strict`: the transaction was one of transactions v2, so that `producer_epoch` is one above
    its own."""

    producer_id: int
    producer_epoch: int
    marker: EndMarker
    strict: bool = False


def append_marker(partition: Partition, order: MarkerOrder, *, now_ms: int) -> int | ErrorCode:
    """Append the marker, unless it would change nothing; the offset below which all has to be committed for it to be.

    INVALID_PRODUCER_EPOCH and TRANSACTION_COORDINATOR_FENCED for one of the past; NOT_LEADER_OR_FOLLOWER,
    NOT_ENOUGH_REPLICAS, KAFKA_STORAGE_ERROR as for any append.
    """
    error = partition.check_leader()
    if error is not ErrorCode.none:
        return error
    role, held = partition.role, partition.log
    assert isinstance(role, LeaderState) and held is not None
    producer_id, marker = order.producer_id, order.marker
    verdict = held.producers.check_marker(producer_id, order.producer_epoch, marker, strict=order.strict)
    if isinstance(verdict, ErrorCode):
        return verdict
    # Also if it is not appended: whoever asked about a transaction of this producer asked about the one that ends here.
    held.producers.verifications.marked(producer_id, order.producer_epoch)
    if verdict is None:
        return held.log_end_offset
    batch = encode_marker(marker, producer_id=producer_id, producer_epoch=order.producer_epoch, timestamp=now_ms)
    appended = append(partition, batch, read_header(batch), acks=-1, now_ms=now_ms)
    return appended if isinstance(appended, ErrorCode) else appended.last_offset + 1
