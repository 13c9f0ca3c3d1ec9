"""WriteTxnMarkers, v1-v2: a coordinator ends a transaction in the partitions that are led here (KIP-98).

v1 flexible · v2 the version of the transaction (KIP-1228): with transactions v2 the marker's epoch is above that of the
transaction, so that a late copy of a marker does not end the next one.

An answer says that the marker is committed; it is appended as with acks=all. What is in the log already is not appended
again, and answered when everything in the log is committed: a coordinator repeats what it got no answer for
(KAFKA-19999).

Differences from Kafka: a retried marker leaves no second one in the log, also with transactions v1. Only authenticated
brokers may write any marker. Others, as administrators, may abort a transaction that is open in a partition, by what
DescribeProducers tells of its producer (KIP-664); all else is CLUSTER_AUTHORIZATION_FAILED to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.leadership import led_partition
from ottla.broker.replication import MarkerOrder, Partition, ProduceWait, append_marker
from ottla.records import EndMarker
from ottla.wire import Later, Request

TIMEOUT_S = 10.0
"""Less than a coordinator waits: REQUEST_TIMED_OUT has it ask again."""
VERSIONS_SINCE = 2
TRANSACTIONS_V2 = 2

_Rows = list[dict[str, Any]]


def handle(context: BrokerContext, request: Request) -> Answer | Later:
    from_broker = request.connection.principal.startswith("node:")
    wait = context.replicas.produce_wait()
    slots: _Rows = []
    markers = []
    for marker in request.body.markers:
        order = _order(marker, request.api_version, from_broker)
        topics = []
        for topic in marker.topics:
            rows: _Rows = []
            for index in topic.partition_indexes:
                error = order if isinstance(order, ErrorCode) else ErrorCode.none
                if isinstance(order, MarkerOrder):
                    error = _append(context, topic.name, index, order, (wait, len(slots)), from_broker=from_broker)
                rows.append({"partition_index": index, "error_code": error})
                slots.append(rows[-1])
            topics.append({"name": topic.name, "partitions": rows})
        markers.append({"producer_id": marker.producer_id, "topics": topics})

    def answer(errors: Mapping[int, ErrorCode]) -> Answer:
        for slot, error in errors.items():
            slots[slot]["error_code"] = error
        return {"markers": markers}

    if wait.done:
        return answer(wait.errors)
    later = Later(wait.cancel)
    wait.start(TIMEOUT_S, lambda errors: later.give(answer(errors)))
    return later


def _order(marker: Any, api_version: int, from_broker: bool) -> MarkerOrder | ErrorCode:
    if not from_broker and marker.transaction_result:
        return ErrorCode.cluster_authorization_failed
    # An administrator is no coordinator and need not know of one: -1, as long as none has ended a transaction of this
    # producer here.
    least = 0 if from_broker else -1
    if min(marker.producer_id, marker.producer_epoch) < 0 or marker.coordinator_epoch < least:
        return ErrorCode.invalid_request
    strict = api_version >= VERSIONS_SINCE and marker.transaction_version >= TRANSACTIONS_V2
    outcome = EndMarker(marker.transaction_result, marker.coordinator_epoch)
    return MarkerOrder(marker.producer_id, marker.producer_epoch, outcome, strict)


def _append(
    context: BrokerContext,
    topic: str,
    index: int,
    order: MarkerOrder,
    place: tuple[ProduceWait, int],
    *,
    from_broker: bool,
) -> ErrorCode:
    partition = led_partition(context, topic, index)
    if isinstance(partition, ErrorCode):
        return partition
    if not from_broker and not _is_open(partition, order):
        return ErrorCode.cluster_authorization_failed
    end_offset = append_marker(partition, order, now_ms=context.clock())
    if isinstance(end_offset, ErrorCode):
        return end_offset
    partition.acknowledge(end_offset, -1, *place)
    return ErrorCode.none


def _is_open(partition: Partition, order: MarkerOrder) -> bool:
    assert partition.log is not None, "what leads has a log"
    entry = partition.log.producers.entries.get(order.producer_id)
    return entry is not None and entry.epoch == order.producer_epoch and entry.current_txn_first_offset >= 0
