"""OffsetCommit, v2-v10: answered when the positions are replicated, never before.

v2-v4 the request's own retention · v5 none (KIP-211) · v6 leader epochs (KIP-320) · v7 static membership (KIP-345) ·
v9 member epochs (KIP-848) · v10 topic ids.

Differences from Kafka: metadata longer than `offset.metadata.max.bytes` is measured in bytes of UTF-8, not in
characters.
"""

from __future__ import annotations

from collections.abc import Mapping

from kio.schema.errors import ErrorCode

from ottla.broker.answering import then
from ottla.broker.context import Answer, BrokerContext, Reply
from ottla.broker.groups import Position, Shard
from ottla.controller import TopicImage
from ottla.wire import Request

_BY_ID = 10


def handle(context: BrokerContext, request: Request) -> Reply:
    body, by_id = request.body, request.api_version >= _BY_ID
    positions, errors = _sort_out(context, body, by_id)
    error = _check(context, body)
    if isinstance(error, ErrorCode):
        return _answer(body, by_id, {}, error)
    if not positions:
        return _answer(body, by_id, errors, ErrorCode.none)
    retention = getattr(body, "retention_time", None)
    keep_ms = -1 if retention is None else round(retention.total_seconds() * 1000)
    return then(
        error.commit(body.group_id, positions, keep_ms),
        lambda outcome: _answer(body, by_id, errors, _told(outcome)),
    )


def _check(context: BrokerContext, body: object) -> ErrorCode | Shard:
    """The shard that may take the positions, or why none does."""
    group_id: str = getattr(body, "group_id", "")
    shard = context.groups.shard_of(group_id)
    if isinstance(shard, ErrorCode):
        return shard
    error = shard.check_commit(
        group_id,
        getattr(body, "member_id", ""),
        getattr(body, "group_instance_id", None),
        getattr(body, "generation_id_or_member_epoch", -1),
    )
    return shard if error is ErrorCode.none else error


def _topic(context: BrokerContext, topic: object, by_id: bool) -> TopicImage | None:
    image = context.view.image
    if by_id:
        topic_id = getattr(topic, "topic_id", None)
        return None if topic_id is None else image.topic_by_id(topic_id)
    return image.topics.get(getattr(topic, "name", ""))


def _sort_out(
    context: BrokerContext, body: object, by_id: bool
) -> tuple[list[Position], dict[tuple[int, int], ErrorCode]]:
    """What can be written, and the errors of the other rows, by their place in the request."""
    most = context.groups.config.offset_metadata_max_bytes
    positions: list[Position] = []
    errors: dict[tuple[int, int], ErrorCode] = {}
    topics: tuple[object, ...] = getattr(body, "topics", ())
    for at, topic in enumerate(topics):
        found = _topic(context, topic, by_id)
        rows: tuple[object, ...] = getattr(topic, "partitions", ())
        for place, row in enumerate(rows):
            index: int = getattr(row, "partition_index", -1)
            metadata: str | None = getattr(row, "committed_metadata", None)
            if found is None:
                errors[at, place] = ErrorCode.unknown_topic_id if by_id else ErrorCode.unknown_topic_or_partition
            elif index not in found.partitions:
                errors[at, place] = ErrorCode.unknown_topic_or_partition
            elif metadata is not None and len(metadata.encode()) > most:
                errors[at, place] = ErrorCode.offset_metadata_too_large
            else:
                offset: int = getattr(row, "committed_offset", -1)
                epoch: int = getattr(row, "committed_leader_epoch", -1)
                positions.append(Position(found.name, index, offset, epoch, metadata))
    return positions, errors


def _told(outcome: ErrorCode) -> ErrorCode:
    return ErrorCode.invalid_commit_offset_size if outcome is ErrorCode.message_too_large else outcome


def _answer(body: object, by_id: bool, errors: Mapping[tuple[int, int], ErrorCode], others: ErrorCode) -> Answer:
    name = "topic_id" if by_id else "name"
    topics: tuple[object, ...] = getattr(body, "topics", ())
    rows = []
    for at, topic in enumerate(topics):
        partitions: tuple[object, ...] = getattr(topic, "partitions", ())
        rows.append(
            {
                name: getattr(topic, name),
                "partitions": [
                    {
                        "partition_index": getattr(row, "partition_index", -1),
                        "error_code": errors.get((at, place), others),
                    }
                    for place, row in enumerate(partitions)
                ],
            }
        )
    return {"topics": rows}
