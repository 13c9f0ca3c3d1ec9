"""JoinGroup, v0-v9.

v1 rebalance timeout (KIP-62; before it the session timeout stands for it) · v4 MEMBER_ID_REQUIRED (KIP-394) ·
v5 static membership (KIP-345) · v7 protocol type in the answer (KIP-559) · v8 the reason (KIP-800) · v9 skip_assignment
(KIP-814).

Differences from Kafka: a member that asks again while its first request waits gets REBALANCE_IN_PROGRESS to the first,
which Kafka leaves without an answer. The id of a member has at most 255 characters of its client id or instance id. A
member that is in no generation yet goes with its connection, a static one too; in Kafka it stays for five minutes. No
more than 10,000 members of a group, and 50,000 of all groups of a broker, or what they sent in 16 and 64 MiB, may be
new: such as have an id that they have not used, or are in no generation that is written down. Those who do not wait for
an answer make room, the oldest first (UNKNOWN_MEMBER_ID when they come); when there are only such as wait, one more is
told COORDINATOR_NOT_AVAILABLE, upon which clients come again, as they would not upon GROUP_MAX_SIZE_REACHED. A group
that nobody stayed in until its first generation was written leaves no record. A static member that comes back while
partitions wait for the second half of a cooperative rebalance begins it, as the one that was to do so may have been its
former life; in Kafka nobody reads them any more. So does one that comes back with other topics (KAFKA-12759).
"""

from __future__ import annotations

from functools import partial
from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.broker.answering import then
from ottla.broker.context import Answer, BrokerContext, Reply
from ottla.broker.groups import client_host
from ottla.broker.groups.classic import Answer as GroupAnswer
from ottla.broker.groups.classic import Join, JoinAnswer
from ottla.wire import Request

_KNOWS_ID_REQUIRED = 4
_NULLABLE_PROTOCOL = 7
_KNOWS_SKIP = 9
_ID_PREFIX = 255
"""Characters of the client id or the instance id that a member id begins with."""


def handle(context: BrokerContext, request: Request) -> Reply:
    body, version = request.body, request.api_version
    refuse = partial(JoinAnswer, member_id=body.member_id)
    error = _check(context, request)
    if error is not ErrorCode.none:
        return _row(version, refuse(error))
    shard = context.groups.shard_of(body.group_id)
    if isinstance(shard, ErrorCode):
        return _row(version, refuse(shard))
    found = shard.join(body.group_id, body.member_id == "", lambda ticket: _join(context, request, ticket), refuse)
    if isinstance(found, GroupAnswer):
        return _row(version, found)
    return then(found, partial(_row, version))


def _check(context: BrokerContext, request: Request) -> ErrorCode:
    body, config = request.body, context.groups.config
    if not body.group_id:
        return ErrorCode.invalid_group_id
    session_ms = _ms(body.session_timeout)
    if not config.group_min_session_timeout_ms <= session_ms <= config.group_max_session_timeout_ms:
        return ErrorCode.invalid_session_timeout
    return ErrorCode.none


def _join(context: BrokerContext, request: Request, ticket: int) -> Join:
    body, version = request.body, request.api_version
    instance_id: str | None = getattr(body, "group_instance_id", None)
    client_id = request.client_id or ""
    session_ms = _ms(body.session_timeout)
    rebalance = getattr(body, "rebalance_timeout", None)
    fresh = UUID(int=context.rng.getrandbits(128), version=4)
    return Join(
        ticket=ticket,
        member_id=body.member_id,
        instance_id=instance_id,
        client_id=client_id,
        client_host=client_host(request.connection.peer),
        session_ms=session_ms,
        rebalance_ms=session_ms if rebalance is None else max(_ms(rebalance), 0),
        protocol_type=body.protocol_type,
        protocols=tuple((row.name, bytes(row.metadata)) for row in body.protocols),
        fresh_id=f"{(client_id if instance_id is None else instance_id)[:_ID_PREFIX]}-{fresh}",
        may_defer_id=version >= _KNOWS_ID_REQUIRED,
        may_skip=version >= _KNOWS_SKIP,
        reason=getattr(body, "reason", None) or "",
    )


def _ms(span: object) -> int:
    """A kio duration in ms, exactly."""
    seconds: float = getattr(span, "total_seconds")()  # noqa: B009
    return round(seconds * 1000)


def _row(version: int, answer: GroupAnswer) -> Answer:
    assert isinstance(answer, JoinAnswer)
    protocol = answer.protocol
    return {
        "error_code": answer.error,
        "generation_id": answer.generation,
        "protocol_type": answer.protocol_type,
        "protocol_name": "" if protocol is None and version < _NULLABLE_PROTOCOL else protocol,
        "leader": answer.leader,
        "skip_assignment": answer.skip_assignment,
        "member_id": answer.member_id,
        "members": [
            {"member_id": row.member_id, "group_instance_id": row.instance_id, "metadata": row.metadata}
            for row in answer.members
        ],
    }
