"""Produce within transactions: nothing is appended that the coordinator has not been asked about, once for each
transaction and partition, and nothing gets ahead of what is being asked about (KIP-98, KIP-890)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.wire import CLOSE, NO_RESPONSE, ConnectionLost, KafkaConnection, KafkaServer
from tests.broker.transacting import ABORT, COMMIT, Coordinators, broker, end, grown, order, part, written
from tests.broker.world import LISTENER, World, batch

NONE = ErrorCode.none
ID: dict[str, Any] = {"transactional_id": "a"}
V1, V1_OLD, V2 = 11, 10, 12


@pytest.fixture
async def port(world: World) -> AsyncIterator[int]:
    server = KafkaServer(world.broker.registry, on_error=lambda request, error: None)
    yield await server.start(asyncio.get_running_loop(), "127.0.0.1", 0, LISTENER)
    await server.stop()


async def put(world: World, data: bytes, *, version: int = V2, **more: Any) -> ErrorCode:
    row = await world.produce("t", data, version=version, **{**ID, **more})
    return ErrorCode(row.error_code)


@pytest.mark.parametrize(("version", "verify_only"), [(3, True), (V1, True), (V2, False)])
async def test_a_partition_is_asked_about_once_for_each_transaction(
    world: World, version: int, verify_only: bool
) -> None:
    (partition,) = world.add_topic("t")
    coordinators = Coordinators(world)
    for sequence in range(3):
        assert await put(world, part(sequence), version=version) is NONE
    assert coordinators.asked == [("a", 7, 0, verify_only, [0])]
    end(partition, COMMIT)
    assert await put(world, part(3), version=version) is NONE
    assert coordinators.asked == [("a", 7, 0, verify_only, [0])] * 2
    assert partition.last_stable_offset == 4


async def test_what_is_plain_needs_no_coordinator(world: World) -> None:
    world.add_topic("t")
    assert await put(world, batch()) is NONE
    assert await put(world, batch(producer_id=7, producer_epoch=0, base_sequence=0)) is NONE


@pytest.mark.parametrize(
    ("said", "version", "told"),
    [
        (ErrorCode.invalid_txn_state, V1, ErrorCode.invalid_txn_state),
        (ErrorCode.producer_fenced, V1, ErrorCode.invalid_producer_epoch),
        (ErrorCode.invalid_producer_epoch, V1, ErrorCode.invalid_producer_epoch),
        (ErrorCode.invalid_producer_id_mapping, V1, ErrorCode.invalid_producer_id_mapping),
        (ErrorCode.transaction_abortable, V1_OLD, ErrorCode.invalid_txn_state),
        (ErrorCode.transaction_abortable, V1, ErrorCode.transaction_abortable),
        (ErrorCode.concurrent_transactions, V1, ErrorCode.not_enough_replicas),
        (ErrorCode.concurrent_transactions, V2, ErrorCode.concurrent_transactions),
        (ErrorCode.not_coordinator, V2, ErrorCode.not_enough_replicas),
        (ErrorCode.coordinator_load_in_progress, V2, ErrorCode.not_enough_replicas),
        (ErrorCode.operation_not_attempted, V2, ErrorCode.not_enough_replicas),
        (ErrorCode.unknown_server_error, V2, ErrorCode.not_enough_replicas),
        (ErrorCode.cluster_authorization_failed, V2, ErrorCode.not_enough_replicas),
        (ErrorCode.unknown_topic_or_partition, V2, ErrorCode.unknown_topic_or_partition),
    ],
)
async def test_what_a_coordinator_says_in_a_producers_words(
    world: World, said: ErrorCode, version: int, told: ErrorCode
) -> None:
    first, second = world.add_topic("t", 2)
    coordinators = Coordinators(world)
    coordinators.errors[1] = said
    values = world.produce_values("t", {0: part(), 1: part()}, **ID)
    rows = (await world.call(0, version, values)).responses[0].partition_responses
    assert [row.error_code for row in rows] == [NONE, told]
    assert rows[1].error_message and rows[1].base_offset == -1
    assert (first.log_end_offset, second.log_end_offset) == (1, 0)


async def test_without_a_coordinator_it_is_to_be_tried_again(world: World) -> None:
    (partition,) = world.add_topic("t")
    assert await put(world, part()) is ErrorCode.not_enough_replicas
    coordinators = Coordinators(world)

    async def gone(*_: Any) -> Any:
        raise ConnectionLost("gone")

    world.peers.answer = gone
    assert await put(world, part()) is ErrorCode.not_enough_replicas
    world.peers.answer = coordinators.answer
    assert await put(world, part()) is NONE
    assert partition.log_end_offset == 1


async def test_a_batch_is_not_taken_without_a_transactional_id(world: World) -> None:
    """CVE-2018-17196: what the coordinator would be asked about is of no concern to it."""
    first, second = world.add_topic("t", 2)
    Coordinators(world)
    values = world.produce_values("t", {0: part(), 1: batch()})
    rows = (await world.call(0, V2, values)).responses[0].partition_responses
    assert [row.error_code for row in rows] == [ErrorCode.transactional_id_authorization_failed, NONE]
    assert (first.log_end_offset, second.log_end_offset) == (0, 1)
    assert await put(world, part(), transactional_id="") is ErrorCode.invalid_request
    bad = batch(transactional=True)
    assert await put(world, bad) is ErrorCode.invalid_record
    assert first.log_end_offset == 0


async def test_a_request_is_of_one_producer(world: World) -> None:
    first, second = world.add_topic("t", 2)
    coordinators = Coordinators(world)
    for other in (part(producer=8), part(epoch=1)):
        values = world.produce_values("t", {0: part(), 1: other}, **ID)
        rows = (await world.call(0, V2, values)).responses[0].partition_responses
        assert {row.error_code for row in rows} == {ErrorCode.invalid_producer_id_mapping}
    assert not coordinators.asked and not first.log_end_offset and not second.log_end_offset


@pytest.mark.parametrize("commit", [COMMIT, ABORT])
async def test_a_marker_that_comes_between_the_answer_and_the_append(world: World, commit: bool) -> None:
    """KIP-890: the late batch would begin a transaction that nobody ends, and hold back every reader."""
    (partition,) = world.add_topic("t")
    coordinators = Coordinators(world)
    coordinators.let_go.clear()
    late = asyncio.ensure_future(put(world, part(), version=V1))
    await coordinators.come()
    assert await written(world, order({"t": [0]}, commit)) == [NONE]
    coordinators.let_go.set()
    assert await late is ErrorCode.invalid_txn_state
    assert partition.last_stable_offset == partition.high_watermark == 1


async def test_the_next_transaction_is_asked_about_while_the_last_one_is_still_being_ended(world: World) -> None:
    """With transactions v2 its producer does not have to wait, and the coordinator answers when that is done."""
    (partition,) = world.add_topic("t")
    coordinators = Coordinators(world)
    assert await put(world, part(epoch=0)) is NONE
    await coordinators.come()
    coordinators.let_go.clear()
    following = asyncio.ensure_future(put(world, part(epoch=1)))
    await coordinators.come()
    assert await written(world, order({"t": [0]}, epoch=1, transaction_version=2)) == [NONE]
    coordinators.let_go.set()
    assert await following is NONE
    assert partition.last_stable_offset == 2


async def test_a_marker_of_a_transaction_without_records_here_ends_the_question_too(world: World) -> None:
    """The second transaction's marker would change nothing in the log, and is not appended."""
    (partition,) = world.add_topic("t")
    coordinators = Coordinators(world)
    assert await put(world, part(), version=V1) is NONE
    assert await written(world, order({"t": [0]})) == [NONE]
    await coordinators.come()
    coordinators.let_go.clear()
    late = asyncio.ensure_future(put(world, part(1), version=V1))
    await coordinators.come()
    assert await written(world, order({"t": [0]}, ABORT)) == [NONE]
    assert partition.log_end_offset == 2
    coordinators.let_go.set()
    assert await late is ErrorCode.invalid_txn_state


async def test_a_coordinator_of_the_past_is_not_asked(world: World) -> None:
    """It may not have heard that it has lost its partition, nor of the transaction's end; neither have we."""
    (partition,) = world.add_topic("t")
    coordinators = Coordinators(world)
    assert await written(world, order({"t": [0]}, ABORT, coordinator_epoch=6)) == [NONE]
    assert world.view.image.topics["__transaction_state"].partitions[0].leader_epoch == 5
    assert await put(world, part(), version=V1) is ErrorCode.not_enough_replicas
    assert not coordinators.asked and partition.last_stable_offset == 1
    world.add_topic("__transaction_state", replicas=(2, 3), leader=3, leader_epoch=6)
    assert await put(world, part(), version=V1) is NONE


async def test_the_late_produce_of_a_fenced_producer(world: World) -> None:
    (partition,) = world.add_topic("t")
    coordinators = Coordinators(world)
    assert await put(world, part(0)) is NONE
    assert await written(world, order({"t": [0]}, ABORT, epoch=1)) == [NONE]
    assert await put(world, part(1)) is ErrorCode.invalid_producer_epoch
    assert len(coordinators.asked) == 1, "the leader knows by itself"
    assert await put(world, part(0, epoch=1)) is NONE
    assert partition.last_stable_offset == 2


async def test_a_plain_batch_in_an_open_transaction(world: World) -> None:
    world.add_topic("t")
    Coordinators(world)
    assert await put(world, part()) is NONE
    plain = batch(producer_id=7, producer_epoch=0, base_sequence=1)
    assert await put(world, plain) is ErrorCode.invalid_txn_state


async def test_leadership_that_is_lost_meanwhile(world: World) -> None:
    (partition,) = world.add_topic("t", replicas=(1, 2), isr=(1,))
    coordinators = Coordinators(world)
    coordinators.let_go.clear()
    late = asyncio.ensure_future(put(world, part()))
    await coordinators.come()
    world.add_topic("t", replicas=(2,), leader=2, leader_epoch=6)
    image = world.view.image.topics["t"].partitions[0]
    partition.become_follower(image)
    coordinators.let_go.set()
    assert await late is ErrorCode.not_leader_or_follower
    assert partition.log_end_offset == 0


async def test_acks_0(world: World) -> None:
    (partition,) = world.add_topic("t")
    coordinators = Coordinators(world)
    assert await world.produce("t", part(), acks=0, **ID) is NO_RESPONSE
    coordinators.errors[0] = ErrorCode.invalid_txn_state
    assert await world.produce("t", part(producer=8), acks=0, **ID) is CLOSE
    assert partition.log_end_offset == 1


async def test_a_client_that_goes_away_is_not_appended_for(world: World) -> None:
    (partition,) = world.add_topic("t")
    coordinators = Coordinators(world)
    coordinators.let_go.clear()
    answer, _ = world.start(0, V2, world.produce_values("t", {0: part()}, **ID))
    await coordinators.come()
    answer.cancel()
    await asyncio.sleep(0)
    coordinators.let_go.set()
    assert await put(world, part()) is NONE
    assert partition.log_end_offset == 1


async def test_what_follows_on_the_connection_stays_behind_what_is_asked_about(world: World, port: int) -> None:
    (partition,) = world.add_topic("t", replicas=(1, 2))
    coordinators = Coordinators(world)
    coordinators.let_go.clear()
    client = await KafkaConnection.open("127.0.0.1", port, client_id="test", timeout=5)
    other = await KafkaConnection.open("127.0.0.1", port, client_id="test", timeout=5)

    def send(connection: KafkaConnection, data: bytes, **more: Any) -> asyncio.Future[Any]:
        values = world.produce_values("t", {0: data}, acks=-1, **more)
        return asyncio.ensure_future(connection.call(0, V2, values, timeout=10))

    sent = [send(client, part(0), **ID), send(client, part(1), **ID), send(client, batch())]
    await coordinators.come()
    await other.call(3, 12, {"topics": []}, timeout=5)  # whatever has arrived has been looked at
    assert partition.log_end_offset == 0
    overtaking = send(other, batch(value=b"other"))
    await grown(partition, 1)
    coordinators.let_go.set()
    await grown(partition, 4)
    assert not any(each.done() for each in sent), "nothing is committed yet: the append alone lets the others go"
    follower = {"replica_id": 2, "replica_state": {"replica_id": 2, "replica_epoch": 12}}
    await world.fetch("t", 4, connection=broker(2), **follower)
    answers = [(await each).responses[0].partition_responses[0] for each in (overtaking, *sent)]
    assert [row.error_code for row in answers] == [NONE] * 4
    assert [row.base_offset for row in answers] == [0, 1, 2, 3]
    await client.close()
    await other.close()
