"""CreatePartitions, v0-v3: more partitions for topics that exist (KIP-195).

Differences from Kafka: none known.
"""

from __future__ import annotations

from collections import Counter

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.forwarding import Refusal, ask_controller, seconds
from ottla.controller import CreatePartitions, MorePartitions
from ottla.wire import Request


async def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    counts = Counter(topic.name for topic in body.topics)
    rows = [
        _row(name, ErrorCode.invalid_request, "Duplicate topic in request.")
        for name, count in counts.items()
        if count > 1
    ]
    wanted = tuple(
        MorePartitions(
            name=topic.name,
            count=topic.count,
            assignments=None
            if topic.assignments is None
            else tuple(tuple(assignment.broker_ids) for assignment in topic.assignments),
        )
        for topic in body.topics
        if counts[topic.name] == 1
    )
    if wanted:
        rows += await _create(context, wanted, body.validate_only, seconds(body.timeout))
    return {"results": rows}


async def _create(
    context: BrokerContext, wanted: tuple[MorePartitions, ...], validate_only: bool, timeout: float
) -> list[dict[str, object]]:
    answer = await ask_controller(context, CreatePartitions(topics=wanted, validate_only=validate_only), timeout)
    if isinstance(answer, Refusal):
        return [_row(topic.name, answer.error, answer.message) for topic in wanted]
    return [
        _row(topic.name, ErrorCode(result.error), result.message)
        for topic, result in zip(wanted, answer.topics, strict=True)
    ]


def _row(name: str, error: ErrorCode, message: str | None) -> dict[str, object]:
    return {"name": name, "error_code": error, "error_message": message}
