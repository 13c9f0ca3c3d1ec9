"""AlterReplicaLogDirs, v1-v2: move replicas to another data directory of their broker (KIP-113).

v2 flexible.

A broker has one data directory. What is told to go there is there already, which is no error; any other directory is
LOG_DIR_NOT_FOUND, and a replica that is not here REPLICA_NOT_AVAILABLE.

Differences from Kafka: none known.
"""

from __future__ import annotations

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.log import DiskError
from ottla.wire import Request

log = structlog.get_logger(__name__)


async def handle(context: BrokerContext, request: Request) -> Answer:
    try:
        here = (await context.replicas.volume()).path
    except DiskError as error:
        log.error("volume_not_described", error=str(error))
        here = None
    rows: dict[str, list[dict[str, object]]] = {}
    for directory in request.body.dirs:
        for topic in directory.topics:
            for index in topic.partitions:
                outcome = _error(context, here, directory.path, topic.name, index)
                rows.setdefault(topic.name, []).append({"partition_index": index, "error_code": outcome})
    return {"results": [{"topic_name": name, "partitions": partitions} for name, partitions in rows.items()]}


def _error(context: BrokerContext, here: str | None, path: str, topic: str, index: int) -> ErrorCode:
    if here is None:
        return ErrorCode.kafka_storage_error
    if path.rstrip("/") != here.rstrip("/"):
        return ErrorCode.log_dir_not_found
    found = context.replicas.partition(topic, index)
    return ErrorCode.replica_not_available if isinstance(found, ErrorCode) else ErrorCode.none
