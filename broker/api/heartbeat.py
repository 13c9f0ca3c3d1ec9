"""Heartbeat, v0-v4: a member of a classic group lives. v3 static membership (KIP-345).

While the coordinator loads, every member is told that all is well, as by Kafka: its session begins anew when that is
done, and clients do not expect COORDINATOR_LOAD_IN_PROGRESS here (aiokafka's member would never beat again).
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.wire import Request


def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    if not body.group_id:
        return {"error_code": ErrorCode.invalid_group_id}
    shard = context.groups.shard_of(body.group_id)
    if shard is ErrorCode.coordinator_load_in_progress:
        return {"error_code": ErrorCode.none}
    if isinstance(shard, ErrorCode):
        return {"error_code": shard}
    instance_id: str | None = getattr(body, "group_instance_id", None)
    return {"error_code": shard.heartbeat(body.group_id, body.member_id, instance_id, body.generation_id)}
