"""DeleteGroups, v0-v2: groups without members, with all that they committed."""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.wire import Request


async def handle(context: BrokerContext, request: Request) -> Answer:
    rows = []
    for group_id in dict.fromkeys(request.body.groups_names):
        shard = context.groups.shard_of(group_id)
        error = shard if isinstance(shard, ErrorCode) else await shard.delete_group(group_id)
        rows.append({"group_id": group_id, "error_code": error})
    return {"results": rows}
