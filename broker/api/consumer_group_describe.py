"""ConsumerGroupDescribe, v0-v1 (KIP-848): groups of the new protocol, with what each member has and is to have.

v1 the type of each member (KIP-1099).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.broker.cluster_view import OPERATIONS_NOT_ASKED
from ottla.broker.context import Answer, BrokerContext
from ottla.broker.features import consumer_groups_enabled
from ottla.broker.groups import described
from ottla.broker.groups.consumer import DEFAULT_ASSIGNOR, ConsumerGroup, Partitions, by_topic
from ottla.wire import Request

_ALL_OPERATIONS = sum(1 << bit for bit in (3, 6, 8))
_CLASSIC_MEMBER, _CONSUMER_MEMBER = 0, 1


def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    operations = _ALL_OPERATIONS if body.include_authorized_operations else OPERATIONS_NOT_ASKED
    groups = [{**_group(context, each), "authorized_operations": operations} for each in body.group_ids]
    return {"groups": groups}


def _group(context: BrokerContext, group_id: str) -> dict[str, object]:
    if not consumer_groups_enabled(context.view.image):
        return {"group_id": group_id, "error_code": ErrorCode.unsupported_version}
    if not group_id:
        return {"group_id": group_id, "error_code": ErrorCode.invalid_group_id}
    shard = context.groups.shard_of(group_id)
    if isinstance(shard, ErrorCode):
        return {"group_id": group_id, "error_code": shard}
    group = shard.consumers.groups.get(group_id)
    if group is None:
        message = f"Group {group_id} not found." if described(shard, group_id) is None else "Not a consumer group."
        return {"group_id": group_id, "error_code": ErrorCode.group_id_not_found, "error_message": message}
    names = context.view.image.topic_names
    votes = Counter(facts.assignor for facts in group.members.values() if facts.assignor is not None)
    return {
        "group_id": group_id,
        "error_code": ErrorCode.none,
        "group_state": group.state,
        "group_epoch": group.epoch,
        "assignment_epoch": group.target_epoch,
        "assignor_name": votes.most_common(1)[0][0] if votes else DEFAULT_ASSIGNOR,
        "members": [_member(group, member_id, names) for member_id in group.members],
    }


def _member(group: ConsumerGroup, member_id: str, names: Mapping[UUID, str]) -> dict[str, object]:
    facts, current = group.members[member_id], group.of(member_id)
    return {
        "member_id": member_id,
        "instance_id": facts.instance_id,
        "rack_id": facts.rack_id,
        "member_epoch": current.epoch,
        "client_id": facts.client_id,
        "client_host": facts.client_host,
        "subscribed_topic_names": facts.topics,
        "subscribed_topic_regex": facts.regex,
        "assignment": _assignment(current.assigned, names),
        "target_assignment": _assignment(group.targets.get(member_id, frozenset()), names),
        "member_type": _CONSUMER_MEMBER if facts.classic is None else _CLASSIC_MEMBER,
    }


def _assignment(partitions: Partitions, names: Mapping[UUID, str]) -> dict[str, object]:
    topics = [
        {"topic_id": topic, "topic_name": names[topic], "partitions": indexes}
        for topic, indexes in by_topic(partitions)
        if topic in names
    ]
    return {"topic_partitions": topics}
