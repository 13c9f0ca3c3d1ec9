"""AddRaftVoter and RemoveRaftVoter (KIP-853)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from kio.schema.errors import ErrorCode

from ottla.client.errors import error_for
from ottla.client.network import Network, Values

if TYPE_CHECKING:
    from uuid import UUID

ADD_RAFT_VOTER: Final = 80
REMOVE_RAFT_VOTER: Final = 81
LISTENER: Final = "CONTROLLER"


async def add_voter(
    network: Network, voter_id: int, directory_id: UUID | None, address: tuple[str, int], timeout: float
) -> None:
    """AddRaftVoter (key 80), versions 0 and 1."""
    host, port = address

    def values(seconds: float) -> Values:
        return {
            "cluster_id": None,
            "timeout": int(seconds * 1000),
            "voter_id": voter_id,
            "voter_directory_id": directory_id,
            "listeners": [{"name": LISTENER, "host": host, "port": port}],
        }

    await _change(network, ADD_RAFT_VOTER, (0, 1), values, timeout)


async def remove_voter(network: Network, voter_id: int, directory_id: UUID | None, timeout: float) -> None:
    """RemoveRaftVoter (key 81), version 0."""
    values: Values = {"cluster_id": None, "voter_id": voter_id, "voter_directory_id": directory_id}
    await _change(network, REMOVE_RAFT_VOTER, (0, 0), values, timeout)


async def _change(
    network: Network, key: int, versions: tuple[int, int], values: Values | Callable[[float], Values], timeout: float
) -> None:
    """A broker is given all the time there is: a change that is repeated may find itself already made."""
    answer = await network.call_any(key, versions, values, timeout=timeout, patience=timeout)
    if answer.error_code is not ErrorCode.none:
        raise error_for(answer.error_code, answer.error_message)
