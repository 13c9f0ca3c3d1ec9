"""Readers of committed records (isolation level 1): how far they read, what they have to pass over, when they are
woken (KIP-98)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.replication.follower import FollowerState
from tests.broker.test_fetch import Session, bases, broker_2
from tests.broker.transacting import ABORT, COMMIT, end, part, put
from tests.broker.world import NOW_MS, World, batch

FOLLOWER: dict[str, Any] = {"replica_id": 2, "replica_state": {"replica_id": 2, "replica_epoch": 12}}
COMMITTED: dict[str, Any] = {"isolation_level": 1}


async def turns() -> None:
    """Whoever was told something has had the time to answer."""
    for _ in range(5):
        await asyncio.sleep(0)


async def follow(world: World, offset: int) -> None:
    """The follower has everything below."""
    await world.fetch("t", offset, connection=broker_2(), **FOLLOWER)


async def latest(world: World, version: int = 10, *, isolation_level: int = 1, timestamp: int = -1) -> int:
    values = {
        "replica_id": -1,
        "isolation_level": isolation_level,
        "topics": [{"name": "t", "partitions": [{"partition_index": 0, "timestamp": timestamp}]}],
    }
    found: int = (await world.call(2, version, values)).topics[0].partitions[0].offset
    return found


async def test_reads_stop_at_the_last_stable_offset(world: World) -> None:
    (partition,) = world.add_topic("t")
    put(partition, batch())
    put(partition, part())
    put(partition, batch())
    row = await world.fetch("t", 0, **COMMITTED)
    assert (bases(row.records), row.high_watermark, row.last_stable_offset) == ([0], 3, 1)
    assert row.aborted_transactions == ()
    assert bases((await world.fetch("t", 1, **COMMITTED)).records) == []
    row = await world.fetch("t", 0)
    assert (bases(row.records), row.last_stable_offset) == ([0, 1, 2], 1)
    assert row.aborted_transactions is None
    end(partition, COMMIT)
    row = await world.fetch("t", 0, **COMMITTED)
    assert (bases(row.records), row.last_stable_offset) == ([0, 1, 2, 3], 4)


async def test_nothing_is_shown_before_the_marker_is_replicated(world: World) -> None:
    """Another leader may not have it, and would have to take back what was shown."""
    (partition,) = world.add_topic("t", replicas=(1, 2))
    put(partition, part())
    end(partition, COMMIT)
    await follow(world, 1)
    row = await world.fetch("t", 0, **COMMITTED)
    assert (bases(row.records), row.high_watermark, row.last_stable_offset) == ([], 1, 0)
    await follow(world, 2)
    assert bases((await world.fetch("t", 0, **COMMITTED)).records) == [0, 1]


async def test_aborted_transactions_are_named_where_they_have_records(world: World) -> None:
    (partition,) = world.add_topic("t")
    put(partition, part(producer=7))  # 0
    put(partition, part(producer=8))  # 1
    end(partition, ABORT, producer=7)  # 2
    put(partition, part(1, producer=7))  # 3
    end(partition, COMMIT, producer=7)  # 4
    end(partition, ABORT, producer=8)  # 5

    async def aborted(offset: int, **more: Any) -> list[tuple[int, int]]:
        row = await world.fetch("t", offset, **COMMITTED, **more)
        return [(one.producer_id, one.first_offset) for one in row.aborted_transactions]

    assert await aborted(0) == [(7, 0), (8, 1)]
    assert await aborted(0, partition_max_bytes=1) == [(7, 0)]
    assert await aborted(3) == [(8, 1)], "what 7 writes here is another transaction"
    assert await aborted(6) == []
    assert (await world.fetch("t", 0)).aborted_transactions is None
    assert (await world.fetch("t", 9, **COMMITTED)).aborted_transactions is None
    assert [
        (one.producer_id, one.first_offset)
        for one in (await world.fetch("t", 0, version=4, **COMMITTED)).aborted_transactions
    ] == [(7, 0), (8, 1)]


async def test_a_long_poll_is_woken_when_the_last_stable_offset_moves(world: World) -> None:
    (partition,) = world.add_topic("t")
    put(partition, part())
    values = world.fetch_values(12, {"t": [{"partition": 0, "fetch_offset": 0}]}, max_wait=60_000, **COMMITTED)
    answer, route = world.start(1, 12, values)
    anybody, _ = world.start(1, 12, {**values, "isolation_level": 0, "min_bytes": len(part()) + 1})
    put(partition, batch())
    await turns()
    assert anybody.done() and not answer.done(), "the high watermark alone is no news to it"
    end(partition, COMMIT)
    async with asyncio.timeout(10):
        response = world.decoded(1, 12, await answer, route)
    assert bases(response.responses[0].partitions[0].records) == [0, 1, 2]


async def test_bytes_are_counted_as_they_become_stable(world: World) -> None:
    (partition,) = world.add_topic("t")
    size = len(part())
    values = world.fetch_values(
        12, {"t": [{"partition": 0, "fetch_offset": 0}]}, max_wait=60_000, min_bytes=3 * size, **COMMITTED
    )
    answer, _ = world.start(1, 12, values)
    put(partition, part(0, producer=7))
    put(partition, part(0, producer=8))
    end(partition, COMMIT, producer=7)
    await turns()
    assert not answer.done(), "one batch is stable"
    end(partition, COMMIT, producer=8)
    async with asyncio.timeout(10):
        await answer


async def test_a_session_hears_of_what_becomes_stable(world: World) -> None:
    (partition,) = world.add_topic("t")
    put(partition, part())
    session = Session(world, **COMMITTED)
    await session.open({"t": [(0, 0)]})
    answer = session.start({}, max_wait=60_000)
    put(partition, batch())
    await turns()
    assert not answer[0].done()
    end(partition, ABORT)
    response = await session.decoded(answer)
    row = response.responses[0].partitions[0]
    assert (bases(row.records), row.last_stable_offset) == ([0, 1, 2], 3)
    assert [(one.producer_id, one.first_offset) for one in row.aborted_transactions] == [(7, 0)]


async def test_a_session_may_change_its_isolation(world: World) -> None:
    (partition,) = world.add_topic("t")
    put(partition, part())
    session = Session(world)
    await session.open({"t": [(0, 5)]})
    await session.decoded(session.start({"t": [(0, 1)]}))
    committed = session.start({"t": [(0, 0)]}, max_wait=60_000, **COMMITTED)
    put(partition, batch())
    await turns()
    assert not committed[0].done()
    end(partition, COMMIT)
    assert bases((await session.decoded(committed)).responses[0].partitions[0].records) == [0, 1, 2]
    put(partition, part(1))
    answer = session.start({"t": [(0, 3)]}, max_wait=60_000)
    assert bases((await session.decoded(answer)).responses[0].partitions[0].records) == [3]


async def test_a_replica_reads_everything_whatever_it_says(world: World) -> None:
    (partition,) = world.add_topic("t", replicas=(1, 2))
    put(partition, part())
    row = await world.fetch("t", 0, connection=broker_2(), **FOLLOWER, **COMMITTED)
    assert bases(row.records) == [0] and row.aborted_transactions is None


async def test_the_log_ends_at_the_last_stable_offset_for_them(world: World) -> None:
    (partition,) = world.add_topic("t")
    put(partition, batch(timestamp=NOW_MS))
    put(partition, part())
    put(partition, batch(timestamp=NOW_MS + 7))
    assert await latest(world) == 1
    assert await latest(world, 2) == 1
    assert await latest(world, isolation_level=0) == 3
    assert await latest(world, 1, isolation_level=1) == 3, "v1 does not know it"
    assert await latest(world, timestamp=NOW_MS + 1) == -1
    assert await latest(world, timestamp=NOW_MS + 1, isolation_level=0) == 2
    assert await latest(world, timestamp=-3) == -1
    end(partition, ABORT)
    assert (await latest(world), await latest(world, timestamp=NOW_MS + 1)) == (4, 2)


async def test_a_follower_serves_no_more_than_its_own_log_knows_to_be_stable(world: World) -> None:
    """KIP-392."""
    (source,) = world.add_topic("source", leader_epoch=5)
    put(source, part(producer=7))
    put(source, part(producer=8))
    end(source, ABORT, producer=7)
    (partition,) = world.add_topic("t", replicas=(1, 2), leader=2, leader_epoch=5)
    assert source.log is not None and partition.log is not None and isinstance(partition.role, FollowerState)
    partition.log.append_as_follower(source.log.read(0, 1 << 20, up_to=3))
    partition.role.high_watermark, partition.role.in_step = 3, True
    row = await world.fetch("t", 0, rack_id="r", current_leader_epoch=5, **COMMITTED)
    assert row.error_code is ErrorCode.none
    assert (bases(row.records), row.last_stable_offset) == ([0], 1)
    assert [(one.producer_id, one.first_offset) for one in row.aborted_transactions] == [(7, 0)]


@pytest.mark.parametrize("deleted", [1, 2, 3])
async def test_deleted_records_of_an_open_transaction_hold_nothing_back(world: World, deleted: int) -> None:
    (partition,) = world.add_topic("t")
    put(partition, part(0, 2))
    put(partition, batch())
    assert partition.log is not None
    partition.log.advance_log_start(deleted)
    assert partition.last_stable_offset == deleted
