"""How `__consumer_offsets` is made: how many replicas, and when it is too early to say."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.controller import ControllerUnavailable, CreateTopics, CreateTopicsResponse, TopicResult
from tests.broker.world import World

FIND = 10


def controller(world: World) -> list[Any]:
    made: list[Any] = []

    def make(request: Any) -> CreateTopicsResponse:
        made.append(request.topics[0])
        world.add_topic("__consumer_offsets", request.topics[0].partitions)
        return CreateTopicsResponse(topics=(TopicResult(name="__consumer_offsets"),), offset=3)

    world.controller.answers = {CreateTopics: make}
    return made


def fence(world: World, *brokers: int) -> None:
    known = world.view.image.brokers
    world.update(brokers={id: replace(broker, fenced=id in brokers) for id, broker in known.items()})


async def find(world: World) -> ErrorCode:
    error: ErrorCode = (
        (await world.call(FIND, 6, {"key_type": 0, "coordinator_keys": ["g"]})).coordinators[0].error_code
    )
    return error


async def test_a_cluster_that_is_just_starting_waits_for_its_brokers(world: World) -> None:
    made = controller(world)
    world.update(brokers={1: world.view.image.brokers[1]})
    assert await find(world) is ErrorCode.coordinator_not_available
    assert not made, "node 1 is one of three voters: it does not take itself for the whole cluster"


async def test_a_broker_that_does_not_come_is_waited_for_only_so_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = controller(world)
    fence(world, 3)
    assert await find(world) is ErrorCode.coordinator_not_available
    monkeypatch.setattr("ottla.broker.coordination.topic.PATIENCE_S", 0.0)
    assert await find(world) is ErrorCode.none
    assert made[0].replication_factor == 2


async def test_a_cluster_of_one(world: World) -> None:
    made = controller(world)
    world.update(brokers={1: world.view.image.brokers[1]})
    world.quorum = replace(world.quorum, voters=(1,))
    assert await find(world) is ErrorCode.none
    assert made[0].replication_factor == 1


async def test_no_controller(world: World) -> None:
    def refuse(request: Any) -> CreateTopicsResponse:
        raise ControllerUnavailable("none")

    world.controller.answers = {CreateTopics: refuse}
    assert await find(world) is ErrorCode.coordinator_not_available
    controller(world)
    assert await find(world) is ErrorCode.none, "the next one who asks has it made"


async def test_clients_get_it_in_its_own_form(world: World) -> None:
    """By asking for its metadata, and by making it by hand."""
    made = controller(world)
    await world.call(3, 13, {"topics": [{"name": "__consumer_offsets"}], "allow_auto_topic_creation": True})
    async with asyncio.timeout(5):
        while not made:  # noqa: ASYNC110 - nothing tells when a background task of the broker is done
            await asyncio.sleep(0)
    row = {"name": "__consumer_offsets", "num_partitions": 5, "replication_factor": 1, "configs": []}
    await world.call(19, 7, {"topics": [row]})
    for topic in made:
        assert topic.internal and topic.configs["cleanup.policy"] == "compact"
    assert sorted(topic.partitions for topic in made) == [5, 50]
