"""ConsumerGroupHeartbeat, v0-v1 (KIP-848): a member joins, lives, tells what it has, learns what it is to have, leaves.

v1 the client makes its own member id, and may subscribe by regular expression.

A classic group of consumers is moved over with its members (`group.consumer.migration.policy`), an empty one gives way.

Differences from Kafka: who finds a classic group that is empty, or is just being written, is asked to come again
(COORDINATOR_LOAD_IN_PROGRESS). Members of which nothing was heard since they joined are bounded as new ones of classic
groups are (JoinGroup): the oldest go before their session ends. Who joins and is gone before its turn comes does not
become a member. A member of the classic protocol that joins the group has one owner for each partition,
also where its own assignor had given one to two members. Regular expressions have the syntax of RE2 without scripts
(such as Greek), and 512 characters and 2,000 steps at most (else INVALID_REGULAR_EXPRESSION). New ones are
resolved at once where that is little work; Kafka does that later, and a group's second one 10 s after its first. All of
a group are resolved anew with the first heartbeat after topics have changed, and no sooner than 10 s after the last
time, as in Kafka; a topic that has gone or has grown counts there too, and Kafka's time-out of 10 minutes
(`group.consumer.regex.refresh.interval.ms`), which is for changed ACLs, is not needed. An assignment is in every answer
until the member says that it owns it. Kafka tells it once, and to members that say everything anew: one that loses that
answer and does not do so (librdkafka, when a request times out) waits for good.
"""

from __future__ import annotations

from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.broker.answering import then
from ottla.broker.context import Answer, BrokerContext, Reply
from ottla.broker.features import consumer_groups_enabled
from ottla.broker.groups import client_host
from ottla.broker.groups.consumer import ASSIGNORS, AWAY, LEAVING, Beat, BeatAnswer, by_topic
from ottla.broker.re2 import compiled
from ottla.wire import Request


def handle(context: BrokerContext, request: Request) -> Reply:
    body = request.body
    if not consumer_groups_enabled(context.view.image):
        return _row(context, body.group_id, BeatAnswer(ErrorCode.unsupported_version))
    beat = _beat(context, request)
    refused = _check(body.group_id, beat)
    if refused is not None:
        return _row(context, body.group_id, refused)
    shard = context.groups.shard_of(body.group_id)
    if isinstance(shard, ErrorCode):
        return _row(context, body.group_id, BeatAnswer(shard))
    found = shard.beat(body.group_id, beat)
    if isinstance(found, BeatAnswer):
        return _row(context, body.group_id, found)
    return then(found, lambda answer: _row(context, body.group_id, answer))


def _beat(context: BrokerContext, request: Request) -> Beat:
    body = request.body
    owned = None
    if body.topic_partitions is not None:
        owned = frozenset((row.topic_id, index) for row in body.topic_partitions for index in row.partitions)
    member_id = body.member_id
    if not member_id and body.member_epoch == 0 and request.api_version == 0:
        member_id = str(UUID(int=context.rng.getrandbits(128), version=4))
    return Beat(
        member_id=member_id,
        epoch=body.member_epoch,
        instance_id=body.instance_id,
        rack_id=body.rack_id,
        client_id=request.client_id or "",
        client_host=client_host(request.connection.peer),
        rebalance_ms=round(body.rebalance_timeout.total_seconds() * 1000),
        topics=body.subscribed_topic_names,
        regex=getattr(body, "subscribed_topic_regex", None),
        assignor=body.server_assignor,
        owned=owned,
    )


def _check(group_id: str, beat: Beat) -> BeatAnswer | None:
    problem = _problem(group_id, beat)
    if problem is not None:
        return BeatAnswer(ErrorCode.invalid_request, message=problem)
    if beat.assignor is not None and beat.assignor not in ASSIGNORS:
        supported = ", ".join(ASSIGNORS)
        message = f"ServerAssignor {beat.assignor} is not supported. Supported assignors: {supported}."
        return BeatAnswer(ErrorCode.unsupported_assignor, message=message)
    if beat.regex and compiled(beat.regex) is None:
        message = f"SubscribedTopicRegex `{beat.regex}` is not a regular expression that this broker takes."
        return BeatAnswer(ErrorCode.invalid_regular_expression, message=message)
    return None


def _problem(group_id: str, beat: Beat) -> str | None:
    for name, value in (("GroupId", group_id), ("MemberId", beat.member_id)):
        if not value.strip():
            return f"{name} can't be empty."
    for name, given in (("InstanceId", beat.instance_id), ("RackId", beat.rack_id)):
        if given is not None and not given.strip():
            return f"{name} can't be empty."
    if beat.epoch < AWAY:
        return "MemberEpoch is invalid."
    if beat.epoch == AWAY and beat.instance_id is None:
        return "InstanceId can't be null."
    return _problem_of_first(beat) if beat.epoch == 0 else None


def _problem_of_first(beat: Beat) -> str | None:
    if beat.rebalance_ms < 0:
        return "RebalanceTimeoutMs must be provided in first request."
    if beat.owned is None or beat.owned:
        return "TopicPartitions must be empty when (re-)joining."
    if beat.topics is None and beat.regex is None:
        return "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining."
    return None


def _row(context: BrokerContext, group_id: str, answer: BeatAnswer) -> Answer:
    leaving = answer.epoch in (LEAVING, AWAY)
    row: dict[str, object] = {
        "error_code": answer.error,
        "error_message": answer.message,
        "member_id": answer.member_id or None,
        "member_epoch": answer.epoch if answer.error is ErrorCode.none else 0,
        "heartbeat_interval": 0 if leaving else context.groups.member_times(group_id).heartbeat_ms,
    }
    if answer.assignment is not None and not leaving:
        topics = [{"topic_id": topic, "partitions": indexes} for topic, indexes in by_topic(answer.assignment)]
        row["assignment"] = {"topic_partitions": topics}
    return row
