"""FindCoordinator: the leader of a group's partition, and the topic that is made when nobody asked before."""

from __future__ import annotations

from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.controller import CreateTopics, CreateTopicsResponse, TopicResult
from tests.broker.world import World


def rows_of(response: Any, version: int) -> list[Any]:
    return list(response.coordinators) if version >= 4 else [response]


@pytest.mark.parametrize("version", range(7))
async def test_the_leader_of_the_partition_coordinates(world: World, version: int) -> None:
    await world.coordinate(50, replicas=(1, 2))
    asked = {"coordinator_keys": ["a", "b"]} if version >= 4 else {"key": "a"}
    rows = rows_of(await world.call(10, version, {**asked, "key_type": 0}), version)
    assert [(row.error_code, row.node_id, row.host, row.port) for row in rows] == [
        (ErrorCode.none, 1, "plaintext-1", 9001)
    ] * len(rows)
    if version >= 4:
        assert [row.key for row in rows] == ["a", "b"]


async def test_no_leader(world: World) -> None:
    world.add_topic("__consumer_offsets", leader=-1, replicas=(2, 3))
    response = await world.call(10, 6, {"key_type": 0, "coordinator_keys": ["a"]})
    assert response.coordinators[0].error_code is ErrorCode.coordinator_not_available
    assert response.coordinators[0].node_id == -1


async def test_share_groups_are_not_coordinated(world: World) -> None:
    response = await world.call(10, 6, {"key_type": 2, "coordinator_keys": ["a"]})
    assert response.coordinators[0].error_code is ErrorCode.coordinator_not_available
    assert response.coordinators[0].error_message.startswith("Share groups")


async def test_a_key_type_that_does_not_exist(world: World) -> None:
    response = await world.call(10, 4, {"key_type": 9, "coordinator_keys": ["a"]})
    assert response.coordinators[0].error_code is ErrorCode.invalid_request


async def test_the_topic_is_made_for_the_first_who_asks(world: World) -> None:
    def make(request: Any) -> CreateTopicsResponse:
        (topic,) = request.topics
        assert (topic.name, topic.internal, topic.partitions, topic.replication_factor) == (
            "__consumer_offsets",
            True,
            50,
            3,
        )
        assert topic.configs["cleanup.policy"] == "compact"
        world.add_topic("__consumer_offsets", 50)
        return CreateTopicsResponse(topics=(TopicResult(name="__consumer_offsets"),), offset=7)

    world.controller.answers = {CreateTopics: make}
    response = await world.call(10, 6, {"key_type": 0, "coordinator_keys": ["a"]})
    assert response.coordinators[0].error_code is ErrorCode.none
    assert (world.view.waited_for, len(world.controller.calls)) == ([7], 1)
