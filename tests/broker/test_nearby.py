"""KIP-392: whom a leader sends a consumer to, and what a follower gives it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.replication import Partition
from ottla.broker.replication.following import adopt, append_from_leader
from ottla.records import Record, encode_batch
from ottla.wire import Connection
from tests.broker.test_fetch import FOLLOWER, Session, bases, broker_2
from tests.broker.world import LISTENER, NOW_MS, World, batch, broker_image

RACK_AWARE = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
EPOCH = 5


@pytest.fixture
def racks(world: World) -> World:
    """Broker n stands in rack-n; replicas are chosen by rack."""
    world.config.replica_selector_class = RACK_AWARE
    world.update(brokers={id: replace(broker_image(id), rack=f"rack-{id}") for id in (1, 2, 3)})
    return world


async def fetch_as(world: World, broker: int, offset: int, *, log_start: int = 0) -> Any:
    """A fetch of a replica."""
    connection = Connection(LISTENER, "peer", principal=f"node:{broker}")
    row = {"partition": 0, "fetch_offset": offset, "log_start_offset": log_start}
    state = {"replica_id": broker, "replica_state": {"replica_id": broker, "replica_epoch": 10 + broker}}
    return await world.call(1, 17, world.fetch_values(17, {"t": [row]}, **state), connection=connection)


class TestTheLeader:
    async def led(self, racks: World, **more: Any) -> Partition:
        """Three records, which everybody has."""
        (partition,) = racks.add_topic("t", replicas=(1, 2, 3), **more)
        await racks.produce("t", batch(3))
        for broker in (2, 3):
            await fetch_as(racks, broker, 3)
        assert partition.high_watermark == (3 if not more else partition.high_watermark)
        return partition

    @pytest.mark.parametrize("version", range(11, 18))
    async def test_it_names_the_replica_in_the_rack_and_gives_no_records(self, racks: World, version: int) -> None:
        await self.led(racks)
        row = await racks.fetch("t", 1, rack_id="rack-3", version=version, max_wait=60_000)
        assert (row.error_code, row.preferred_read_replica, bases(row.records)) == (ErrorCode.none, 3, [])
        assert row.high_watermark == 3

    @pytest.mark.parametrize("rack", ["", "rack-1", "rack-9"])
    async def test_else_it_serves_itself(self, racks: World, rack: str) -> None:
        await self.led(racks)
        row = await racks.fetch("t", 1, rack_id=rack)
        assert (row.preferred_read_replica, bases(row.records)) == (-1, [0])

    async def test_without_a_selector_it_serves_everybody(self, racks: World) -> None:
        racks.config.replica_selector_class = ""
        await self.led(racks)
        row = await racks.fetch("t", 1, rack_id="rack-3")
        assert (row.preferred_read_replica, bases(row.records)) == (-1, [0])

    async def test_one_in_its_own_rack_is_better_than_a_follower_there(self, racks: World) -> None:
        racks.update(brokers={id: broker_image(id) for id in (1, 2, 3)})
        await self.led(racks)
        assert (await racks.fetch("t", 1, rack_id="r")).preferred_read_replica == -1

    async def test_of_two_it_names_the_one_that_has_more(self, racks: World) -> None:
        racks.update(brokers={id: replace(broker_image(id), rack="x" if id > 1 else "y") for id in (1, 2, 3)})
        await self.led(racks)
        await racks.produce("t", batch(2))
        await fetch_as(racks, 2, 5)
        assert (await racks.fetch("t", 1, rack_id="x")).preferred_read_replica == 2

    @pytest.mark.parametrize(("offset", "log_start"), [(3, 4), (5, 0)])
    async def test_a_replica_that_has_not_got_the_offset_is_not_named(
        self, racks: World, offset: int, log_start: int
    ) -> None:
        await self.led(racks)
        await racks.produce("t", batch(3))
        await fetch_as(racks, 3, 4, log_start=log_start)
        assert (await racks.fetch("t", offset, rack_id="rack-3")).preferred_read_replica == -1

    async def test_a_replica_outside_the_isr_is_not_named(self, racks: World) -> None:
        await self.led(racks, isr=(1, 2))
        assert (await racks.fetch("t", 1, rack_id="rack-3")).preferred_read_replica == -1

    async def test_a_fenced_one_is_not_named(self, racks: World) -> None:
        await self.led(racks)
        fenced = replace(racks.view.image.brokers[3], fenced=True)
        racks.update(brokers={**racks.view.image.brokers, 3: fenced})
        assert (await racks.fetch("t", 1, rack_id="rack-3")).preferred_read_replica == -1

    async def test_it_is_told_again_in_a_session(self, racks: World) -> None:
        await self.led(racks)
        client = Session(racks, rack_id="rack-3")
        await client.open({"t": [(0, 1)]})
        rows = await client.next(max_wait=60_000)
        assert rows[0].preferred_read_replica == 3

    async def test_errors_come_first(self, racks: World) -> None:
        await self.led(racks)
        row = await racks.fetch("t", 1, rack_id="rack-3", current_leader_epoch=EPOCH - 1)
        assert (row.error_code, row.preferred_read_replica) == (ErrorCode.fenced_leader_epoch, -1)

    async def test_a_follower_is_sent_to_nobody(self, racks: World) -> None:
        await self.led(racks)
        row = await racks.fetch("t", 1, rack_id="rack-3", connection=broker_2(), **FOLLOWER)
        assert (row.preferred_read_replica, bases(row.records)) == (-1, [0])

    async def test_followers_hear_of_the_high_watermark_at_once(self, racks: World) -> None:
        (partition,) = racks.add_topic("t", replicas=(1, 2, 3))
        await racks.produce("t", batch())
        follower = Session(racks, connection=broker_2(), **FOLLOWER)
        await follower.open({"t": [(0, 0)]})
        started = follower.start({"t": [(0, 1)]}, max_wait=60_000)
        began = asyncio.get_running_loop().time()
        await fetch_as(racks, 3, 1)
        response = await follower.decoded(started)
        assert response.responses[0].partitions[0].high_watermark == partition.high_watermark == 1
        assert asyncio.get_running_loop().time() - began < 0.09


class TestAFollower:
    """Broker 1 follows broker 2."""

    def follow(self, world: World, *, end: int, high_watermark: int, log_start: int = 0, **more: Any) -> Partition:
        (partition,) = world.add_topic("t", replicas=(2, 1), leader=2, leader_epoch=EPOCH, **more)
        for offset in range(end):
            self.take(partition, offset)
        adopt(partition, high_watermark, log_start)
        return partition

    def take(self, partition: Partition, offset: int, *, epoch: int = EPOCH) -> None:
        record = Record(offset, NOW_MS, b"k", b"v", ())
        append_from_leader(partition, encode_batch([record], base_offset=offset, leader_epoch=epoch), offset)

    @pytest.mark.parametrize("version", range(11, 18))
    async def test_it_gives_what_is_below_its_high_watermark(self, racks: World, version: int) -> None:
        self.follow(racks, end=5, high_watermark=3)
        row = await racks.fetch("t", 1, rack_id="rack-1", version=version)
        assert (row.error_code, bases(row.records), row.high_watermark) == (ErrorCode.none, [1, 2], 3)

    @pytest.mark.parametrize("offset", [3, 4, 5])
    async def test_above_it_the_consumer_waits(self, racks: World, offset: int) -> None:
        self.follow(racks, end=5, high_watermark=3)
        row = await racks.fetch("t", offset, rack_id="rack-1", current_leader_epoch=EPOCH, last_fetched_epoch=EPOCH)
        assert (row.error_code, bases(row.records)) == (ErrorCode.none, [])

    async def test_a_move_of_the_high_watermark_wakes_it_by_the_bytes_that_it_commits(self, racks: World) -> None:
        partition = self.follow(racks, end=5, high_watermark=3)
        size = len(batch())
        values = racks.fetch_values(
            17, {"t": [{"partition": 0, "fetch_offset": 3}]}, rack_id="rack-1", max_wait=60_000, min_bytes=2 * size
        )
        answer, route = racks.start(1, 17, values)
        adopt(partition, 4, 0)
        await asyncio.sleep(0)
        assert not answer.done()
        self.take(partition, 5)
        adopt(partition, 6, 0)
        async with asyncio.timeout(10):
            response = racks.decoded(1, 17, await answer, route)
        assert bases(response.responses[0].partitions[0].records) == [3, 4, 5]

    @pytest.mark.parametrize("offset", [0, 1, 6, 100])
    async def test_what_it_has_not_got_only_the_leader_can_tell(self, racks: World, offset: int) -> None:
        self.follow(racks, end=5, high_watermark=3, log_start=2)
        row = await racks.fetch("t", offset, rack_id="rack-1")
        assert row.error_code is ErrorCode.offset_not_available

    @pytest.mark.parametrize(
        ("epoch", "error"), [(EPOCH - 1, ErrorCode.fenced_leader_epoch), (EPOCH + 1, ErrorCode.unknown_leader_epoch)]
    )
    async def test_leader_epochs_are_compared(self, racks: World, epoch: int, error: ErrorCode) -> None:
        self.follow(racks, end=5, high_watermark=3)
        assert (await racks.fetch("t", 1, rack_id="rack-1", current_leader_epoch=epoch)).error_code is error

    async def test_a_consumer_that_has_read_something_else_goes_to_the_leader(self, racks: World) -> None:
        """It was sent here after an unclean election: what was committed once is not here."""
        self.follow(racks, end=5, high_watermark=3)
        row = await racks.fetch("t", 2, rack_id="rack-1", last_fetched_epoch=EPOCH + 1)
        assert row.error_code is ErrorCode.offset_not_available

    async def test_it_serves_nobody_before_it_has_heard_from_its_leader(self, racks: World) -> None:
        """Its log may hold what the leader has not, also below its own high watermark after an unclean election."""
        partition = self.follow(racks, end=5, high_watermark=3)
        assert partition.image is not None
        partition.become_follower(replace(partition.image, leader_epoch=EPOCH + 1))
        assert (await racks.fetch("t", 1, rack_id="rack-1")).error_code is ErrorCode.offset_not_available
        adopt(partition, 3, 0)
        assert bases((await racks.fetch("t", 1, rack_id="rack-1")).records) == [1, 2]

    async def test_outside_the_isr_it_serves_nobody(self, racks: World) -> None:
        partition = self.follow(racks, end=5, high_watermark=3)
        values = racks.fetch_values(17, {"t": [{"partition": 0, "fetch_offset": 3}]}, rack_id="rack-1", max_wait=60_000)
        answer, route = racks.start(1, 17, values)
        assert partition.image is not None
        partition.update_isr(replace(partition.image, isr=(2,), partition_epoch=1))
        async with asyncio.timeout(10):
            response = racks.decoded(1, 17, await answer, route)
        row = response.responses[0].partitions[0]
        assert row.error_code is ErrorCode.not_leader_or_follower
        assert (row.current_leader.leader_id, row.current_leader.leader_epoch) == (2, EPOCH)

    async def test_when_it_leads_another_epoch_whoever_waits_is_told(self, racks: World) -> None:
        partition = self.follow(racks, end=5, high_watermark=3)
        row = {"partition": 0, "fetch_offset": 3, "current_leader_epoch": EPOCH}
        answer, route = racks.start(1, 17, racks.fetch_values(17, {"t": [row]}, rack_id="rack-1", max_wait=60_000))
        assert partition.image is not None
        partition.become_leader(replace(partition.image, leader=1, leader_epoch=EPOCH + 1))
        async with asyncio.timeout(10):
            response = racks.decoded(1, 17, await answer, route)
        assert response.responses[0].partitions[0].error_code is ErrorCode.fenced_leader_epoch

    @pytest.mark.parametrize("version", [10, 11, 17])
    async def test_whoever_comes_with_old_metadata_is_sent_to_the_leader(self, racks: World, version: int) -> None:
        self.follow(racks, end=5, high_watermark=3)
        row = await racks.fetch("t", 1, version=version)
        assert row.error_code is ErrorCode.not_leader_or_follower

    async def test_a_consumer_without_rack_that_knows_the_epoch_is_served(self, racks: World) -> None:
        self.follow(racks, end=5, high_watermark=3)
        assert bases((await racks.fetch("t", 1, version=11, current_leader_epoch=EPOCH)).records) == [1, 2]

    async def test_it_does_so_whatever_selector_it_has_itself(self, racks: World) -> None:
        racks.config.replica_selector_class = ""
        self.follow(racks, end=5, high_watermark=3)
        assert bases((await racks.fetch("t", 1, rack_id="rack-1")).records) == [1, 2]
