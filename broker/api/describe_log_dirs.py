"""DescribeLogDirs, v1-v5: what lies in this broker's data directory, and how much room is left (KIP-113).

v2 flexible · v3 an error for the whole · v4 total and usable bytes (KIP-827) · v5 whether it is cordoned (KIP-1066).

There is one data directory, and no log moves between directories (`is_future_key` is always false).

Differences from Kafka: the lag of a follower is what is missing up to the high watermark that its leader has told, not
up to its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.replication import Partition
from ottla.log import DiskError
from ottla.wire import Request

log = structlog.get_logger(__name__)

Wanted = Iterable[tuple[str, int]]


async def handle(context: BrokerContext, request: Request) -> Answer:
    try:
        volume = await context.replicas.volume()
    except DiskError as error:
        log.error("volume_not_described", error=str(error))
        return {"results": [{"error_code": ErrorCode.kafka_storage_error, "log_dir": context.replicas.log_directory}]}
    topics = request.body.topics
    wanted: Wanted = _here(context)
    if topics is not None:
        wanted = dict.fromkeys((topic.topic, index) for topic in topics for index in topic.partitions)
    return {
        "results": [
            {
                "error_code": ErrorCode.none,
                "log_dir": volume.path,
                "topics": _topics(context, wanted),
                "total_bytes": volume.total_bytes,
                "usable_bytes": volume.usable_bytes,
                "is_cordoned": context.view.image.cordoned(context.node_id),
            }
        ]
    }


def _here(context: BrokerContext) -> Iterator[tuple[str, int]]:
    for topic, index, state in context.view.image.all_partitions():
        if context.node_id in state.replicas:
            yield topic.name, index


def _topics(context: BrokerContext, wanted: Wanted) -> list[dict[str, object]]:
    """What is here of `wanted`; the rest is left out, as in Kafka."""
    found: dict[str, list[dict[str, object]]] = {}
    for name, index in wanted:
        partition = context.replicas.partition(name, index)
        if isinstance(partition, Partition) and partition.log is not None:
            row: dict[str, object] = {
                "partition_index": index,
                "partition_size": partition.log.size,
                "offset_lag": partition.offset_lag,
            }
            found.setdefault(name, []).append(row)
    return [{"name": name, "partitions": rows} for name, rows in found.items()]
