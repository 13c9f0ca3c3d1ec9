"""AddRaftVoter and RemoveRaftVoter at a broker, and what Raft's refusals become."""

from uuid import UUID

import pytest
from kio.schema.errors import ErrorCode

from ottla.controller import (
    AddRaftVoter,
    ChangeRefused,
    ChangeVotersResponse,
    NotLeader,
    Refusal,
    RemoveRaftVoter,
    VoterNode,
    change_voters,
)
from ottla.log import encode_uuid
from tests.broker.world import World

DIRECTORY = UUID(int=77)
ADD = {
    "cluster_id": "cluster",
    "timeout": 1000,
    "voter_id": 4,
    "voter_directory_id": DIRECTORY,
    "listeners": [{"name": "CONTROLLER", "host": "node-4", "port": 9093}],
}
REMOVE = {"cluster_id": None, "voter_id": 4, "voter_directory_id": None}


@pytest.mark.parametrize("version", [0, 1])
async def test_a_voter_is_added_by_the_controller(world: World, version: int) -> None:
    world.controller.answers[AddRaftVoter] = lambda request: ChangeVotersResponse(offset=4)
    assert (await world.call(80, version, ADD)).error_code is ErrorCode.none
    assert world.controller.calls == [
        AddRaftVoter(voter_id=4, directory_id=encode_uuid(DIRECTORY), host="node-4", port=9093)
    ]
    assert world.view.waited_for == [4]


@pytest.mark.parametrize("key", [80, 81])
async def test_a_request_for_another_cluster_is_refused(world: World, key: int) -> None:
    answer = await world.call(key, 0, (ADD if key == 80 else REMOVE) | {"cluster_id": "another"})
    assert answer.error_code is ErrorCode.inconsistent_cluster_id
    assert not world.controller.calls


@pytest.mark.parametrize(
    "change", [{"listeners": []}, {"voter_id": -1}, {"listeners": [{"name": "C", "host": "", "port": 1}]}]
)
async def test_a_voter_without_an_address_is_refused(world: World, change: dict[str, object]) -> None:
    assert (await world.call(80, 0, ADD | change)).error_code is ErrorCode.invalid_request
    assert not world.controller.calls


async def test_the_controllers_refusal_of_a_removal_is_passed_on(world: World) -> None:
    world.controller.answers[RemoveRaftVoter] = lambda request: ChangeVotersResponse(
        error=ErrorCode.voter_not_found.value, message="who?"
    )
    answer = await world.call(81, 0, REMOVE)
    assert (answer.error_code, answer.error_message) == (ErrorCode.voter_not_found, "who?")
    assert world.controller.calls == [RemoveRaftVoter(voter_id=4)]


class Consensus:
    leader_id = 2

    def __init__(self, outcome: Exception | int) -> None:
        self._outcome = outcome

    async def add_voter(self, node: VoterNode) -> int:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    async def remove_voter(self, node_id: int, directory_id: str = "") -> int:
        return await self.add_voter(VoterNode(node_id, directory_id))


@pytest.mark.parametrize("refusal", list(Refusal))
async def test_every_refusal_has_an_error_code_and_a_reason(refusal: Refusal) -> None:
    for request in (AddRaftVoter(voter_id=1, host="h", port=1), RemoveRaftVoter(voter_id=1)):
        answer = await change_voters(Consensus(ChangeRefused(refusal)), request)
        assert ErrorCode(answer.error) is not ErrorCode.none
        assert answer.message == f"{refusal.value}."


async def test_a_node_that_does_not_lead_says_who_does() -> None:
    answer = await change_voters(Consensus(NotLeader(2)), RemoveRaftVoter(voter_id=1))
    assert (answer.error, answer.controller_id) == (ErrorCode.not_controller.value, 2)


async def test_a_change_is_answered_with_its_index() -> None:
    assert (await change_voters(Consensus(9), RemoveRaftVoter(voter_id=1))).offset == 9
