"""DescribeTopicPartitions, v0: topics page by page (KIP-966).

Topics are answered in the order of their names. A page ends after `response_partition_limit` partitions, or
`max.request.partition.size.limit` if that is less; `next_cursor` is where the next one begins.

`last_known_elr` has the last known leader where ISR and ELR are empty, as in Kafka.

Differences from Kafka: none known.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.cluster_view import OPERATIONS_NOT_ASKED, partition_row, topic_row
from ottla.broker.context import Answer, BrokerContext
from ottla.controller import NO_LEADER, MetadataImage, topic_name_error
from ottla.wire import Request


def handle(context: BrokerContext, request: Request) -> Answer:
    body, image, listener = request.body, context.view.image, request.connection.listener
    limit = min(max(body.response_partition_limit, 1), context.config.max_request_partition_size_limit)
    names = sorted({topic.name for topic in body.topics} or image.topics)
    first_index = 0
    if body.cursor is not None:
        names = [name for name in names if name >= body.cursor.topic_name]
        if names and names[0] == body.cursor.topic_name:
            first_index = max(body.cursor.partition_index, 0)
    topics: list[dict[str, object]] = []
    cursor: dict[str, object] | None = None
    for name in names:
        if limit == 0:
            cursor = {"topic_name": name, "partition_index": first_index}
            break
        row, taken, rest = _page(image, name, first_index, limit, listener)
        if row is not None:
            topics.append(row)
        limit -= taken
        first_index = 0
        if rest is not None:
            cursor = {"topic_name": name, "partition_index": rest}
            break
    return {"topics": topics, "next_cursor": cursor}


def _page(
    image: MetadataImage, name: str, first: int, limit: int, listener: str
) -> tuple[dict[str, object] | None, int, int | None]:
    """(the topic's row, partitions in it, the index from which the next page goes on or None)."""
    topic = image.topics.get(name)
    if topic is None:
        error = (
            ErrorCode.unknown_topic_or_partition
            if topic_name_error(name) is None
            else ErrorCode.invalid_topic_exception
        )
        refused = {
            "error_code": error,
            "name": name,
            "topic_id": None,
            "partitions": (),
            "topic_authorized_operations": OPERATIONS_NOT_ASKED,
        }
        return refused, 0, None
    indexes = [index for index in sorted(topic.partitions) if index >= first]
    rows = []
    for index in indexes[:limit]:
        row = partition_row(image, index, topic.partitions[index], listener)
        state = topic.partitions[index]
        row["eligible_leader_replicas"] = state.elr
        row["last_known_elr"] = () if state.last_known_leader == NO_LEADER else (state.last_known_leader,)
        rows.append(row)
    rest = indexes[limit] if len(indexes) > limit else None
    return topic_row(topic, rows, operations=True), len(rows), rest
