"""ListOffsets and OffsetForLeaderEpoch."""

from __future__ import annotations

from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.replication import FetchWant
from ottla.wire import Connection
from tests.broker.world import LISTENER, NOW_MS, World, batch


async def offset(world: World, timestamp: int, version: int = 11, topic: str = "t", **more: Any) -> Any:
    row = {
        "partition_index": more.pop("index", 0),
        "timestamp": timestamp,
        **more.pop("row", {"current_leader_epoch": -1}),
    }
    connection = more.pop("connection", None)
    values = {"replica_id": -1, "topics": [{"name": topic, "partitions": [row]}], **more}
    response = await world.call(2, version, values, connection=connection)
    return response.topics[0].partitions[0]


@pytest.mark.parametrize("version", range(1, 12))
async def test_the_two_ends(world: World, version: int) -> None:
    (partition,) = world.add_topic("t", leader_epoch=5)
    for _ in range(3):
        await world.produce("t", batch(2))
    assert partition.log is not None
    latest, earliest = await offset(world, -1, version), await offset(world, -2, version)
    assert (latest.error_code, latest.offset, latest.timestamp) == (ErrorCode.none, 6, -1)
    assert (earliest.error_code, earliest.offset, earliest.timestamp) == (ErrorCode.none, 0, -1)
    if version >= 4:
        assert (latest.leader_epoch, earliest.leader_epoch) == (5, 5)


async def test_by_timestamp(world: World) -> None:
    world.add_topic("t", leader_epoch=5)
    for step in (0, 10, 5):
        await world.produce("t", batch(2, timestamp=NOW_MS + step))
    row = await offset(world, NOW_MS + 3)
    assert (row.offset, row.timestamp, row.leader_epoch) == (2, NOW_MS + 10, 5)
    assert (await offset(world, 0)).offset == 0
    row = await offset(world, NOW_MS + 11)
    assert (row.error_code, row.offset, row.timestamp) == (ErrorCode.none, -1, -1)
    largest = await offset(world, -3)
    assert (largest.offset, largest.timestamp) == (2, NOW_MS + 10)


async def test_special_timestamps_have_their_versions(world: World) -> None:
    world.add_topic("t")
    await world.produce("t", batch())
    for timestamp, since in ((-3, 7), (-4, 8), (-5, 9), (-6, 11)):
        assert (await offset(world, timestamp, since - 1)).error_code is ErrorCode.unsupported_version
        assert (await offset(world, timestamp, since)).error_code is ErrorCode.none
    assert (await offset(world, -4)).offset == 0
    assert (await offset(world, -5)).offset == -1
    assert (await offset(world, -6)).offset == -1
    assert (await offset(world, -7)).error_code is ErrorCode.unsupported_version


async def test_the_largest_timestamp_is_none_of_a_deleted_record(world: World) -> None:
    (partition,) = world.add_topic("t")
    for step in (5, 3):
        await world.produce("t", batch(1, timestamp=NOW_MS + step))
    assert (await offset(world, -3)).offset == 0
    assert partition.log is not None
    partition.log.advance_log_start(1)
    found = await offset(world, -3)
    assert (found.offset, found.timestamp) == (1, NOW_MS + 3)
    assert (await offset(world, -4)).offset == 1


async def test_consumers_are_told_the_high_watermark_and_brokers_the_log_end(world: World) -> None:
    (partition,) = world.add_topic("t", replicas=(1, 2))
    await world.produce("t", batch(4))
    assert (await offset(world, -1)).offset == 0
    assert (await offset(world, NOW_MS)).offset == -1
    assert (await offset(world, -3)).offset == -1
    broker = Connection(LISTENER, "peer", principal="node:2")
    assert (await offset(world, -1, replica_id=2, connection=broker)).offset == 4
    stranger = await offset(world, -1, replica_id=2)
    assert (stranger.error_code, stranger.offset) == (ErrorCode.cluster_authorization_failed, -1)
    world.replicas.read_for_follower(partition, FetchWant(4, 1, replica_id=2, broker_epoch=12))
    assert (await offset(world, -1)).offset == 4


@pytest.mark.parametrize(("version", "error"), [(4, "leader_not_available"), (5, "offset_not_available")])
async def test_a_new_leader_says_nothing_until_it_knows_what_was_committed(
    world: World, version: int, error: str
) -> None:
    """KIP-207: an offset told before must not be followed by a smaller one."""
    (partition,) = world.add_topic("t", replicas=(1, 2))
    await world.produce("t", batch(4))
    image = world.view.image.partition("t", 0)
    assert image is not None
    partition.become_follower(image)
    partition.become_leader(image)
    assert (await offset(world, -1, version)).error_code is ErrorCode[error]
    assert (await offset(world, NOW_MS, version)).error_code is ErrorCode[error]
    assert (await offset(world, -2, version)).offset == 0
    world.replicas.read_for_follower(partition, FetchWant(4, 1, replica_id=2, broker_epoch=12))
    assert (await offset(world, -1, version)).offset == 4


async def test_refusals(world: World) -> None:
    world.add_topic("t", leader_epoch=5)
    world.add_topic("f", replicas=(1, 2), leader=2)
    assert (await offset(world, -1, topic="x")).error_code is ErrorCode.unknown_topic_or_partition
    assert (await offset(world, -1, index=8)).error_code is ErrorCode.unknown_topic_or_partition
    assert (await offset(world, -1, topic="f")).error_code is ErrorCode.not_leader_or_follower
    row = await offset(world, -1, row={"current_leader_epoch": 4})
    assert row.error_code is ErrorCode.fenced_leader_epoch
    row = await offset(world, -1, row={"current_leader_epoch": 6})
    assert row.error_code is ErrorCode.unknown_leader_epoch
    twice = {"name": "t", "partitions": [{"partition_index": 0, "timestamp": -1, "current_leader_epoch": -1}] * 2}
    response = await world.call(2, 10, {"replica_id": -1, "topics": [twice]})
    rows = response.topics[0].partitions
    assert [row.error_code for row in rows] == [ErrorCode.none, ErrorCode.invalid_request]


@pytest.mark.parametrize("version", [2, 3, 4])
async def test_the_end_of_an_epoch(world: World, version: int) -> None:
    """KIP-101, KIP-279: the largest epoch not above the one asked for."""
    (partition,) = world.add_topic("t", leader_epoch=5)
    await world.produce("t", batch(3))
    world.add_topic("f", replicas=(1, 2), leader=2)

    async def end(epoch: int, topic: str = "t", current: int = -1) -> tuple[ErrorCode, int, int]:
        row = {"partition": 0, "leader_epoch": epoch, "current_leader_epoch": current}
        values = {"replica_id": -1, "topics": [{"topic": topic, "partitions": [row]}]}
        found = (await world.call(23, version, values)).topics[0].partitions[0]
        return found.error_code, found.leader_epoch, found.end_offset

    assert await end(5) == (ErrorCode.none, 5, 3)
    assert await end(4) == (ErrorCode.none, *partition.log.end_offset_for_epoch(4))  # type: ignore[union-attr]
    assert await end(5, current=4) == (ErrorCode.fenced_leader_epoch, -1, -1)
    assert await end(5, topic="f") == (ErrorCode.not_leader_or_follower, -1, -1)
    assert await end(5, topic="x") == (ErrorCode.unknown_topic_or_partition, -1, -1)
