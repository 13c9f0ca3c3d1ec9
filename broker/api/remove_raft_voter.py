"""RemoveRaftVoter, v0: a controller loses its vote, and goes on to replicate the metadata log (KIP-853).

Differences from Kafka: the directory id of a voter that stands in `controller.quorum.voters` is not known, so that any
is taken for its own. The only voter is not removed, and neither is one without which no majority is there:
INVALID_REQUEST.
"""

from __future__ import annotations

from ottla.broker.api.add_raft_voter import directory, outcome, wrong_cluster
from ottla.broker.context import Answer, BrokerContext
from ottla.broker.forwarding import ask_controller
from ottla.controller import RemoveRaftVoter
from ottla.wire import Request


async def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    if (refusal := wrong_cluster(context, body.cluster_id)) is not None:
        return refusal
    answer = await ask_controller(
        context, RemoveRaftVoter(voter_id=body.voter_id, directory_id=directory(body.voter_directory_id))
    )
    return outcome(answer)
