"""LeaveGroup, v0-v5. v3 many members at once, by member id or instance id (KIP-345) · v5 the reason (KIP-800)."""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.groups.classic import Identity
from ottla.wire import Request

_MANY = 3


def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    if not body.group_id:
        return {"error_code": ErrorCode.invalid_group_id}
    shard = context.groups.shard_of(body.group_id)
    if isinstance(shard, ErrorCode):
        return {"error_code": shard}
    if request.api_version < _MANY:
        errors = shard.leave(body.group_id, [Identity(body.member_id)])
        return {"error_code": errors if isinstance(errors, ErrorCode) else errors[0]}
    identities = [
        Identity(row.member_id, row.group_instance_id, getattr(row, "reason", None) or "") for row in body.members
    ]
    errors = shard.leave(body.group_id, identities)
    if isinstance(errors, ErrorCode):
        errors = [errors] * len(identities)
    rows = [
        {"member_id": each.member_id, "group_instance_id": each.instance_id, "error_code": error}
        for each, error in zip(identities, errors, strict=True)
    ]
    return {"error_code": ErrorCode.none, "members": rows}
