"""CreateTopics, v2-v7.

v4 -1 for the broker's defaults · v5 the configuration is answered (KIP-525) · v7 topic ids.

The settings that begin with ottla.policy are limits of the cluster; what breaks them is a POLICY_VIOLATION, as what
Kafka's create.topic.policy.class.name refuses.

Differences from Kafka: the answer comes when the topic is committed and seen by this broker; `timeout` bounds only the
wait for the active controller. A name asked for twice is refused INVALID_REQUEST once, as in Kafka. Kafka's internal
topics may be made by hand, as there, but get what they need (compaction) unless the request says otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kio.schema.errors import ErrorCode

from ottla.broker.config_view import described_topic_config
from ottla.broker.context import Answer, BrokerContext
from ottla.broker.coordination import INTERNAL_TOPICS
from ottla.broker.forwarding import Refusal, ask_controller, seconds
from ottla.controller import CreateTopics, NewTopic, TopicResult
from ottla.wire import Request


async def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    counts = Counter(topic.name for topic in body.topics)
    rows = [
        _row(name, ErrorCode.invalid_request, "Duplicate topic name.") for name, count in counts.items() if count > 1
    ]
    wanted: list[NewTopic] = []
    for topic in body.topics:
        if counts[topic.name] > 1:
            continue
        problem = _problem(topic)
        if problem is not None:
            rows.append(_row(topic.name, *problem))
        else:
            wanted.append(_new_topic(context, topic))
    if wanted:
        rows += await _create(context, wanted, body.validate_only, seconds(body.timeout))
    return {"topics": rows}


def _problem(topic: object) -> tuple[ErrorCode, str] | None:
    """What the controller's request could not even express."""
    assignments: Sequence[object] = getattr(topic, "assignments", ())
    indexes = [getattr(assignment, "partition_index", -1) for assignment in assignments]
    if len(set(indexes)) != len(indexes):
        return ErrorCode.invalid_replica_assignment, "A partition is assigned twice."
    configs: Sequence[object] = getattr(topic, "configs", ())
    names = [getattr(config, "name", "") for config in configs]
    if len(set(names)) != len(names):
        return ErrorCode.invalid_request, "A config is given twice."
    return None


def _new_topic(context: BrokerContext, topic: object) -> NewTopic:
    assignments = {
        assignment.partition_index: tuple(assignment.broker_ids) for assignment in getattr(topic, "assignments", ())
    }
    name = getattr(topic, "name", "")
    internal = name in INTERNAL_TOPICS
    given = {config.name: config.value for config in getattr(topic, "configs", ())}
    return NewTopic(
        name=name,
        partitions=getattr(topic, "num_partitions", -1),
        replication_factor=getattr(topic, "replication_factor", -1),
        assignments=assignments or None,
        configs={**_internal_configs(context, topic), **given},
        internal=internal,
    )


def _internal_configs(context: BrokerContext, topic: object) -> dict[str, str | None]:
    """An internal topic made by hand gets its own form; of the replicas that the cluster's default gives it, nothing is
    known here."""
    for spec in (context.groups.topic.spec, context.transactions.topic.spec):
        if spec.name == getattr(topic, "name", ""):
            rows = getattr(topic, "assignments", ())
            replicas = len(rows[0].broker_ids) if rows else getattr(topic, "replication_factor", -1)
            return spec.configs_for(replicas) if replicas > 0 else dict(spec.configs)
    return {}


async def _create(
    context: BrokerContext, wanted: list[NewTopic], validate_only: bool, timeout: float
) -> list[dict[str, object]]:
    answer = await ask_controller(context, CreateTopics(topics=tuple(wanted), validate_only=validate_only), timeout)
    if isinstance(answer, Refusal):
        return [_row(topic.name, answer.error, answer.message) for topic in wanted]
    return [_created(context, topic, result) for topic, result in zip(wanted, answer.topics, strict=True)]


def _created(context: BrokerContext, topic: NewTopic, result: TopicResult) -> dict[str, object]:
    row = _row(topic.name, ErrorCode(result.error), result.message)
    if result.error == ErrorCode.none:
        given = {name: value for name, value in topic.configs.items() if value is not None}
        row["topic_id"] = result.topic_id
        row["num_partitions"] = result.partitions
        row["replication_factor"] = result.replication_factor
        row["configs"] = described_topic_config(context, topic.name, given=given)
    return row


def _row(name: str, error: ErrorCode, message: str | None) -> dict[str, object]:
    return {"name": name, "error_code": error, "error_message": message, "configs": None}
