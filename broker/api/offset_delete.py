"""OffsetDelete, v0 (KIP-496): forget positions of topics that no member of the group reads."""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.groups import topics_in_use
from ottla.wire import Request


async def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    shard = context.groups.shard_of(body.group_id)
    if isinstance(shard, ErrorCode):
        return {"error_code": shard}
    error = await shard.settled()
    if error is not ErrorCode.none:
        return {"error_code": error}
    subscribed = topics_in_use(shard, body.group_id)
    if isinstance(subscribed, ErrorCode):
        return {"error_code": subscribed}
    known = context.view.image.topics
    wanted = []
    topics = []
    for topic in body.topics:
        rows = []
        for row in topic.partitions:
            index = row.partition_index
            if topic.name not in known or index not in known[topic.name].partitions:
                error = ErrorCode.unknown_topic_or_partition
            elif topic.name in subscribed:
                error = ErrorCode.group_subscribed_to_topic
            else:
                error = ErrorCode.none
                wanted.append((topic.name, index))
            rows.append({"partition_index": index, "error_code": error})
        topics.append({"name": topic.name, "partitions": rows})
    error = await shard.delete_offsets(body.group_id, wanted)
    if error is not ErrorCode.none:
        return {"error_code": error}
    return {"error_code": ErrorCode.none, "topics": topics}
