"""DescribeGroups, v0-v6: classic groups and their members.

v3 authorized operations · v4 static membership (KIP-345) · v6 GROUP_ID_NOT_FOUND for what is none (KIP-1043; before it
a group that does not exist is described as Dead).
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.cluster_view import OPERATIONS_NOT_ASKED
from ottla.broker.context import Answer, BrokerContext
from ottla.broker.groups import described
from ottla.wire import Request

_TELLS_NOT_FOUND = 6
# Read, Delete, Describe, as bits of the numbers that Kafka's AclOperation has for them.
_ALL_OPERATIONS = sum(1 << bit for bit in (3, 6, 8))


def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    asked = getattr(body, "include_authorized_operations", False)
    operations = _ALL_OPERATIONS if asked else OPERATIONS_NOT_ASKED
    return {
        "groups": [
            {**_group(context, group_id, request.api_version), "authorized_operations": operations}
            for group_id in body.groups
        ]
    }


def _group(context: BrokerContext, group_id: str, version: int) -> dict[str, object]:
    shard = context.groups.shard_of(group_id)
    if isinstance(shard, ErrorCode):
        return {"group_id": group_id, "error_code": shard}
    found = described(shard, group_id)
    if found is None:
        known = version >= _TELLS_NOT_FOUND
        return {
            "group_id": group_id,
            "group_state": "Dead",
            "error_code": ErrorCode.group_id_not_found if known else ErrorCode.none,
            "error_message": f"Group {group_id} not found." if known else None,
        }
    return {
        "group_id": group_id,
        "error_code": ErrorCode.none,
        "group_state": found.state,
        "protocol_type": found.protocol_type,
        "protocol_data": found.protocol,
        "members": [
            {
                "member_id": member.id,
                "group_instance_id": member.instance_id,
                "client_id": member.client_id,
                "client_host": member.client_host,
                "member_metadata": member.metadata,
                "member_assignment": member.assignment,
            }
            for member in found.members
        ],
    }
