"""Metadata, v0-v13: brokers, topics and who leads what.

v1 null topics mean all (in v0 none do) · v4 allow_auto_topic_creation · v5 offline replicas · v7 leader epochs ·
v8 authorized operations · v10 topic ids in answers · v12 lookup by topic id · v13 top-level error.

Differences from Kafka: `controller_id` is the active controller where that is a broker, not a random broker. A name
that is not text is refused before it gets here, not replaced by U+FFFD.

An unknown topic is created where both the broker and the request allow it; as in Kafka's KRaft mode the answer does not
wait for that and says UNKNOWN_TOPIC_OR_PARTITION, so that the client asks again.
"""

from __future__ import annotations

from uuid import UUID

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.cluster_view import (
    ALL_CLUSTER_OPERATIONS,
    OPERATIONS_NOT_ASKED,
    broker_row,
    endpoints,
    partition_row,
    shown_controller,
    topic_row,
)
from ottla.broker.context import Answer, BrokerContext
from ottla.broker.coordination import INTERNAL_TOPICS
from ottla.controller import CreateTopics, MetadataImage, NewTopic, RpcError, TopicImage, topic_name_error
from ottla.wire import Request

log = structlog.get_logger(__name__)

CREATE_TIMEOUT_S = 30.0
MAX_CREATING = 1000
_ZERO_ID = UUID(int=0)


def handle(context: BrokerContext, request: Request) -> Answer:
    body, version = request.body, request.api_version
    image, listener = context.view.image, request.connection.listener
    operations = getattr(body, "include_topic_authorized_operations", False)
    topics: list[dict[str, object]] = []
    missing: list[str] = []
    if body.topics is None or (version == 0 and not body.topics):
        topics = [_topic(image, topic, listener, operations) for topic in image.topics.values()]
    else:
        # Each once, as in Kafka: a large topic named thousands of times would be a very large answer.
        for wanted in dict.fromkeys(body.topics):
            topics.append(_wanted(image, wanted, version, listener, operations, missing))
    if missing and context.config.auto_create_topics_enable and getattr(body, "allow_auto_topic_creation", True):
        create_topics(context, missing)
    return {
        "brokers": [broker_row(broker, address, "node_id") for broker, address in endpoints(image, listener)],
        "cluster_id": image.cluster_id,
        "controller_id": shown_controller(image, listener, context.quorum().leader_id, context.node_id),
        "topics": topics,
        "error_code": ErrorCode.none,
        "cluster_authorized_operations": ALL_CLUSTER_OPERATIONS
        if getattr(body, "include_cluster_authorized_operations", False)
        else OPERATIONS_NOT_ASKED,
    }


def _wanted(
    image: MetadataImage, wanted: object, version: int, listener: str, operations: bool, missing: list[str]
) -> dict[str, object]:
    """One topic asked for by name, or from v12 on by id. Unknown names that may be created go to `missing`."""
    name: str | None = getattr(wanted, "name", None)
    topic_id: UUID | None = getattr(wanted, "topic_id", None)
    if topic_id == _ZERO_ID:
        topic_id = None
    if topic_id is not None:
        if version < 12 or name is not None:
            return _refused(ErrorCode.invalid_request, name or "", topic_id)
        topic = image.topic_by_id(topic_id)
        return (
            _refused(ErrorCode.unknown_topic_id, None, topic_id)
            if topic is None
            else _topic(image, topic, listener, operations)
        )
    if name is None:
        return _refused(ErrorCode.invalid_request, "", None)
    topic = image.topics.get(name)
    if topic is not None:
        return _topic(image, topic, listener, operations)
    if topic_name_error(name) is not None:
        return _refused(ErrorCode.invalid_topic_exception, name, None)
    missing.append(name)
    return _refused(ErrorCode.unknown_topic_or_partition, name, None)


def _topic(image: MetadataImage, topic: TopicImage, listener: str, operations: bool) -> dict[str, object]:
    rows = [partition_row(image, index, partition, listener) for index, partition in topic.partitions.items()]
    return topic_row(topic, rows, operations=operations)


def _refused(error: ErrorCode, name: str | None, topic_id: UUID | None) -> dict[str, object]:
    return {
        "error_code": error,
        "name": name,
        "topic_id": topic_id,
        "partitions": (),
        "topic_authorized_operations": OPERATIONS_NOT_ASKED,
    }


def create_topics(context: BrokerContext, names: list[str]) -> None:
    """Ask the controller for these topics, with the cluster's defaults, unless that is under way already.

    An internal topic is made by whoever needs it, in its own form.
    """
    for topic in (context.groups.topic, context.transactions.topic):
        if topic.spec.name in names:
            context.background.start(f"auto-create-{topic.spec.name}", topic.ensure())
    own = context.creating_topics | INTERNAL_TOPICS
    wanted = tuple(dict.fromkeys(name for name in names if name not in own))
    wanted = wanted[: max(0, MAX_CREATING - len(context.creating_topics))]
    if wanted:
        context.creating_topics.update(wanted)
        if not context.background.start("auto-create-topics", _create(context, wanted)):
            context.creating_topics.difference_update(wanted)


async def _create(context: BrokerContext, names: tuple[str, ...]) -> None:
    try:
        request = CreateTopics(topics=tuple(NewTopic(name=name) for name in names))
        response = await context.controller.call(request, timeout=CREATE_TIMEOUT_S)
        for topic in response.topics:
            if topic.error not in (ErrorCode.none, ErrorCode.topic_already_exists):
                log.warning("topic_auto_creation_refused", topic=topic.name, error=topic.error, message=topic.message)
    except RpcError as error:
        # The client asks for metadata again, and with that for the topic.
        log.warning("topic_auto_creation_failed", topics=names, reason=str(error))
    finally:
        context.creating_topics.difference_update(names)
