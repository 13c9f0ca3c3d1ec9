"""Transactional APIs on one broker: what is answered, when, and what stands in the log afterwards."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.coordination import OFFSETS_TOPIC, TRANSACTIONS_TOPIC
from ottla.broker.transactions import Decision, Producer, State
from ottla.broker.transactions.table import BrokenTransition
from ottla.controller import AllocateProducerIds, ControllerUnavailable, CreateTopics, CreateTopicsResponse, TopicResult
from ottla.tasks import BROKEN
from tests.broker.world import NOW_MS, World, marker_answers
from tests.transactions.serving import (
    ADD,
    DESCRIBE,
    END,
    FIND,
    ID,
    INIT,
    LIST,
    NONE,
    OFFSETS,
    acknowledge,
    add,
    add_as_leader,
    add_values,
    as_broker,
    begin,
    end,
    ended,
    init,
    settled,
    state,
    states,
    until,
)

BUSY = ErrorCode.concurrent_transactions
FENCED = ErrorCode.producer_fenced


async def test_a_transaction_of_v2_from_its_first_record_to_its_end(world: World) -> None:
    (partition,) = await world.coordinate_transactions()
    producer = await begin(world)
    assert producer == (1000, 0)
    assert await add_as_leader(world, producer, ("t", 0), ("t", 2)) == {("t", 0): NONE, ("t", 2): NONE}
    error, following = await end(world, producer)
    assert (error, following) == (NONE, (1000, 1))
    await settled(world)
    assert states(partition) == ["Empty", "Ongoing", "PrepareCommit", "CompleteCommit"]
    ((node, key, request),) = world.peers.calls
    assert (node, key) == (1, 27)
    (marker,) = request.markers
    assert (marker.producer_id, marker.producer_epoch, marker.transaction_result) == (1000, 1, True)
    assert (marker.coordinator_epoch, marker.transaction_version) == (partition.leader_epoch, 2)
    assert [(topic.name, topic.partition_indexes) for topic in marker.topics] == [("t", (0, 2))]


async def test_a_transaction_of_v1_keeps_its_epoch(world: World) -> None:
    (partition,) = await world.coordinate_transactions()
    producer = await begin(world)
    assert await add(world, producer, ("t", 1)) is NONE
    assert await end(world, producer, False, version=4) == (NONE, (-1, -1))
    await settled(world)
    assert states(partition) == ["Empty", "Ongoing", "PrepareAbort", "CompleteAbort"]
    (marker,) = world.peers.calls[0][2].markers
    assert (marker.producer_epoch, marker.transaction_result, marker.transaction_version) == (0, False, 0)
    assert await add(world, producer, ("t", 1)) is NONE, "the same epoch begins the next one"


async def test_an_answer_comes_when_the_record_is_replicated_and_not_before(world: World) -> None:
    (partition,) = world.add_topic(TRANSACTIONS_TOPIC, replicas=(1, 2))
    acknowledge(partition)
    world.broker.apply(world.view.image)
    await world.broker.transactions.replayed()
    answer, route = world.start(INIT, 5, {"transactional_id": ID, "transaction_timeout": 1000})
    await until(lambda: partition.log_end_offset == 1)
    await asyncio.sleep(0)
    assert not answer.done() and state(world) is None
    later, later_route = world.start(INIT, 5, {"transactional_id": ID, "transaction_timeout": 1000})
    acknowledge(partition)
    assert world.decoded(INIT, 5, await answer, route).producer_epoch == 0
    assert partition.log_end_offset == 2, "the second one had its turn after the first one's record"
    assert not later.done()
    acknowledge(partition)
    assert world.decoded(INIT, 5, await later, later_route).producer_epoch == 1


async def test_leadership_that_is_lost_answers_whoever_waits(world: World) -> None:
    (partition,) = world.add_topic(TRANSACTIONS_TOPIC, replicas=(1, 2))
    acknowledge(partition)
    world.broker.apply(world.view.image)
    await world.broker.transactions.replayed()
    asked = [world.start(INIT, 5, {"transactional_id": ID, "transaction_timeout": 1000}) for _ in range(3)]
    await until(lambda: partition.log_end_offset == 1)
    assert partition.image is not None
    partition.become_follower(partition.image)
    for answer, route in asked:
        assert world.decoded(INIT, 5, await answer, route).error_code is ErrorCode.not_coordinator
    assert (await init(world))[0] is ErrorCode.not_coordinator


async def test_a_new_coordinator_goes_on_where_the_last_one_stopped(world: World) -> None:
    """It knows the ids and, of a transaction whose outcome is decided, tells the partitions."""

    async def nobody(node_id: int, key: int, request: Any) -> Mapping[str, Any]:
        return marker_answers(request, lambda *_: ErrorCode.not_leader_or_follower)

    write, world.peers.answer = world.peers.answer, nobody
    (partition,) = await world.coordinate_transactions()
    producer = await begin(world)
    await add_as_leader(world, producer)
    other = await begin(world, "other")
    assert await end(world, producer) == (NONE, (1000, 1))
    assert await add_as_leader(world, Producer(1000, 1)) == {("t", 0): BUSY}
    assert partition.image is not None
    partition.become_follower(partition.image)
    world.peers.calls.clear()
    world.peers.answer = write
    partition.become_leader(replace(partition.image, leader_epoch=partition.leader_epoch + 1))
    world.broker.apply(world.view.image)
    await world.broker.transactions.replayed()
    await settled(world)
    assert states(partition)[-2:] == ["PrepareCommit", "CompleteCommit"]
    assert world.peers.calls[-1][2].markers[0].coordinator_epoch == partition.leader_epoch
    assert await end(world, producer) == (NONE, (1000, 1)), "whoever did not hear the answer asks the new one"
    assert await add_as_leader(world, other, name="other") == {("t", 0): NONE}


async def test_of_two_instances_the_later_one_fences_the_earlier(world: World) -> None:
    (partition,) = await world.coordinate_transactions()
    first = await begin(world)
    second = await begin(world)
    assert second == (1000, 1)
    assert await add(world, first) is FENCED
    assert await add(world, first, version=1) is ErrorCode.invalid_producer_epoch
    assert (await end(world, first))[0] is FENCED
    assert (await end(world, first, version=1))[0] is ErrorCode.invalid_producer_epoch
    assert (await init(world, expected=first))[0] is FENCED
    assert (await init(world, expected=first, version=3))[0] is ErrorCode.invalid_producer_epoch
    assert await add(world, second) is NONE
    assert states(partition) == ["Empty", "Empty", "Ongoing"]


async def test_a_new_instance_aborts_what_the_last_one_left(world: World) -> None:
    (partition,) = await world.coordinate_transactions()
    first = await begin(world)
    await add_as_leader(world, first)
    assert await init(world) == (BUSY, (-1, -1))
    await settled(world)
    (marker,) = world.peers.calls[0][2].markers
    assert (marker.producer_epoch, marker.transaction_result) == (1, False)
    for commit in (True, False):
        assert (await end(world, first, commit))[0] is FENCED, "also an abort: it would get the next epoch"
    assert await begin(world) == (1000, 2)
    assert states(partition) == ["Empty", "Ongoing", "PrepareAbort", "CompleteAbort", "Empty"]


async def test_a_transaction_that_lasts_too_long_is_aborted(world: World) -> None:
    await world.coordinate_transactions()
    producer = await begin(world, timeout_ms=100)
    await add_as_leader(world, producer)
    world.now_ms += 100
    shard = world.broker.transactions.shard_of(ID)
    assert not isinstance(shard, ErrorCode)
    shard.tick(ID)
    await settled(world)
    found = state(world)
    assert found is not None and (found.state.label, found.producer) == ("CompleteAbort", (1000, 1))
    assert await add_as_leader(world, producer) == {("t", 0): FENCED}
    assert (await end(world, producer, True))[0] is ErrorCode.invalid_txn_state
    assert await end(world, producer, False) == (NONE, (1000, 1)), "its own abort, which is all that it may ask for"


async def test_the_clock_ends_a_transaction_by_itself(world: World) -> None:
    await world.coordinate_transactions()
    world.broker.transactions.clock = lambda: round(asyncio.get_running_loop().time() * 1000)
    producer = await begin(world, timeout_ms=20)
    await add_as_leader(world, producer)
    await until(lambda: (found := state(world)) is not None and found.state.label == "CompleteAbort")


async def test_an_end_is_answered_the_same_when_it_is_asked_again(world: World) -> None:
    await world.coordinate_transactions()
    producer = await begin(world)
    await add_as_leader(world, producer)
    following = await ended(world, producer)
    assert await end(world, producer) == (NONE, following)
    assert (await end(world, producer, False))[0] is ErrorCode.invalid_txn_state
    await add_as_leader(world, following)
    assert (await end(world, producer))[0] is FENCED, "it came after its transaction, and leaves the next one alone"
    found = state(world)
    assert found is not None and found.state.label == "Ongoing"


async def test_an_abort_of_nothing_gives_an_epoch_all_the_same(world: World) -> None:
    """A leader may have added the partition of a request that failed (KIP-890)."""
    (partition,) = await world.coordinate_transactions()
    producer = await begin(world)
    assert (await end(world, producer, True))[0] is ErrorCode.invalid_txn_state
    following = await ended(world, producer, False)
    assert following == (1000, 1)
    following = await ended(world, following, False)
    assert following == (1000, 2)
    assert world.peers.calls == []
    assert states(partition) == ["Empty"] + 2 * ["PrepareAbort", "CompleteAbort"]


async def test_the_last_epoch_is_followed_by_a_new_id(world: World) -> None:
    await world.coordinate_transactions()
    producer = await begin(world)
    shard = world.broker.transactions.shard_of(ID)
    found = state(world)
    assert found is not None and not isinstance(shard, ErrorCode)
    shard.transactions._transactions[ID] = replace(found, producer=Producer(1000, 32766))
    producer = Producer(1000, 32766)
    await add_as_leader(world, producer)
    error, following = await end(world, producer)
    assert (error, following) == (NONE, (1001, 0))
    await settled(world)
    (marker,) = world.peers.calls[0][2].markers
    assert (marker.producer_id, marker.producer_epoch) == (1000, 32767)
    assert await end(world, producer) == (NONE, following), "asked again"
    assert await add_as_leader(world, following) == {("t", 0): NONE}
    assert (await end(world, producer))[0] is ErrorCode.invalid_producer_id_mapping
    assert await add_as_leader(world, producer) == {("t", 0): ErrorCode.invalid_producer_id_mapping}


async def test_partitions_are_verified_for_their_leader(world: World) -> None:
    await world.coordinate_transactions()
    producer = await begin(world)
    await add(world, producer, ("t", 0))
    found = await add_as_leader(world, producer, ("t", 0), ("t", 1), verify=True)
    assert found == {("t", 0): NONE, ("t", 1): ErrorCode.transaction_abortable}
    old = Producer(producer.id, producer.epoch + 1)
    assert await add_as_leader(world, old, verify=True) == {("t", 0): FENCED}
    unknown = Producer(5, 0)
    assert await add_as_leader(world, unknown, verify=True) == {("t", 0): ErrorCode.invalid_producer_id_mapping}
    found = await add_as_leader(world, producer, name="nobody", verify=True)
    assert found == {("t", 0): ErrorCode.invalid_producer_id_mapping}


async def test_who_cannot_tell_whether_it_still_leads_verifies_nothing(world: World) -> None:
    (partition,) = world.add_topic(TRANSACTIONS_TOPIC, replicas=(1, 2))
    acknowledge(partition)
    world.broker.apply(world.view.image)
    await world.broker.transactions.replayed()
    asking = asyncio.ensure_future(add_as_leader(world, Producer(1, 0), verify=True))
    await until(lambda: partition.log_end_offset == 1)
    acknowledge(partition)
    assert await asking == {("t", 0): ErrorCode.invalid_producer_id_mapping}
    asking = asyncio.ensure_future(add_as_leader(world, Producer(1, 0), verify=True))
    await until(lambda: partition.log_end_offset == 2)
    assert not asking.done() and partition.image is not None
    partition.become_follower(partition.image)
    assert await asking == {("t", 0): ErrorCode.not_coordinator}


async def test_only_brokers_may_add_for_others(world: World) -> None:
    await world.coordinate_transactions()
    row = {"transactional_id": ID, "producer_id": 1, "producer_epoch": 0, "verify_only": False, "topics": []}
    for version in (4, 5):
        response = await world.call(ADD, version, {"transactions": [row]})
        assert response.error_code is ErrorCode.cluster_authorization_failed
        assert response.results_by_transaction == ()


async def test_partitions_are_added_all_or_none(world: World) -> None:
    (partition,) = await world.coordinate_transactions()
    producer = await begin(world)
    response = await world.call(ADD, 3, add_values(producer, [("t", 0), ("t", 7), ("missing", 0)]))
    errors = {
        (topic.name, row.partition_index): row.partition_error_code
        for topic in response.results_by_topic_v3_and_below
        for row in topic.results_by_partition
    }
    unknown = ErrorCode.unknown_topic_or_partition
    skipped = ErrorCode.operation_not_attempted
    assert errors == {("t", 0): skipped, ("t", 7): unknown, ("missing", 0): unknown}
    assert states(partition) == ["Empty"]


async def test_a_transaction_that_is_named_twice_in_a_request(world: World) -> None:
    await world.coordinate_transactions()
    producer = await begin(world)
    row = {"transactional_id": ID, "producer_id": producer.id, "producer_epoch": 0, "verify_only": False}
    rows = [{**row, "topics": [{"name": "t", "partitions": [index]}]} for index in range(2)]
    response = await world.call(ADD, 5, {"transactions": rows}, connection=as_broker())
    for result in response.results_by_transaction:
        assert result.topic_results[0].results_by_partition[0].partition_error_code is ErrorCode.invalid_request


async def test_offsets_belong_to_the_transaction_by_the_partition_of_their_group(world: World) -> None:
    await world.coordinate_transactions()
    producer = await begin(world)
    values = {"transactional_id": ID, "producer_id": producer.id, "producer_epoch": 0, "group_id": "g"}

    def make(request: Any) -> CreateTopicsResponse:
        world.add_topic(OFFSETS_TOPIC)
        return CreateTopicsResponse(topics=(TopicResult(name=OFFSETS_TOPIC),), offset=3)

    world.controller.answers[CreateTopics] = make
    assert (await world.call(OFFSETS, 4, values)).error_code is NONE, "__consumer_offsets was made for it"
    found = state(world)
    assert found is not None and found.partitions == {(OFFSETS_TOPIC, 0)}
    for version, error in ((1, ErrorCode.invalid_producer_epoch), (2, FENCED)):
        response = await world.call(OFFSETS, version, {**values, "producer_epoch": 3})
        assert response.error_code is error


@pytest.mark.parametrize("timeout_ms", [0, -1, 900_001])
async def test_a_timeout_that_is_none_or_too_long(world: World, timeout_ms: int) -> None:
    await world.coordinate_transactions()
    assert (await init(world, timeout_ms=timeout_ms))[0] is ErrorCode.invalid_transaction_timeout


async def test_what_is_no_request_is_refused(world: World) -> None:
    await world.coordinate_transactions()
    invalid = ErrorCode.invalid_request
    assert (await init(world, ""))[0] is invalid
    assert (await init(world, expected=Producer(5, -1)))[0] is invalid
    assert (await init(world, expected=Producer(-1, 5)))[0] is invalid
    assert await add(world, Producer(1, 0), name="") is invalid
    assert await add_as_leader(world, Producer(1, 0), name="") == {("t", 0): invalid}
    assert (await end(world, Producer(1, 0), name=""))[0] is invalid
    values = {"transactional_id": "", "producer_id": 1, "producer_epoch": 0, "group_id": "g"}
    assert (await world.call(OFFSETS, 4, values)).error_code is invalid
    refused = ErrorCode.transactional_id_authorization_failed
    assert (await init(world, version=6, enable2_pc=True))[0] is refused
    assert (await init(world, version=6, keep_prepared_txn=True))[0] is ErrorCode.unsupported_version
    assert (await init(world, version=6))[0] is NONE


async def test_an_id_that_nobody_has(world: World) -> None:
    await world.coordinate_transactions()
    unknown = ErrorCode.invalid_producer_id_mapping
    assert await add(world, Producer(1, 0)) is unknown
    for version in (3, 5):
        assert (await end(world, Producer(1, 0), version=version))[0] is unknown
    assert (await init(world, expected=Producer(1, 0)))[1] == (1000, 0), "after it expired its producer gets a new one"


async def test_no_producer_ids(world: World) -> None:
    def refuse(request: Any) -> Any:
        raise ControllerUnavailable("none")

    await world.coordinate_transactions()
    good, world.controller.answers[AllocateProducerIds] = world.controller.answers[AllocateProducerIds], refuse
    results = await asyncio.gather(*(init(world, f"id-{number}") for number in range(5)))
    assert {error for error, _ in results} == {ErrorCode.coordinator_load_in_progress}
    world.controller.answers[AllocateProducerIds] = good
    assert (await init(world))[0] is NONE


async def test_an_unused_id_is_given_up(world: World) -> None:
    (partition,) = await world.coordinate_transactions()
    await begin(world, "idle")
    busy = await begin(world, "busy")
    await add_as_leader(world, busy, name="busy")
    world.now_ms += world.broker.transactions.config.transactional_id_expiration_ms - 1
    await world.broker.transactions.expire()
    assert state(world, "idle") is not None
    world.now_ms += 1
    await world.broker.transactions.expire()
    assert state(world, "idle") is None
    assert states(partition, "idle") == ["Empty", "tombstone"]
    assert states(partition, "busy") == ["Empty", "Ongoing"], "what is under way is not"


async def test_a_coordinator_is_found_and_its_topic_made(world: World) -> None:
    made: list[Any] = []

    def make(request: Any) -> CreateTopicsResponse:
        made.append(request.topics[0])
        world.add_topic(TRANSACTIONS_TOPIC, request.topics[0].partitions)
        return CreateTopicsResponse(topics=(TopicResult(name=TRANSACTIONS_TOPIC),), offset=3)

    world.controller.answers[CreateTopics] = make
    (row,) = (await world.call(FIND, 6, {"key_type": 1, "coordinator_keys": [ID]})).coordinators
    assert (row.error_code, row.node_id, row.key) == (NONE, 1, ID)
    (topic,) = made
    assert (topic.partitions, topic.replication_factor, topic.internal) == (50, 3, True)
    assert topic.configs["min.insync.replicas"] == "2"
    assert topic.configs["cleanup.policy"] == "compact"
    assert topic.configs["unclean.leader.election.enable"] == "false"
    assert (await world.call(END, 5, {"transactional_id": ID})).error_code is ErrorCode.not_coordinator


async def test_transactions_are_described_and_listed(world: World) -> None:
    (partition,) = await world.coordinate_transactions()
    producer = await begin(world, timeout_ms=4000)
    await add_as_leader(world, producer, ("t", 2), ("t", 0))
    await begin(world, "other")
    world.now_ms += 1000
    rows = (await world.call(DESCRIBE, 0, {"transactional_ids": [ID, "nobody", "", ID]})).transaction_states
    assert [row.error_code for row in rows] == [NONE, ErrorCode.transactional_id_not_found, ErrorCode.invalid_request]
    found = rows[0]
    assert (found.transaction_state, found.producer_id, found.producer_epoch) == ("Ongoing", 1000, 0)
    assert (found.transaction_timeout.total_seconds(), found.transaction_start_time.timestamp() * 1000) == (4, NOW_MS)
    assert [(topic.topic, topic.partitions) for topic in found.topics] == [("t", (0, 2))]

    async def listed(**more: Any) -> list[str]:
        response = await world.call(LIST, 2, {"duration_filter": -1, **more})
        assert response.error_code is NONE
        return [row.transactional_id for row in response.transaction_states]

    assert await listed() == [ID, "other"]
    assert await listed(state_filters=["Empty", "What"]) == ["other"]
    assert await listed(state_filters=["What"]) == []
    assert await listed(producer_id_filters=[1001]) == ["other"]
    assert await listed(duration_filter=999) == [ID]
    assert await listed(duration_filter=1000) == []
    assert await listed(transactional_id_pattern="t.d") == [ID]
    assert await listed(transactional_id_pattern="t") == []
    response = await world.call(LIST, 2, {"state_filters": ["What"], "duration_filter": -1})
    assert response.unknown_state_filters == ("What",)
    response = await world.call(LIST, 2, {"transactional_id_pattern": "(?=a)b"})
    assert response.error_code is ErrorCode.invalid_regular_expression
    assert partition.image is not None
    partition.become_follower(partition.image)
    assert await listed() == []
    rows = (await world.call(DESCRIBE, 0, {"transactional_ids": [ID]})).transaction_states
    assert rows[0].error_code is ErrorCode.not_coordinator


async def test_an_id_without_a_transaction_has_no_start(world: World) -> None:
    """The -1 that Kafka's clients expect; kio cannot read it, so it comes out as 1970."""
    await world.coordinate_transactions()
    await begin(world)
    answer, route = world.start(DESCRIBE, 0, {"transactional_ids": [ID]})
    assert struct.pack(">iq", 60_000, -1) in route.encode(answer)
    (row,) = (await world.call(DESCRIBE, 0, {"transactional_ids": [ID]})).transaction_states
    assert row.transaction_start_time.timestamp() == 0


async def test_versions_tell_of_transactions_v2(world: World) -> None:
    response = await world.call(18, 4, {"client_software_name": "x", "client_software_version": "1"})
    supported = {row.name: (row.min_version, row.max_version) for row in response.supported_features}
    assert supported["transaction.version"] == (0, 2)
    finalised = {row.name: row.max_version_level for row in response.finalized_features}
    assert finalised["transaction.version"] == 2
    assert response.finalized_features_epoch >= 0


async def test_a_record_that_no_decision_can_have_led_to_ends_the_node(world: World) -> None:
    await world.coordinate_transactions()
    await begin(world)
    shard = world.broker.transactions.shard_of(ID)
    found = state(world)
    assert found is not None and not isinstance(shard, ErrorCode)
    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    wrong = replace(found, state=State.COMPLETE_COMMIT)
    with pytest.raises(BrokenTransition):
        shard.ask(ID, lambda *_: Decision(record=wrong))
    assert [context[BROKEN] for context in reported] == [True]
