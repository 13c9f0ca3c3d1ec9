"""Elections, reassignments, brokers that are unregistered, and eligible leaders as clients see them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.controller import (
    AlterPartitionReassignments,
    AlterPartitionReassignmentsResponse,
    ControllerUnavailable,
    ElectLeaders,
    ElectLeadersResponse,
    PartitionImage,
    PartitionResult,
    ReadBarrier,
    ReadBarrierResponse,
    UnregisterBroker,
    UnregisterBrokerResponse,
)
from tests.broker.world import World


def unavailable(request: Any) -> Any:
    raise ControllerUnavailable("nobody leads")


def become(world: World, topic: str, **changes: Any) -> None:
    """Partition 0 of the topic in the metadata."""
    image = world.view.image.topics[topic]
    state = replace(image.partitions[0], **changes)
    world.update(topics={**world.view.image.topics, topic: replace(image, partitions={**image.partitions, 0: state})})


@pytest.mark.parametrize(("version", "kind"), [(0, "preferred"), (1, "unclean"), (2, "unclean")])
async def test_elect_leaders(world: World, version: int, kind: str) -> None:
    def elect(request: ElectLeaders) -> ElectLeadersResponse:
        one = PartitionResult(topic="a", partition=0)
        two = PartitionResult(topic="a", partition=1, error=ErrorCode.election_not_needed, message="no")
        return ElectLeadersResponse(results=(one, two, PartitionResult(topic="b", partition=3)), offset=8)

    world.controller.answers[ElectLeaders] = elect
    asked = [{"topic": "a", "partitions": [0, 1]}, {"topic": "b", "partitions": [3]}]
    answer = await world.call(43, version, {"election_type": 1, "topic_partitions": asked})
    (question,) = world.controller.calls
    assert question.election == kind
    assert [(each.topic, each.partition) for each in question.partitions] == [("a", 0), ("a", 1), ("b", 3)]
    rows = {
        (t.topic, p.partition_id): p.error_code for t in answer.replica_election_results for p in t.partition_result
    }
    assert rows == {("a", 0): ErrorCode.none, ("a", 1): ErrorCode.election_not_needed, ("b", 3): ErrorCode.none}
    assert world.view.waited_for == [8]


async def test_all_partitions_are_asked_for_with_null(world: World) -> None:
    world.controller.answers[ElectLeaders] = lambda request: ElectLeadersResponse()
    answer = await world.call(43, 2, {"election_type": 0, "topic_partitions": None})
    assert world.controller.calls[0].partitions is None and answer.replica_election_results == ()


async def test_an_election_that_cannot_be_asked_for(world: World) -> None:
    asked = [{"topic": "a", "partitions": [0, 0]}]
    answer = await world.call(43, 2, {"election_type": 7, "topic_partitions": asked})
    assert answer.error_code is ErrorCode.invalid_request and not world.controller.calls
    world.controller.answers[ElectLeaders] = unavailable
    answer = await world.call(43, 2, {"election_type": 0, "topic_partitions": asked})
    assert answer.error_code is ErrorCode.request_timed_out
    (row,) = answer.replica_election_results[0].partition_result
    assert row.error_code is ErrorCode.request_timed_out


async def test_reassignments_are_handed_on(world: World) -> None:
    def alter(request: AlterPartitionReassignments) -> AlterPartitionReassignmentsResponse:
        bad = PartitionResult(topic="a", partition=1, error=ErrorCode.no_reassignment_in_progress, message="none")
        return AlterPartitionReassignmentsResponse(partitions=(PartitionResult(topic="a", partition=0), bad), offset=3)

    world.controller.answers[AlterPartitionReassignments] = alter
    rows = [{"partition_index": 0, "replicas": [3, 2]}, {"partition_index": 1, "replicas": None}]
    topics = [{"name": "a", "partitions": rows}]
    answer = await world.call(45, 1, {"topics": topics, "allow_replication_factor_change": False})
    (question,) = world.controller.calls
    assert [each.replicas for each in question.partitions] == [(3, 2), None]
    assert not question.allow_replication_factor_change and not answer.allow_replication_factor_change
    assert [(p.partition_index, p.error_code) for p in answer.responses[0].partitions] == [
        (0, ErrorCode.none),
        (1, ErrorCode.no_reassignment_in_progress),
    ]
    await world.call(45, 0, {"topics": topics})
    assert world.controller.calls[1].allow_replication_factor_change


async def test_reassignments_that_are_refused_as_a_whole(world: World) -> None:
    world.controller.answers[AlterPartitionReassignments] = lambda request: AlterPartitionReassignmentsResponse(
        error=ErrorCode.policy_violation, message="too many"
    )
    topics = [{"name": "a", "partitions": [{"partition_index": 0, "replicas": [3]}]}]
    answer = await world.call(45, 1, {"topics": topics})
    assert (answer.error_code, answer.error_message) == (ErrorCode.policy_violation, "too many")
    assert answer.responses[0].partitions[0].error_code is ErrorCode.policy_violation


async def test_reassignments_are_listed_from_metadata_that_are_new_enough(world: World) -> None:
    for name in ("a", "b", "c"):
        world.add_topic(name, partitions=2, replicas=(1, 2, 3))
    become(world, "a", replicas=(3, 2, 1), adding=(3,), removing=(1,))
    become(world, "c", removing=(3,))
    world.controller.answers[ReadBarrier] = lambda request: ReadBarrierResponse(offset=77)
    answer = await world.call(46, 0, {"topics": None})
    assert world.view.waited_for == [77]
    assert [topic.name for topic in answer.topics] == ["a", "c"]
    (row,) = answer.topics[0].partitions
    assert (row.partition_index, row.replicas, row.adding_replicas, row.removing_replicas) == (0, (3, 2, 1), (3,), (1,))
    asked = [{"name": "c", "partition_indexes": [1, 0, 0, 9]}, {"name": "x", "partition_indexes": [0]}]
    answer = await world.call(46, 0, {"topics": asked})
    assert [(topic.name, len(topic.partitions)) for topic in answer.topics] == [("c", 1)]
    world.controller.answers[ReadBarrier] = unavailable
    assert (await world.call(46, 0, {"topics": None})).error_code is ErrorCode.request_timed_out


async def test_unregister_broker(world: World) -> None:
    world.controller.answers[UnregisterBroker] = lambda request: UnregisterBrokerResponse(offset=4)
    assert (await world.call(64, 0, {"broker_id": 3})).error_code is ErrorCode.none
    assert world.controller.calls[0].broker_id == 3
    world.controller.answers[UnregisterBroker] = lambda request: UnregisterBrokerResponse(
        error=ErrorCode.broker_id_not_registered, message="who?"
    )
    answer = await world.call(64, 0, {"broker_id": 9})
    assert (answer.error_code, answer.error_message) == (ErrorCode.broker_id_not_registered, "who?")


async def test_eligible_leaders_and_the_last_known_leader_are_told(world: World) -> None:
    """KIP-966."""
    world.add_topic("a", replicas=(1, 2, 3))
    question = {"topics": [{"name": "a"}], "response_partition_limit": 10, "cursor": None}
    become(world, "a", isr=(1,), elr=(2,))
    (row,) = (await world.call(75, 0, question)).topics[0].partitions
    assert (row.isr_nodes, row.eligible_leader_replicas, row.last_known_elr) == ((1,), (2,), ())
    become(world, "a", isr=(), elr=(), leader=-1, last_known_leader=3)
    (row,) = (await world.call(75, 0, question)).topics[0].partitions
    assert (row.isr_nodes, row.eligible_leader_replicas, row.last_known_elr) == ((), (), (3,))
    assert isinstance(world.view.image.partition("a", 0), PartitionImage)
