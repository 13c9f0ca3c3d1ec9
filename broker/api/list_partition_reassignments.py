"""ListPartitionReassignments, v0: which partitions are on their way to other replicas (KIP-455).

Answered from this broker's own metadata, once they are as new as the active controller's.

Differences from Kafka: a replica can be among the adding and the removing ones, if it was still being added when other
replicas were asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.forwarding import Refusal, ask_controller, seconds
from ottla.controller import MetadataImage, ReadBarrier
from ottla.wire import Request


async def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    answer = await ask_controller(context, ReadBarrier(), seconds(body.timeout))
    if isinstance(answer, Refusal):
        return {"error_code": answer.error, "error_message": answer.message, "topics": ()}
    image = context.view.image
    if body.topics is None:
        wanted: dict[str, Iterable[int]] = {name: sorted(topic.partitions) for name, topic in image.topics.items()}
    else:
        wanted = {topic.name: dict.fromkeys(topic.partition_indexes) for topic in body.topics}
    rows = [(name, _rows(image, name, indexes)) for name, indexes in wanted.items()]
    return {
        "error_code": ErrorCode.none,
        "error_message": None,
        "topics": [{"name": name, "partitions": partitions} for name, partitions in rows if partitions],
    }


def _rows(image: MetadataImage, topic: str, indexes: Iterable[int]) -> list[dict[str, object]]:
    """Of a partition that there is none of, there is nothing to list either, as in Kafka."""
    found = ((index, image.partition(topic, index)) for index in indexes)
    return [
        {
            "partition_index": index,
            "replicas": state.replicas,
            "adding_replicas": state.adding,
            "removing_replicas": state.removing,
        }
        for index, state in found
        if state is not None and state.reassigning
    ]
