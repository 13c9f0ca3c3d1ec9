"""WriteTxnMarkers and DescribeProducers: who may end a transaction in a partition, and when that is said to be done."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.records import EndMarker, iter_headers, read_marker
from ottla.wire import Connection
from tests.broker.transacting import ABORT, COMMIT, broker, end, order, part, put, written
from tests.broker.world import LISTENER, World, batch

NONE = ErrorCode.none
FOLLOWER: dict[str, Any] = {"replica_id": 2, "replica_state": {"replica_id": 2, "replica_epoch": 12}}


def markers_of(partition: Any) -> list[tuple[int, int, EndMarker | None]]:
    """`(producer id, epoch, marker)`"""
    data = partition.log.read(0, 1 << 20, up_to=partition.log_end_offset)
    return [
        (header.producer_id, header.producer_epoch, read_marker(data, at))
        for at, header in iter_headers(data)
        if header.is_control
    ]


@pytest.mark.parametrize("principal", ["ANONYMOUS", "User:node"])
async def test_only_brokers_end_transactions(world: World, principal: str) -> None:
    (partition,) = world.add_topic("t")
    put(partition, part())
    stranger = Connection(LISTENER, "peer", principal=principal)
    response = await world.call(27, 2, {"markers": [order({"t": [0]})]}, connection=stranger)
    assert response.markers[0].topics[0].partitions[0].error_code is ErrorCode.cluster_authorization_failed
    assert partition.log_end_offset == 1


async def test_an_administrator_may_abort_what_is_open(world: World) -> None:
    """KIP-664: a transaction that hangs, since its coordinator knows nothing of it."""
    (partition,) = world.add_topic("t")
    put(partition, part(epoch=3))

    async def asked(**more: Any) -> ErrorCode:
        values = {"markers": [order({"t": [0]}, **{"commit": ABORT, "epoch": 3, **more})]}
        response = await world.call(27, 1, values)
        return ErrorCode(response.markers[0].topics[0].partitions[0].error_code)

    refused = ErrorCode.cluster_authorization_failed
    assert [await asked(commit=COMMIT), await asked(epoch=4), await asked(producer=8)] == [refused] * 3
    assert await asked(coordinator_epoch=-2) is ErrorCode.invalid_request
    assert partition.log_end_offset == 1
    assert await asked(coordinator_epoch=-1) is NONE, "nobody has ended a transaction of this producer here"
    assert partition.last_stable_offset == 2
    assert await asked() is refused
    put(partition, part(1, epoch=3))
    assert await written(world, order({"t": [0]}, ABORT, epoch=4, coordinator_epoch=5, transaction_version=2)) == [NONE]
    put(partition, part(epoch=4))
    assert await asked(epoch=4, coordinator_epoch=-1) is ErrorCode.transaction_coordinator_fenced
    assert await asked(epoch=4, coordinator_epoch=5) is NONE
    assert partition.last_stable_offset == partition.log_end_offset == 6


async def test_each_partition_has_its_own_answer(world: World) -> None:
    first, second = world.add_topic("t", 2)
    world.add_topic("elsewhere", replicas=(1, 2), leader=2)
    put(first, part(producer=7))
    put(second, part(producer=8))
    asked = [
        order({"t": [0], "nope": [0], "elsewhere": [0]}, ABORT, producer=7, epoch=1, coordinator_epoch=5),
        order({"t": [1]}, COMMIT, producer=8, epoch=3, coordinator_epoch=6, transaction_version=2),
        order({"t": [1]}, producer=-1),
        order({"t": [1]}, producer=9, epoch=-1),
        order({"t": [1]}, producer=9, coordinator_epoch=-1),
    ]
    assert await written(world, *asked) == [
        NONE,
        ErrorCode.unknown_topic_or_partition,
        ErrorCode.not_leader_or_follower,
        NONE,
        ErrorCode.invalid_request,
        ErrorCode.invalid_request,
        ErrorCode.invalid_request,
    ]
    assert markers_of(first) == [(7, 1, EndMarker(False, 5))]
    assert markers_of(second) == [(8, 3, EndMarker(True, 6))]
    assert first.last_stable_offset == second.last_stable_offset == 2


async def test_the_answer_says_that_the_marker_is_committed(world: World) -> None:
    (partition,) = world.add_topic("t", replicas=(1, 2))
    put(partition, part())
    first = asyncio.ensure_future(written(world, order({"t": [0]})))
    await asyncio.sleep(0)
    retried = asyncio.ensure_future(written(world, order({"t": [0]})))
    await asyncio.sleep(0)
    assert markers_of(partition) == [(7, 0, EndMarker(True, 0))], "the second one is the same once more"
    assert not first.done() and not retried.done()
    await world.fetch("t", 1, connection=broker(2), **FOLLOWER)
    await asyncio.sleep(0)
    assert not first.done() and partition.last_stable_offset == 0
    await world.fetch("t", 2, connection=broker(2), **FOLLOWER)
    assert await first == await retried == [NONE]
    assert partition.last_stable_offset == 2


async def test_a_marker_that_cannot_be_committed_is_asked_for_again(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr("ottla.broker.api.write_txn_markers.TIMEOUT_S", 0.01)
    (partition,) = world.add_topic("t", replicas=(1, 2))
    put(partition, part())
    assert await written(world, order({"t": [0]})) == [ErrorCode.request_timed_out]
    (small,) = world.add_topic("small", replicas=(1, 2), isr=(1,), min_insync=2)
    assert await written(world, order({"small": [0]})) == [ErrorCode.not_enough_replicas]
    assert small.log_end_offset == 0


async def test_producers_and_coordinators_of_the_past_are_fenced(world: World) -> None:
    (partition,) = world.add_topic("t")
    put(partition, part(epoch=3))
    assert await written(world, order({"t": [0]}, epoch=4, coordinator_epoch=8, transaction_version=2)) == [NONE]
    end_offset = partition.log_end_offset
    for epoch, coordinator_epoch, error in (
        (3, 9, ErrorCode.invalid_producer_epoch),
        (4, 7, ErrorCode.transaction_coordinator_fenced),
        (4, 8, NONE),
    ):
        asked = order({"t": [0]}, epoch=epoch, coordinator_epoch=coordinator_epoch, transaction_version=2)
        assert await written(world, asked) == [error]
    assert partition.log_end_offset == end_offset
    assert await written(world, order({"t": [0]}, epoch=4, coordinator_epoch=9)) == [NONE], "the next coordinator's"
    assert partition.log_end_offset == end_offset + 1


async def test_a_late_copy_does_not_end_the_next_transaction(world: World) -> None:
    """KIP-1228. The delayed WriteTxnMarkers of the last transaction comes after the first batch of the next."""
    (partition,) = world.add_topic("t")
    put(partition, part(epoch=0))
    late = order({"t": [0]}, ABORT, epoch=1, transaction_version=2)
    assert await written(world, late) == [NONE]
    put(partition, part(epoch=1))
    assert await written(world, late) == [ErrorCode.invalid_producer_epoch]
    assert partition.last_stable_offset == 2 and partition.log_end_offset == 3
    assert await written(world, order({"t": [0]}, epoch=2, transaction_version=2)) == [NONE]
    assert partition.last_stable_offset == 4


async def test_version_1_knows_no_transactions_v2(world: World) -> None:
    (partition,) = world.add_topic("t")
    put(partition, part())
    assert await written(world, order({"t": [0]}), version=1) == [NONE]
    assert partition.last_stable_offset == 2


async def test_producers_are_described_by_any_replica(world: World) -> None:
    (partition,) = world.add_topic("t")
    world.add_topic("elsewhere", replicas=(2, 3), leader=2)
    world.add_topic("followed", replicas=(1, 2), leader=2)
    put(partition, part(4, 2, producer=7, epoch=1))
    put(partition, batch(producer_id=8, producer_epoch=0, base_sequence=0))
    end(partition, COMMIT, producer=9, epoch=2)
    values = {
        "topics": [
            {"name": "t", "partition_indexes": [0, 1]},
            {"name": "elsewhere", "partition_indexes": [0]},
            {"name": "followed", "partition_indexes": [0]},
        ]
    }
    response = await world.call(61, 0, values)
    t, elsewhere, followed = response.topics
    assert (followed.partitions[0].error_code, followed.partitions[0].active_producers) == (NONE, ())
    assert t.partitions[1].error_code is ErrorCode.unknown_topic_or_partition
    assert elsewhere.partitions[0].error_code is ErrorCode.not_leader_or_follower
    found = [
        (
            each.producer_id,
            each.producer_epoch,
            each.last_sequence,
            each.coordinator_epoch,
            each.current_txn_start_offset,
        )
        for each in t.partitions[0].active_producers
    ]
    assert found == [(7, 1, 5, -1, 0), (8, 0, 0, -1, -1), (9, 2, -1, 0, -1)]
