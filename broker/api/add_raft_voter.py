"""AddRaftVoter, v0-v1: a controller that replicates the metadata log becomes a voter (KIP-853).

v1 the answer may be asked for before the change is committed (KIP-1186).

Differences from Kafka: the answer always waits until the change is committed. Of the listeners the first is taken. A
directory id of zeros means whatever directory the node has; any other one must be the node's. A node is only added once
it has caught up, and a change that the voters left could not commit is refused with INVALID_REQUEST.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.forwarding import Refusal, ask_controller, seconds
from ottla.controller import AddRaftVoter
from ottla.log import encode_uuid
from ottla.wire import Request

if TYPE_CHECKING:
    from uuid import UUID


async def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    if (refusal := wrong_cluster(context, body.cluster_id)) is not None:
        return refusal
    if body.voter_id < 0 or not body.listeners or not body.listeners[0].host or not body.listeners[0].port:
        return {"error_code": ErrorCode.invalid_request, "error_message": "A voter needs an id and an address."}
    listener = body.listeners[0]
    answer = await ask_controller(
        context,
        AddRaftVoter(
            voter_id=body.voter_id,
            directory_id=directory(body.voter_directory_id),
            host=listener.host,
            port=listener.port,
        ),
        seconds(body.timeout),
    )
    return outcome(answer)


def wrong_cluster(context: BrokerContext, cluster_id: str | None) -> Answer | None:
    """The refusal of a request that is meant for another cluster; None if it may be meant for this one."""
    ours = context.view.image.cluster_id
    if cluster_id is None or cluster_id == ours:
        return None
    return {"error_code": ErrorCode.inconsistent_cluster_id, "error_message": f"This is cluster {ours}."}


def directory(directory_id: UUID | None) -> str:
    """A directory id as meta.properties has it; empty when none is given."""
    return encode_uuid(directory_id) if directory_id is not None and directory_id.int else ""


def outcome(answer: object) -> Answer:
    if isinstance(answer, Refusal):
        return {"error_code": answer.error, "error_message": answer.message}
    return {"error_code": ErrorCode.none, "error_message": None}
