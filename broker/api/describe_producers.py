"""DescribeProducers, v0: who writes to a partition, and whose transaction is open there, as a replica knows (KIP-664).

Differences from Kafka: none: followers answer too, of what they have. What is not known is -1.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.replication import Partition
from ottla.log import ProducerEntry
from ottla.wire import Request


def handle(context: BrokerContext, request: Request) -> Answer:
    topics = [
        {"name": topic.name, "partitions": [_row(context, topic.name, index) for index in topic.partition_indexes]}
        for topic in request.body.topics
    ]
    return {"topics": topics}


def _row(context: BrokerContext, topic: str, index: int) -> dict[str, object]:
    partition = context.replicas.partition(topic, index)
    if isinstance(partition, ErrorCode):
        return {"partition_index": index, "error_code": partition, "active_producers": []}
    return {"partition_index": index, "error_code": ErrorCode.none, "active_producers": _producers(partition)}


def _producers(partition: Partition) -> list[dict[str, object]]:
    assert partition.log is not None, "what has not failed has a log"
    return [_producer(entry) for entry in partition.log.producers.entries.values()]


def _producer(entry: ProducerEntry) -> dict[str, object]:
    return {
        "producer_id": entry.producer_id,
        "producer_epoch": entry.epoch,
        "last_sequence": entry.batches[-1].last_sequence if entry.batches else -1,
        "last_timestamp": entry.last_timestamp,
        "coordinator_epoch": entry.coordinator_epoch,
        "current_txn_start_offset": entry.current_txn_first_offset,
    }
