"""DeleteRecords, v0-v2: forget what lies below an offset, on every live replica (KIP-107).

v1 like v0 · v2 flexible.

An offset of -1 means the high watermark. The log start moves at once; it is written down within five seconds, and the
segments below it go with the next pass of retention.

Differences from Kafka: followers hear of it at once, not when their fetch times out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.coordination import INTERNAL_TOPICS
from ottla.broker.replication import ProduceWait, delete_records, low_watermark
from ottla.controller import resolve_one
from ottla.wire import Request

MAX_TIMEOUT_S = 300.0

Where = tuple[str, int]


async def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    wait = context.replicas.produce_wait()
    outcomes: dict[Where, ErrorCode] = {}
    slots: list[Where] = []
    for topic in body.topics:
        refusal = _refusal(context, topic.name)
        for row in topic.partitions:
            where = (topic.name, row.partition_index)
            outcomes[where] = refusal or _delete(context, where, row.offset, wait, len(slots))
            slots.append(where)
    try:
        late = await _settled(wait, min(max(body.timeout.total_seconds(), 0.0), MAX_TIMEOUT_S))
    finally:
        wait.cancel()
    outcomes |= {slots[slot]: error for slot, error in late.items()}
    return {
        "topics": [
            {
                "name": topic.name,
                "partitions": [
                    _row(context, topic.name, row.partition_index, outcomes[topic.name, row.partition_index])
                    for row in topic.partitions
                ],
            }
            for topic in body.topics
        ]
    }


def _refusal(context: BrokerContext, topic: str) -> ErrorCode | None:
    """Why nothing may be deleted from this topic."""
    if topic in INTERNAL_TOPICS:
        return ErrorCode.invalid_topic_exception
    if topic not in context.view.image.topics:
        return ErrorCode.unknown_topic_or_partition
    policy = resolve_one(
        context.view.image, context.config.kafka_values(), topic, "cleanup.policy", context.node_id
    ).value
    return None if isinstance(policy, tuple) and "delete" in policy else ErrorCode.policy_violation


def _delete(context: BrokerContext, where: Where, offset: int, wait: ProduceWait, slot: int) -> ErrorCode:
    partition = context.replicas.partition(*where)
    if isinstance(partition, ErrorCode):
        return partition
    return delete_records(partition, offset, wait, slot)


async def _settled(wait: ProduceWait, timeout_s: float) -> Mapping[int, ErrorCode]:
    """What became of those that have to wait; REQUEST_TIMED_OUT for what took too long."""
    if wait.done:
        return wait.errors
    done: asyncio.Future[Mapping[int, ErrorCode]] = asyncio.get_running_loop().create_future()
    wait.start(timeout_s, done.set_result)
    return await done


def _row(context: BrokerContext, topic: str, index: int, error: ErrorCode) -> dict[str, object]:
    partition = context.replicas.partition(topic, index)
    low = -1 if error is not ErrorCode.none or isinstance(partition, ErrorCode) else low_watermark(partition)
    return {"partition_index": index, "low_watermark": low, "error_code": error}
