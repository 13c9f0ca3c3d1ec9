"""OffsetCommit, v2-v10: answered when the positions are replicated, never before.

v2-v4 the request's own retention · v5 none (KIP-211) · v6 leader epochs (KIP-320) · v7 static membership (KIP-345) ·
v9 member epochs (KIP-848) · v10 topic ids.

Differences from Kafka: metadata longer than `offset.metadata.max.bytes` is measured in bytes of UTF-8, not in
characters. What a KIP-848 group has committed is kept for `offsets.retention.minutes` after its last member has gone,
as that of a classic one (KIP-211); Kafka counts from each commit then.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.answering import then
from ottla.broker.api.committed_positions import answer, sort_out, told
from ottla.broker.context import BrokerContext, Reply
from ottla.broker.groups import Shard
from ottla.wire import Request

_BY_ID = 10


def handle(context: BrokerContext, request: Request) -> Reply:
    body, by_id = request.body, request.api_version >= _BY_ID
    positions, errors = sort_out(context, body, by_id)
    error = _check(context, body)
    if isinstance(error, ErrorCode):
        return answer(body, by_id, {}, error)
    if not positions:
        return answer(body, by_id, errors, ErrorCode.none)
    retention = getattr(body, "retention_time", None)
    keep_ms = -1 if retention is None else round(retention.total_seconds() * 1000)
    return then(
        error.commits.commit(body.group_id, positions, keep_ms),
        lambda outcome: answer(body, by_id, errors, told(outcome)),
    )


def _check(context: BrokerContext, body: object) -> ErrorCode | Shard:
    """The shard that may take the positions, or why none does."""
    group_id: str = getattr(body, "group_id", "")
    shard = context.groups.shard_of(group_id)
    if isinstance(shard, ErrorCode):
        return shard
    error = shard.commits.check(
        group_id,
        getattr(body, "member_id", ""),
        getattr(body, "group_instance_id", None),
        getattr(body, "generation_id_or_member_epoch", -1),
    )
    return shard if error is ErrorCode.none else error
