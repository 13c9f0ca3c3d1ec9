"""AddRaftVoter and RemoveRaftVoter: what Raft makes of them, in Kafka's error codes (KIP-853)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

import structlog
from kio.schema.errors import ErrorCode

from ottla.controller.raft import ChangeRefused, NotLeader, RaftStopped, Refusal, VoterNode
from ottla.controller.rpc.models.voters import AddRaftVoter, ChangeVotersResponse, RemoveRaftVoter

ERRORS: Final[Mapping[Refusal, ErrorCode]] = MappingProxyType(
    {
        Refusal.NOT_LEADER: ErrorCode.not_controller,
        Refusal.NOT_READY: ErrorCode.request_timed_out,
        Refusal.CHANGE_PENDING: ErrorCode.request_timed_out,
        Refusal.NOT_CAUGHT_UP: ErrorCode.request_timed_out,
        Refusal.DUPLICATE_VOTER: ErrorCode.duplicate_voter,
        Refusal.VOTER_NOT_FOUND: ErrorCode.voter_not_found,
        Refusal.LAST_VOTER: ErrorCode.invalid_request,
        Refusal.NO_MAJORITY: ErrorCode.invalid_request,
    }
)

log = structlog.get_logger(__name__)


class Quorum(Protocol):
    """The part of RaftDriver that this needs."""

    @property
    def leader_id(self) -> int | None: ...
    async def add_voter(self, node: VoterNode) -> int: ...
    async def remove_voter(self, node_id: int, directory_id: str = "") -> int: ...


async def change_voters(quorum: Quorum, request: AddRaftVoter | RemoveRaftVoter) -> ChangeVotersResponse:
    """The answer, once the change is committed. NOT_CONTROLLER if this node does not lead, or ceases to before that:
    then the change may have been made or not."""
    try:
        if isinstance(request, AddRaftVoter):
            node = VoterNode(request.voter_id, request.directory_id, request.host, request.port)
            index = await quorum.add_voter(node)
        else:
            index = await quorum.remove_voter(request.voter_id, request.directory_id)
    except ChangeRefused as refused:
        log.info("voters_not_changed", request=type(request).__name__, voter=request.voter_id, reason=str(refused))
        return ChangeVotersResponse(error=ERRORS[refused.refusal].value, message=f"{refused}.")
    except (NotLeader, RaftStopped):
        return ChangeVotersResponse(error=ErrorCode.not_controller.value, controller_id=quorum.leader_id)
    log.info("voters_changed", request=type(request).__name__, voter=request.voter_id, index=index)
    return ChangeVotersResponse(offset=index)
