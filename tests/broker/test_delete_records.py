"""DeleteRecords: what may go, and that the answer waits for the live replicas (KIP-107)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.replication import FetchWant
from ottla.log import LogConfig
from tests.broker.world import World, batch


def ask(offset: int, topic: str = "t", timeout: int = 1000) -> dict[str, Any]:
    return {"topics": [{"name": topic, "partitions": [{"partition_index": 0, "offset": offset}]}], "timeout": timeout}


async def delete(world: World, offset: int, topic: str = "t", *, version: int = 2, timeout: int = 1000) -> Any:
    return (await world.call(21, version, ask(offset, topic, timeout))).topics[0].partitions[0]


async def fill(world: World, batches: int = 4, **more: Any) -> Any:
    (partition,) = world.add_topic("t", **more)
    for _ in range(batches):
        assert (await world.produce("t", batch(5))).error_code is ErrorCode.none
    return partition


@pytest.mark.parametrize("version", range(3))
async def test_records_below_the_offset_are_gone(world: World, version: int) -> None:
    partition = await fill(world)
    row = await delete(world, 7, version=version)
    assert (row.error_code, row.low_watermark) == (ErrorCode.none, 7)
    assert partition.log_start_offset == 7
    assert (await world.fetch("t", 6)).error_code is ErrorCode.offset_out_of_range
    assert (await world.fetch("t", 7)).error_code is ErrorCode.none
    # What is less than what went already changes nothing.
    assert (await delete(world, 3)).low_watermark == 7


async def test_minus_one_is_the_high_watermark(world: World) -> None:
    partition = await fill(world, replicas=(1, 2), isr=(1, 2))
    world.replicas.read_for_follower(partition, FetchWant(10, 1, replica_id=2, broker_epoch=12, log_start=0))
    answer = asyncio.ensure_future(delete(world, -1))
    await asyncio.sleep(0)
    assert partition.log_start_offset == 10
    world.replicas.read_for_follower(partition, FetchWant(10, 1, replica_id=2, broker_epoch=12, log_start=10))
    assert (await answer).low_watermark == 10


async def test_segments_below_go_with_the_next_pass_of_retention(world: World) -> None:
    partition = await fill(world, log_config=LogConfig(segment_bytes=200))
    held = partition.log
    assert len(held.segments) > 2
    await delete(world, 15)
    held.delete_old_segments(0, partition.high_watermark)
    assert [segment.base_offset for segment in held.segments] == [15]


async def test_the_answer_waits_for_the_followers_that_live(world: World) -> None:
    partition = await fill(world, replicas=(1, 2, 3), isr=(1,))
    world.update(brokers={id: broker for id, broker in world.view.image.brokers.items() if id != 3})
    answer = asyncio.ensure_future(delete(world, 20))
    for log_start in (0, 19):
        world.replicas.read_for_follower(
            partition, FetchWant(20, 1, replica_id=2, broker_epoch=12, log_start=log_start)
        )
        await asyncio.sleep(0)
        assert not answer.done()
    world.replicas.read_for_follower(partition, FetchWant(20, 1, replica_id=2, broker_epoch=12, log_start=20))
    row = await answer
    assert (row.error_code, row.low_watermark) == (ErrorCode.none, 20)


async def test_a_follower_that_dies_is_waited_for_no_more(world: World) -> None:
    partition = await fill(world, replicas=(1, 2), isr=(1,))
    answer = asyncio.ensure_future(delete(world, 20))
    await asyncio.sleep(0)
    world.update(brokers={id: broker for id, broker in world.view.image.brokers.items() if id != 2})
    partition.release_starts()
    assert (await answer).error_code is ErrorCode.none


async def test_a_follower_that_says_nothing_costs_the_timeout(world: World) -> None:
    partition = await fill(world, replicas=(1, 2), isr=(1,))
    row = await delete(world, 20, timeout=10)
    assert (row.error_code, row.low_watermark) == (ErrorCode.request_timed_out, -1)
    assert partition.log_start_offset == 20


async def test_a_change_of_leader_ends_the_wait(world: World) -> None:
    partition = await fill(world, replicas=(1, 2), isr=(1,))
    answer = asyncio.ensure_future(delete(world, 20))
    await asyncio.sleep(0)
    partition.end_waits(ErrorCode.not_leader_or_follower)
    assert (await answer).error_code is ErrorCode.not_leader_or_follower


async def test_what_is_refused(world: World) -> None:
    await fill(world)
    world.add_topic("led-elsewhere", leader=2, replicas=(2, 1))
    world.add_topic("compacted")
    world.set_config("topic", "compacted", cleanup_policy="compact")
    world.add_topic("both")
    world.set_config("topic", "both", cleanup_policy="compact,delete")
    for offset, topic, error in (
        (21, "t", ErrorCode.offset_out_of_range),
        (-2, "t", ErrorCode.offset_out_of_range),
        (0, "unknown", ErrorCode.unknown_topic_or_partition),
        (0, "led-elsewhere", ErrorCode.not_leader_or_follower),
        (0, "compacted", ErrorCode.policy_violation),
        (0, "both", ErrorCode.none),
        (0, "__consumer_offsets", ErrorCode.invalid_topic_exception),
    ):
        row = await delete(world, offset, topic)
        assert row.error_code is error, (offset, topic)
        assert row.low_watermark == (0 if error is ErrorCode.none else -1)
