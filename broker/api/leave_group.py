"""LeaveGroup, v0-v5. v3 many members at once, by member id or instance id (KIP-345) · v5 the reason (KIP-800).

In a KIP-848 group members of either protocol are taken out, as in Kafka 4.1: it is how an administrator removes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from kio.schema.errors import ErrorCode

from ottla.broker.answering import then
from ottla.broker.context import Answer, BrokerContext, Reply
from ottla.broker.groups.classic import Identity
from ottla.wire import Request

_MANY = 3

Left = list[ErrorCode] | ErrorCode


def handle(context: BrokerContext, request: Request) -> Reply:
    body = request.body
    if not body.group_id:
        return {"error_code": ErrorCode.invalid_group_id}
    shard = context.groups.shard_of(body.group_id)
    if isinstance(shard, ErrorCode):
        return {"error_code": shard}
    if request.api_version < _MANY:
        left = shard.leave(body.group_id, [Identity(body.member_id)])
        return then(left, _one) if isinstance(left, asyncio.Future) else _one(left)
    identities = [
        Identity(row.member_id, row.group_instance_id, getattr(row, "reason", None) or "") for row in body.members
    ]
    left = shard.leave(body.group_id, identities)
    answer = partial(_many, identities)
    return then(left, answer) if isinstance(left, asyncio.Future) else answer(left)


def _one(left: Left) -> Answer:
    return {"error_code": left if isinstance(left, ErrorCode) else left[0]}


def _many(identities: Sequence[Identity], left: Left) -> Answer:
    errors = [left] * len(identities) if isinstance(left, ErrorCode) else left
    rows = [
        {"member_id": each.member_id, "group_instance_id": each.instance_id, "error_code": error}
        for each, error in zip(identities, errors, strict=True)
    ]
    return {"error_code": ErrorCode.none, "members": rows}
