"""Fetch: how much is returned, when, to whom, and what a session leaves out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.replication import LeaderState
from ottla.records import iter_headers
from ottla.wire import Connection
from tests.broker.world import LISTENER, World, batch, topic_id

FOLLOWER: dict[str, Any] = {"replica_id": 2, "replica_state": {"replica_id": 2, "replica_epoch": 12}}


def broker_2() -> Connection:
    return Connection(LISTENER, "peer", principal="node:2")


def bases(records: bytes | None) -> list[int]:
    return [header.base_offset for _, header in iter_headers(bytes(records or b""))]


class TestWhatIsReturned:
    @pytest.mark.parametrize("version", range(4, 19))
    async def test_whole_batches_from_the_one_that_holds_the_offset(self, world: World, version: int) -> None:
        world.add_topic("t")
        for _ in range(3):
            await world.produce("t", batch(5))
        row = await world.fetch("t", 7, version=version)
        assert row.error_code is ErrorCode.none
        assert bases(row.records) == [5, 10]
        assert row.high_watermark == 15

    async def test_an_oversize_first_batch_comes_whole_but_only_once(self, world: World) -> None:
        """KIP-74."""
        world.add_topic("t", 2)
        for index in (0, 1):
            await world.produce("t", batch(value=b"x" * 5000), index=index)
            await world.produce("t", batch(value=b"x" * 5000), index=index)
        rows = [{"partition": index, "fetch_offset": 0, "partition_max_bytes": 10} for index in (0, 1)]
        values = world.fetch_values(12, {"t": rows}, max_bytes=20)
        response = await world.call(1, 12, values)
        assert [bases(row.records) for row in response.responses[0].partitions] == [[0], []]

    async def test_max_bytes_of_partition_and_request(self, world: World) -> None:
        world.add_topic("t", 2)
        for index in (0, 1):
            for _ in range(4):
                await world.produce("t", batch(value=b"x" * 1000), index=index)
        size = len(batch(value=b"x" * 1000))
        row = await world.fetch("t", 0, partition_max_bytes=2 * size + 5)
        assert bases(row.records) == [0, 1]
        rows = [{"partition": index, "fetch_offset": 0} for index in (0, 1)]
        response = await world.call(1, 12, world.fetch_values(12, {"t": rows}, max_bytes=6 * size))
        assert [len(bases(row.records)) for row in response.responses[0].partitions] == [4, 2]

    async def test_consumers_see_nothing_above_the_high_watermark(self, world: World) -> None:
        world.add_topic("t", replicas=(1, 2))
        await world.produce("t", batch())
        row = await world.fetch("t", 0, isolation_level=1)
        assert (row.error_code, row.high_watermark, bases(row.records)) == (ErrorCode.none, 0, [])
        assert row.aborted_transactions == ()
        assert row.last_stable_offset == 0
        assert (await world.fetch("t", 1)).error_code is ErrorCode.none

    @pytest.mark.parametrize("offset", [-1, 2, 1 << 60])
    async def test_offsets_out_of_range(self, world: World, offset: int) -> None:
        world.add_topic("t")
        await world.produce("t", batch())
        assert (await world.fetch("t", offset)).error_code is ErrorCode.offset_out_of_range

    async def test_an_offset_that_a_later_leader_may_have_is_not_out_of_range_yet(self, world: World) -> None:
        (partition,) = world.add_topic("t", replicas=(1, 2))
        await world.produce("t", batch())
        row = await world.fetch("t", 5)
        assert (row.error_code, bases(row.records)) == (ErrorCode.none, [])
        role = partition.role
        assert isinstance(role, LeaderState)
        role.followers[2].fetched(12, 1, 1, partition.host.now() + 0.001)
        await asyncio.sleep(0.002)
        assert (await world.fetch("t", 5)).error_code is ErrorCode.offset_out_of_range

    async def test_who_has_read_of_a_later_leader_is_sent_to_it(self, world: World) -> None:
        world.add_topic("t", leader_epoch=5)
        await world.produce("t", batch())
        row = await world.fetch("t", 1, last_fetched_epoch=6)
        assert row.error_code is ErrorCode.unknown_leader_epoch
        values = {"replica_id": -1, "topics": [{"topic": "t", "partitions": [{"partition": 0, "leader_epoch": 6}]}]}
        found = (await world.call(23, 4, values)).topics[0].partitions[0]
        assert (found.error_code, found.end_offset) == (ErrorCode.unknown_leader_epoch, -1)


class TestRefusals:
    async def test_unknown_partitions_and_ids(self, world: World) -> None:
        world.add_topic("t")
        unknown = ErrorCode.unknown_topic_or_partition
        assert (await world.fetch("nope", version=12)).error_code is unknown
        assert (await world.fetch("nope", version=13)).error_code is ErrorCode.unknown_topic_id
        assert (await world.fetch("t", index=7)).error_code is unknown

    @pytest.mark.parametrize(
        ("epoch", "error"),
        [(5, ErrorCode.none), (4, ErrorCode.fenced_leader_epoch), (6, ErrorCode.unknown_leader_epoch)],
    )
    async def test_leader_epochs_are_compared(self, world: World, epoch: int, error: ErrorCode) -> None:
        """KIP-320."""
        world.add_topic("t", leader_epoch=5)
        assert (await world.fetch("t", current_leader_epoch=epoch)).error_code is error

    async def test_the_new_leader_is_named_with_its_address(self, world: World) -> None:
        """KIP-951."""
        world.add_topic("t", replicas=(1, 2), leader=2, leader_epoch=8)
        values = world.fetch_values(16, {"t": [{"partition": 0, "fetch_offset": 0}]})
        response = await world.call(1, 16, values)
        row = response.responses[0].partitions[0]
        assert row.error_code is ErrorCode.not_leader_or_follower
        assert (row.current_leader.leader_id, row.current_leader.leader_epoch) == (2, 8)
        assert [(one.node_id, one.port) for one in response.node_endpoints] == [(2, 9002)]

    @pytest.mark.parametrize("principal", ["ANONYMOUS", "node:3", "node:02"])
    async def test_only_an_authenticated_broker_fetches_as_a_replica(self, world: World, principal: str) -> None:
        """CVE-2018-1288: a forged replica fetch moves the high watermark."""
        (partition,) = world.add_topic("t", replicas=(1, 2))
        await world.produce("t", batch())
        stranger = Connection(LISTENER, "peer", principal=principal)
        values = world.fetch_values(17, {"t": [{"partition": 0, "fetch_offset": 1}]}, **FOLLOWER)
        response = await world.call(1, 17, values, connection=stranger)
        assert response.error_code is ErrorCode.cluster_authorization_failed
        old = world.fetch_values(4, {"t": [{"partition": 0, "fetch_offset": 1}]}, **FOLLOWER)
        response = await world.call(1, 4, old, connection=stranger)
        assert response.responses[0].partitions[0].error_code is ErrorCode.cluster_authorization_failed
        assert partition.high_watermark == 0


class TestFollowers:
    async def test_a_follower_reads_to_the_log_end_and_moves_the_high_watermark(self, world: World) -> None:
        (partition,) = world.add_topic("t", replicas=(1, 2))
        await world.produce("t", batch(3))
        row = await world.fetch("t", 0, connection=broker_2(), **FOLLOWER)
        assert (bases(row.records), row.high_watermark) == ([0], 0)
        row = await world.fetch("t", 3, connection=broker_2(), **FOLLOWER)
        assert (bases(row.records), row.high_watermark) == ([], 3)
        assert partition.high_watermark == 3

    async def test_what_is_appended_because_of_the_fetch_itself_is_given_at_once(self, world: World) -> None:
        """A coordinator writes its next record when the last one is committed, in the middle of this fetch."""
        (partition,) = world.add_topic("t", replicas=(1, 2))
        await world.produce("t", batch())
        values = world.produce_values("t", {0: batch()})

        def go_on(_size: int) -> None:
            if partition.log_end_offset == 1:
                world.start(0, 12, values)

        partition.watch(go_on)
        row = await world.fetch("t", 1, connection=broker_2(), max_wait=60_000, **FOLLOWER)
        assert (bases(row.records), row.high_watermark) == ([1], 1)

    async def test_divergence_is_told(self, world: World) -> None:
        """KIP-595."""
        world.add_topic("t", replicas=(1, 2), leader_epoch=5)
        await world.produce("t", batch(3))
        row = await world.fetch("t", 9, last_fetched_epoch=5, connection=broker_2(), **FOLLOWER)
        assert row.error_code is ErrorCode.none
        assert (row.diverging_epoch.epoch, row.diverging_epoch.end_offset) == (5, 3)
        assert bases(row.records) == []

    async def test_a_broker_of_an_older_incarnation_counts_for_nothing(self, world: World) -> None:
        """KIP-903."""
        (partition,) = world.add_topic("t", replicas=(1, 2))
        await world.produce("t", batch())
        stale: dict[str, Any] = {"replica_id": 2, "replica_state": {"replica_id": 2, "replica_epoch": 3}}
        row = await world.fetch("t", 1, connection=broker_2(), **stale)
        assert row.error_code is ErrorCode.not_leader_or_follower
        assert partition.high_watermark == 0

    async def test_a_waiting_follower_is_told_soon_that_the_high_watermark_moved(self, world: World) -> None:
        (partition,) = world.add_topic("t", replicas=(1, 2, 3))
        await world.produce("t", batch())
        follower = Session(world, version=17, connection=broker_2(), **FOLLOWER)
        await follower.open({"t": [(0, 0)]})
        answer = follower.start({"t": [(0, 1)]}, max_wait=60_000)
        third: dict[str, Any] = {"replica_id": 3, "replica_state": {"replica_id": 3, "replica_epoch": 13}}
        await world.fetch("t", 1, connection=Connection(LISTENER, "p", principal="node:3"), **third)
        assert partition.high_watermark == 1
        response = await follower.decoded(answer)
        assert response.responses[0].partitions[0].high_watermark == 1


class Session:
    """A client with a fetch session; partitions are given as {topic: [(index, offset)]}."""

    def __init__(self, world: World, version: int = 17, connection: Connection | None = None, **more: Any) -> None:
        self.world = world
        self.version = version
        self.connection = connection or Connection(LISTENER, "peer")
        self.more = more
        self.id = 0
        self.epoch = 0

    def start(
        self, wanted: dict[str, list[tuple[int, int]]], *, forget: tuple[int, ...] = (), **more: Any
    ) -> tuple[Any, Any]:
        rows = {
            name: [{"partition": index, "fetch_offset": offset} for index, offset in places]
            for name, places in wanted.items()
        }
        values = self.world.fetch_values(
            self.version, rows, session_id=self.id, session_epoch=self.epoch, **self.more, **more
        )
        if forget:
            values["forgotten_topics_data"] = [{"topic": "t", "topic_id": topic_id("t"), "partitions": forget}]
        self.epoch += 1
        return self.world.start(1, self.version, values, connection=self.connection)

    async def decoded(self, started: tuple[Any, Any]) -> Any:
        answer, route = started
        if isinstance(answer, asyncio.Future):
            async with asyncio.timeout(10):
                answer = await answer
        return self.world.decoded(1, self.version, answer, route)

    async def open(self, wanted: dict[str, list[tuple[int, int]]]) -> Any:
        response = await self.decoded(self.start(wanted))
        self.id = response.session_id
        return response

    async def next(self, wanted: dict[str, list[tuple[int, int]]] | None = None, **more: Any) -> dict[int, Any]:
        """{partition index: row} of an incremental fetch."""
        response = await self.decoded(self.start(wanted or {}, **more))
        assert response.error_code is ErrorCode.none
        return {row.partition_index: row for topic in response.responses for row in topic.partitions}


class TestSessions:
    """KIP-227."""

    async def test_only_partitions_with_news_are_answered(self, world: World) -> None:
        world.add_topic("t", 4)
        client = Session(world)
        first = await client.open({"t": [(index, 0) for index in range(4)]})
        assert client.id > 0
        assert len(first.responses[0].partitions) == 4
        assert await client.next() == {}
        await world.produce("t", batch(2), index=2)
        rows = await client.next()
        assert list(rows) == [2]
        assert bases(rows[2].records) == [0]
        assert await client.next({"t": [(2, 2)]}) == {}
        await world.produce("t", batch(), index=1)
        await world.produce("t", batch(), index=2)
        assert set(await client.next()) == {1, 2}

    async def test_data_not_yet_fetched_is_answered_again(self, world: World) -> None:
        world.add_topic("t")
        await world.produce("t", batch())
        client = Session(world)
        await client.open({"t": [(0, 0)]})
        assert bases((await client.next())[0].records) == [0]

    async def test_what_found_no_room_is_served_next(self, world: World) -> None:
        world.add_topic("t", 3)
        for index in range(3):
            await world.produce("t", batch(value=b"x" * 500), index=index)
        client = Session(world, max_bytes=100)
        await client.open({"t": [(index, 0) for index in range(3)]})
        served = []
        for _ in range(3):
            rows = await client.next()
            served += [index for index, row in rows.items() if row.records]
        assert sorted(served) == [0, 1, 2]

    async def test_errors_are_answered_each_time_and_their_end_as_well(self, world: World) -> None:
        (_, moving) = world.add_topic("t", 2, replicas=(1, 2), isr=(1,), leader_epoch=5)
        client = Session(world)
        await client.open({"t": [(0, 0), (1, 0)]})
        image = world.view.image.partition("t", 1)
        assert image is not None
        moving.become_follower(image)
        for _ in range(2):
            assert {index: row.error_code for index, row in (await client.next()).items()} == {
                1: ErrorCode.not_leader_or_follower
            }
        moving.become_leader(image)
        rows = await client.next()
        assert {index: row.error_code for index, row in rows.items()} == {1: ErrorCode.none}

    async def test_a_deleted_topic_is_told_and_a_forgotten_partition_is_not(self, world: World) -> None:
        world.add_topic("t", 2)
        client = Session(world)
        await client.open({"t": [(0, 0), (1, 0)]})
        for index in range(2):
            world.replicas.partitions.pop(("t", index)).retire()
        world.update(topics={}, topic_names={})
        rows = await client.next(forget=(0,))
        assert {index: row.error_code for index, row in rows.items()} == {1: ErrorCode.unknown_topic_id}

    async def test_wrong_epochs_and_ids(self, world: World) -> None:
        world.add_topic("t")
        client = Session(world)
        await client.open({"t": [(0, 0)]})
        client.epoch = 9
        response = await client.decoded(client.start({}))
        assert response.error_code is ErrorCode.invalid_fetch_session_epoch
        client.id += 1
        response = await client.decoded(client.start({}))
        assert response.error_code is ErrorCode.fetch_session_id_not_found

    async def test_a_closed_session_stops_watching(self, world: World) -> None:
        (partition,) = world.add_topic("t")
        client = Session(world)
        await client.open({"t": [(0, 0)]})
        assert len(partition.watchers._consumers) == 1
        client.epoch = -1
        await client.decoded(client.start({}))
        assert len(partition.watchers._consumers) == 0

    async def test_idle_partitions_cost_nothing(self, world: World) -> None:
        """A thousand partitions of a follower, one of which has something to say: one is looked at."""
        world.add_topic("t", 1000, replicas=(1, 2), isr=(1, 2))
        follower = Session(world, connection=broker_2(), **FOLLOWER)
        await follower.open({"t": [(index, 0) for index in range(1000)]})
        await follower.next()
        (session,) = world.broker.context.sessions
        assert len(session.hot) == 0
        await world.produce("t", batch(), index=500)
        assert [item.row.partition for item in session.hot.values()] == [500]
        assert list(await follower.next()) == [500]

    async def test_a_follower_outside_the_isr_is_looked_at_every_time(self, world: World) -> None:
        world.add_topic("t", replicas=(1, 2), isr=(1,))
        follower = Session(world, connection=broker_2(), **FOLLOWER)
        await follower.open({"t": [(0, 0)]})
        assert len(world.proposals) == 1
        await follower.next()
        (session,) = world.broker.context.sessions
        assert len(session.hot) == 1


class TestLongPoll:
    async def test_an_append_wakes_it(self, world: World) -> None:
        world.add_topic("t", 2)
        waiting = asyncio.ensure_future(world.fetch("t", 0, index=1, max_wait=60_000))
        await asyncio.sleep(0)
        await world.produce("t", batch(), index=0)
        await asyncio.sleep(0)
        assert not waiting.done()
        await world.produce("t", batch(), index=1)
        assert bases((await waiting).records) == [0]

    async def test_a_session_is_woken_too_and_answers_only_what_came(self, world: World) -> None:
        world.add_topic("t", 3)
        client = Session(world)
        await client.open({"t": [(index, 0) for index in range(3)]})
        waiting = client.start({}, max_wait=60_000)
        await world.produce("t", batch(), index=1)
        response = await client.decoded(waiting)
        assert [row.partition_index for row in response.responses[0].partitions] == [1]

    async def test_min_bytes_gathers(self, world: World) -> None:
        world.add_topic("t")
        size = len(batch())
        waiting = asyncio.ensure_future(world.fetch("t", 0, min_bytes=3 * size, max_wait=60_000))
        await asyncio.sleep(0)
        for _ in range(2):
            await world.produce("t", batch())
            await asyncio.sleep(0)
            assert not waiting.done()
        await world.produce("t", batch())
        assert bases((await waiting).records) == [0, 1, 2]

    async def test_it_ends_at_max_wait_with_what_there_is(self, world: World) -> None:
        world.add_topic("t")
        await world.produce("t", batch())
        row = await world.fetch("t", 0, min_bytes=1 << 20, max_wait=10)
        assert bases(row.records) == [0]

    async def test_a_change_of_leader_ends_it(self, world: World) -> None:
        (partition,) = world.add_topic("t", replicas=(1, 2), isr=(1,))
        waiting = asyncio.ensure_future(world.fetch("t", 0, max_wait=60_000))
        await asyncio.sleep(0)
        image = world.view.image.partition("t", 0)
        assert image is not None
        partition.become_follower(image)
        assert (await waiting).error_code is ErrorCode.not_leader_or_follower

    async def test_nobody_waits_for_nothing(self, world: World) -> None:
        response = await world.call(1, 12, world.fetch_values(12, {}, max_wait=60_000))
        assert response.responses == ()

    async def test_a_client_that_goes_away_leaves_no_watcher(self, world: World) -> None:
        (partition,) = world.add_topic("t")
        values = world.fetch_values(12, {"t": [{"partition": 0, "fetch_offset": 0}]}, max_wait=60_000)
        answer, _ = world.start(1, 12, values)
        assert len(partition.watchers._consumers) == 1
        answer.cancel()
        await asyncio.sleep(0)
        assert len(partition.watchers._consumers) == 0

    async def test_an_evicted_session_is_told_so(self, world: World) -> None:
        world.add_topic("t")
        client = Session(world)
        await client.open({"t": [(0, 0)]})
        waiting = client.start({}, max_wait=20)
        world.broker.context.sessions.remove(client.id)
        response = await client.decoded(waiting)
        assert response.error_code is ErrorCode.fetch_session_id_not_found
