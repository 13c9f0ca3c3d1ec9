"""ListGroups, v0-v5: the groups that this broker coordinates. v4 by state (KIP-518) · v5 by type (KIP-848)."""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.groups import overviews
from ottla.wire import Request


def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    states = {state.lower() for state in getattr(body, "states_filter", ())}
    types = {kind.lower() for kind in getattr(body, "types_filter", ())}
    rows = []
    for shard in context.groups.shards():
        if not shard.log.ready:
            return {"error_code": ErrorCode.coordinator_load_in_progress}
        rows += [
            {
                "group_id": found.group_id,
                "protocol_type": found.protocol_type,
                "group_state": found.state,
                "group_type": found.kind,
            }
            for found in overviews(shard)
            if (not states or found.state.lower() in states) and (not types or found.kind in types)
        ]
    return {"error_code": ErrorCode.none, "groups": rows}
