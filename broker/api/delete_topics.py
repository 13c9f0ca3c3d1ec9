"""DeleteTopics, v1-v6.

v5 error messages · v6 by topic id (KIP-516).

With delete.topic.enable=false every topic gets TOPIC_DELETION_DISABLED.

Differences from Kafka: none known.
"""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.forwarding import Refusal, ask_controller, seconds
from ottla.controller import DeleteTopics, TopicRef
from ottla.wire import Request

_ZERO_ID = UUID(int=0)


async def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    if request.api_version >= 6:
        asked = [(topic.name, topic.topic_id if topic.topic_id != _ZERO_ID else None) for topic in body.topics]
    else:
        asked = [(name, None) for name in body.topic_names]
    rows: list[dict[str, object]] = []
    wanted: list[TopicRef] = []
    for (name, topic_id), times in Counter(asked).items():
        if (name is None) == (topic_id is None):
            rows.append(_row(name, topic_id, ErrorCode.invalid_request, "Give either a name or an id of a topic."))
        elif times > 1:
            rows.append(_row(name, topic_id, ErrorCode.invalid_request, "Duplicate topic."))
        else:
            wanted.append(TopicRef(name=name, topic_id=topic_id))
    if not context.config.delete_topic_enable:
        disabled = ErrorCode.topic_deletion_disabled
        return {
            "responses": [_row(name, topic_id, disabled, "Topic deletion is disabled.") for name, topic_id in asked]
        }
    if wanted:
        rows += await _delete(context, tuple(wanted), seconds(body.timeout))
    return {"responses": rows}


async def _delete(context: BrokerContext, wanted: tuple[TopicRef, ...], timeout: float) -> list[dict[str, object]]:
    answer = await ask_controller(context, DeleteTopics(topics=wanted), timeout)
    if isinstance(answer, Refusal):
        return [_row(topic.name, topic.topic_id, answer.error, answer.message) for topic in wanted]
    return [
        _row(
            topic.name if topic.name is not None else result.name,
            topic.topic_id if topic.topic_id is not None else result.topic_id,
            ErrorCode(result.error),
            result.message,
        )
        for topic, result in zip(wanted, answer.topics, strict=True)
    ]


def _row(name: str | None, topic_id: UUID | None, error: ErrorCode, message: str | None) -> dict[str, object]:
    return {"name": name, "topic_id": topic_id, "error_code": error, "error_message": message}
