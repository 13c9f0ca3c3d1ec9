"""SyncGroup, v0-v5: the leader hands in the assignment, everybody takes out its own.

v3 static membership (KIP-345) · v5 protocol type and name, checked (KIP-559).

While the coordinator loads, the answer is REBALANCE_IN_PROGRESS, as Kafka's: the rebalance that was going on is not in
the log, so that the member has to join again, which it is told by a code that clients of any age expect here.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.answering import then
from ottla.broker.context import Answer, BrokerContext, Reply
from ottla.broker.groups.classic import Answer as GroupAnswer
from ottla.broker.groups.classic import Sync, SyncAnswer
from ottla.wire import Request

_TELLS_PROTOCOL = 5


def handle(context: BrokerContext, request: Request) -> Reply:
    body = request.body
    if not body.group_id:
        return _row(SyncAnswer(ErrorCode.invalid_group_id))
    if request.api_version >= _TELLS_PROTOCOL and (body.protocol_type is None or body.protocol_name is None):
        return _row(SyncAnswer(ErrorCode.inconsistent_group_protocol))
    shard = context.groups.shard_of(body.group_id)
    if shard is ErrorCode.coordinator_load_in_progress:
        return _row(SyncAnswer(ErrorCode.rebalance_in_progress))
    if isinstance(shard, ErrorCode):
        return _row(SyncAnswer(shard))
    found = shard.sync(body.group_id, lambda ticket: _sync(body, ticket), SyncAnswer)
    return _row(found) if isinstance(found, GroupAnswer) else then(found, _row)


def _sync(body: object, ticket: int) -> Sync:
    given: tuple[object, ...] = getattr(body, "assignments", ())
    return Sync(
        ticket=ticket,
        member_id=getattr(body, "member_id", ""),
        instance_id=getattr(body, "group_instance_id", None),
        generation=getattr(body, "generation_id", -1),
        protocol_type=getattr(body, "protocol_type", None),
        protocol=getattr(body, "protocol_name", None),
        assignments=tuple((getattr(row, "member_id", ""), bytes(getattr(row, "assignment", b""))) for row in given),
    )


def _row(answer: GroupAnswer) -> Answer:
    assert isinstance(answer, SyncAnswer)
    return {
        "error_code": answer.error,
        "protocol_type": answer.protocol_type,
        "protocol_name": answer.protocol,
        "assignment": answer.assignment,
    }
