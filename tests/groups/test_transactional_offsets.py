"""TxnOffsetCommit on one broker that coordinates both group and transaction: what is written, and when it counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.groups.retention import expire, forget_topics
from ottla.broker.groups.shard import Shard
from ottla.broker.replication import LeaderState, Partition
from ottla.broker.transactions import Producer
from ottla.controller import AllocateProducerIds, AllocateProducerIdsResponse
from ottla.log import OsDisk
from ottla.records import EndMarker, encode_marker, read_header
from ottla.wire import Connection, Request
from tests.broker.world import LISTENER, NOW_MS, World, verifications
from tests.groups.test_serving import JOIN, acknowledge, commit, confirmed, fetched, join_values, stable_member
from tests.groups.test_serving_consumer import beat
from tests.transactions.serving import begin

INIT, ADD, OFFSETS, END, COMMIT, FETCH, DELETE, OFFSET_DELETE = 22, 24, 25, 26, 28, 9, 42, 47
NONE = ErrorCode.none
ID = "tid"


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Other brokers are this one: what is asked of the coordinator of a transaction is asked here."""
    monkeypatch.chdir(tmp_path)
    made = World(OsDisk())
    made.add_topic("t", 3)
    ids = iter(range(1000, 10_000, 10))
    made.controller.answers[AllocateProducerIds] = lambda _: AllocateProducerIdsResponse(first=next(ids), count=10)
    broker = Connection(LISTENER, "peer", principal="node:1")

    async def ask(_node_id: int, key: int, request: Any) -> Mapping[str, Any]:
        route = made.broker.registry.route(key, 5)
        assert route is not None and key == ADD
        answer = route.api.handler(Request(key, 5, 1, "client", request, broker, 0.0))
        found: Mapping[str, Any] = answer if isinstance(answer, Mapping) else await answer
        return found

    made.peers.answer = ask
    yield made
    await made.close()


def values(producer: Producer, offset: int, *, partition: int = 0, name: str = ID, **more: Any) -> dict[str, Any]:
    row = {"partition_index": partition, "committed_offset": offset, "committed_metadata": "m"}
    return {
        "transactional_id": name,
        "group_id": "g",
        "producer_id": producer.id,
        "producer_epoch": producer.epoch,
        "topics": [{"name": "t", "partitions": [row]}],
        **more,
    }


async def offset(world: World, producer: Producer, at: int, *, version: int = 5, **more: Any) -> ErrorCode:
    response = await world.call(COMMIT, version, values(producer, at, **more))
    error: ErrorCode = response.topics[0].partitions[0].error_code
    return error


async def take_part(world: World, producer: Producer) -> None:
    """By v1 the client says that the group takes part in the transaction."""
    asked = {"transactional_id": ID, "producer_id": producer.id, "producer_epoch": producer.epoch, "group_id": "g"}
    assert (await world.call(OFFSETS, 3, asked)).error_code is NONE


async def stable(world: World, partition: int = 0, *, version: int = 9) -> int | ErrorCode:
    """The position that a consumer of what is committed is told, or why it is told none."""
    wanted = [{"group_id": "g", "topics": [{"name": "t", "partition_indexes": [partition]}]}]
    (found,) = (await world.call(FETCH, version, {"groups": wanted, "require_stable": True})).groups
    row = found.topics[0].partitions[0]
    assert row.error_code is NONE or row.committed_offset == -1
    return row.committed_offset if row.error_code is NONE else row.error_code


def mark(partition: Partition, producer: Producer, *, committed: bool, epoch: int = 0) -> None:
    """As WriteTxnMarkers does."""
    held, role = partition.log, partition.role
    assert held is not None and isinstance(role, LeaderState)
    marker = encode_marker(
        EndMarker(committed, epoch), producer_id=producer.id, producer_epoch=producer.epoch, timestamp=NOW_MS
    )
    held.append_as_leader(marker, read_header(marker), role.leader_epoch, NOW_MS)
    partition.appended(len(marker))


async def both(world: World, **more: Any) -> Partition:
    (partition,) = await world.coordinate(**more)
    await world.coordinate_transactions()
    return partition


def shard_of(world: World) -> Shard:
    (shard,) = world.broker.groups.shards()
    return shard


@pytest.mark.parametrize("committed", [True, False])
async def test_a_position_counts_once_its_transaction_has_committed(world: World, committed: bool) -> None:
    partition = await both(world)
    producer = await begin(world, version=6)
    assert await commit(world, 3) is NONE
    assert await offset(world, producer, 7) is NONE
    assert (await fetched(world), await stable(world)) == (3, ErrorCode.unstable_offset_commit)
    assert await stable(world, 1) == -1, "only that position"
    mark(partition, producer, committed=committed)
    expected = 7 if committed else 3
    assert (await fetched(world), await stable(world)) == (expected, expected)


@pytest.mark.parametrize("version", range(6))
async def test_every_version(world: World, version: int) -> None:
    """Up to v4 the client says first that the group takes part."""
    partition = await both(world)
    producer = await begin(world)
    if version < 5:
        lost = ErrorCode.transaction_abortable if version == 4 else ErrorCode.invalid_txn_state
        assert await offset(world, producer, 7, version=version) is lost
        await take_part(world, producer)
    assert await offset(world, producer, 7, version=version) is NONE
    assert await offset(world, producer, 8, version=version, partition=1) is NONE, "once is enough"
    mark(partition, producer, committed=True)
    assert [await fetched(world, partition=index) for index in range(2)] == [7, 8]


async def test_a_new_coordinator_has_it_all(world: World) -> None:
    partition = await both(world)
    first, second = await begin(world, version=6), await begin(world, "other", version=6)
    await commit(world, 3)
    await offset(world, first, 7)
    await offset(world, second, 5, partition=1, name="other")
    mark(partition, second, committed=True)
    await offset(world, await begin(world, "third", version=6), 9, partition=2, name="third")
    before = shard_of(world)
    before.close()
    world.broker.apply(world.view.image)
    await world.broker.groups.replayed()
    assert shard_of(world) is not before
    assert (await fetched(world), await fetched(world, partition=1)) == (3, 5)
    undecided = [await stable(world, index) for index in range(3)]
    assert undecided == [ErrorCode.unstable_offset_commit, 5, ErrorCode.unstable_offset_commit]
    mark(partition, first, committed=True)
    assert await stable(world) == 7


async def test_nothing_counts_before_it_is_replicated(world: World) -> None:
    (partition,) = world.add_topic("__consumer_offsets", replicas=(1, 2))
    acknowledge(partition)
    world.broker.apply(world.view.image)
    await world.broker.groups.replayed()
    await world.coordinate_transactions()
    producer = await begin(world, version=6)
    answer = asyncio.ensure_future(offset(world, producer, 7))
    async with asyncio.timeout(10):
        while partition.log_end_offset == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert not answer.done()
    asking = confirmed(partition, stable(world))
    assert await asking is ErrorCode.unstable_offset_commit, "it may count before long"
    assert await answer is NONE
    assert await confirmed(partition, fetched(world)) == -1
    mark(partition, producer, committed=True)
    assert await confirmed(partition, stable(world)) == 7
    assert await confirmed(partition, fetched(world)) == 7


async def test_markers_and_own_records_are_taken_up_in_the_order_of_the_log(world: World) -> None:
    (partition,) = world.add_topic("__consumer_offsets", replicas=(1, 2))
    acknowledge(partition)
    world.broker.apply(world.view.image)
    await world.broker.groups.replayed()
    await world.coordinate_transactions()
    producer = await begin(world, version=6)
    first = asyncio.ensure_future(offset(world, producer, 7))
    async with asyncio.timeout(10):
        while partition.log_end_offset == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    mark(partition, producer, committed=True)
    second = asyncio.ensure_future(commit(world, 9))
    await asyncio.sleep(0)
    mark(partition, producer, committed=True, epoch=1)
    acknowledge(partition)
    assert (await first, await second) == (NONE, NONE)
    assert await confirmed(partition, fetched(world)) == 9
    assert await confirmed(partition, stable(world)) == 9


class TestWhoMayCommit:
    async def test_a_classic_group(self, world: World) -> None:
        """KIP-447."""
        await both(world)
        producer = await begin(world, version=6)
        assert await offset(world, producer, 1, generation_id=0) is ErrorCode.illegal_generation, "there is no group"
        joined = await stable_member(world, group_instance_id="i")
        member = {"member_id": joined.member_id, "generation_id": joined.generation_id, "group_instance_id": "i"}
        assert await offset(world, producer, 1, **member) is NONE
        assert await offset(world, producer, 1) is NONE, "older producers do not say who they are"
        assert await offset(world, producer, 1, **{**member, "generation_id": 0}) is ErrorCode.illegal_generation
        assert await offset(world, producer, 1, **{**member, "member_id": "x"}) is ErrorCode.fenced_instance_id
        nobody = {"member_id": "x", "generation_id": joined.generation_id}
        assert await offset(world, producer, 1, **nobody) is ErrorCode.unknown_member_id
        assert await commit(world, 5) is ErrorCode.unknown_member_id, "unlike a plain commit"

    async def test_while_a_rebalance_is_completed(self, world: World) -> None:
        await both(world)
        joined = await stable_member(world)
        producer = await begin(world, version=6)
        more = join_values(member_id=joined.member_id, protocols=[{"name": "range", "metadata": b"\0\0\0\0\0\0"}])
        again = await world.call(JOIN, 9, more)
        assert again.error_code is NONE and again.generation_id == joined.generation_id + 1
        member = {"member_id": joined.member_id, "generation_id": again.generation_id}
        assert await offset(world, producer, 1, **member) is NONE

    async def test_a_group_of_kip_848(self, world: World) -> None:
        await both(world)
        await beat(world, "a")
        producer = await begin(world, version=6)
        assert await offset(world, producer, 1, member_id="a", generation_id=1) is NONE
        assert await offset(world, producer, 1) is NONE
        assert await offset(world, producer, 1, member_id="a", generation_id=7) is ErrorCode.illegal_generation
        assert await offset(world, producer, 1, member_id="x", generation_id=1) is ErrorCode.unknown_member_id

    async def test_a_producer_that_is_fenced(self, world: World) -> None:
        partition = await both(world)
        old = await begin(world, version=6)
        assert await offset(world, old, 1) is NONE
        mark(partition, Producer(old.id, old.epoch + 1), committed=False)
        assert await offset(world, old, 2) is ErrorCode.invalid_producer_epoch
        assert await offset(world, Producer(old.id, old.epoch + 7), 2) is ErrorCode.invalid_producer_epoch
        assert await offset(world, Producer(77, 0), 2) is ErrorCode.invalid_producer_id_mapping
        assert await fetched(world) == -1

    @pytest.mark.parametrize(
        ("version", "error"), [(4, ErrorCode.invalid_txn_state), (5, ErrorCode.invalid_producer_epoch)]
    )
    async def test_a_transaction_that_ends_while_its_coordinator_is_asked(
        self, world: World, version: int, error: ErrorCode
    ) -> None:
        """A record after its marker would begin a transaction that nobody ever ends. By v2 a marker has the epoch that
        comes after the transaction."""
        partition = await both(world)
        producer = await begin(world, version=6)
        if version < 5:
            await take_part(world, producer)
        answer = world.peers.answer

        async def slow(node_id: int, key: int, request: Any) -> Mapping[str, Any]:
            found = await answer(node_id, key, request)
            mark(partition, Producer(producer.id, producer.epoch + (version == 5)), committed=False)
            return found

        world.peers.answer = slow
        assert await offset(world, producer, 7, version=version) is error
        assert await stable(world) == -1

    async def test_a_group_that_goes_on_while_the_coordinator_is_asked(self, world: World) -> None:
        await both(world)
        await beat(world, "a")
        producer = await begin(world, version=6)
        answer = world.peers.answer

        async def slow(node_id: int, key: int, request: Any) -> Mapping[str, Any]:
            found = await answer(node_id, key, request)
            await beat(world, "a", -1)
            return found

        world.peers.answer = slow
        error = await offset(world, producer, 7, member_id="a", generation_id=1)
        assert (error, await stable(world)) == (ErrorCode.unknown_member_id, -1)


@pytest.mark.parametrize(
    ("told", "version", "error"),
    [
        (ErrorCode.not_coordinator, 5, ErrorCode.coordinator_load_in_progress),
        (ErrorCode.coordinator_load_in_progress, 1, ErrorCode.coordinator_not_available),
        (ErrorCode.concurrent_transactions, 5, ErrorCode.concurrent_transactions),
        (ErrorCode.concurrent_transactions, 3, ErrorCode.coordinator_load_in_progress),
        (ErrorCode.transaction_abortable, 4, ErrorCode.transaction_abortable),
        (ErrorCode.transaction_abortable, 3, ErrorCode.invalid_txn_state),
        (ErrorCode.producer_fenced, 5, ErrorCode.invalid_producer_epoch),
    ],
)
async def test_what_the_other_coordinator_says(world: World, told: ErrorCode, version: int, error: ErrorCode) -> None:
    await both(world)

    async def refuse(_node_id: int, _key: int, request: Any) -> Mapping[str, Any]:
        return verifications(request, told)

    world.peers.answer = refuse
    assert await offset(world, Producer(5, 0), 7, version=version) is error
    assert await stable(world) == -1


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"group_id": ""}, ErrorCode.invalid_group_id),
        ({"transactional_id": ""}, ErrorCode.invalid_request),
        ({"topics": [{"name": "x", "partitions": [{"partition_index": 0}]}]}, ErrorCode.unknown_topic_or_partition),
        ({"topics": [{"name": "t", "partitions": [{"partition_index": 9}]}]}, ErrorCode.unknown_topic_or_partition),
    ],
)
async def test_bad_requests(world: World, more: dict[str, Any], error: ErrorCode) -> None:
    await both(world)
    rows = {"committed_offset": 1, "committed_metadata": "m"}
    for topic in more.get("topics", ()):
        topic["partitions"] = [{**row, **rows} for row in topic["partitions"]]
    response = await world.call(COMMIT, 5, {**values(Producer(5, 0), 1), **more})
    assert response.topics[0].partitions[0].error_code is error


class TestTheEndOfGroups:
    async def pending(self, world: World) -> tuple[Partition, Producer]:
        partition = await both(world)
        producer = await begin(world, version=6)
        await commit(world, 3)
        assert await offset(world, producer, 7) is NONE
        assert await offset(world, producer, 8, partition=1) is NONE
        return partition, producer

    async def test_a_deleted_group_loses_what_was_to_be_committed(self, world: World) -> None:
        partition, producer = await self.pending(world)
        (deleted,) = (await world.call(DELETE, 2, {"groups_names": ["g"]})).results
        assert deleted.error_code is NONE
        mark(partition, producer, committed=True)
        assert (await fetched(world), await fetched(world, partition=1)) == (-1, -1)
        assert not list(shard_of(world).ids())

    async def test_a_deleted_offset_too(self, world: World) -> None:
        partition, producer = await self.pending(world)
        topics = [{"name": "t", "partitions": [{"partition_index": 1}]}]
        found = await world.call(OFFSET_DELETE, 0, {"group_id": "g", "topics": topics})
        assert found.error_code is NONE
        mark(partition, producer, committed=True)
        assert (await fetched(world), await fetched(world, partition=1)) == (7, -1)

    async def test_offsets_do_not_grow_old_while_a_transaction_is_to_change_them(self, world: World) -> None:
        partition, producer = await self.pending(world)
        assert await expire(shard_of(world), NOW_MS + 10_000, 1000) == 0
        mark(partition, producer, committed=False)
        assert await expire(shard_of(world), NOW_MS + 10_000, 1000) == 1
        assert not list(shard_of(world).ids())

    async def test_a_deleted_topic_takes_them_along(self, world: World) -> None:
        partition, producer = await self.pending(world)
        await forget_topics(shard_of(world), frozenset({"t"}))
        mark(partition, producer, committed=True)
        assert (await fetched(world), await fetched(world, partition=1)) == (-1, -1)


async def test_what_a_shard_writes_is_applied_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sole replica commits while it appends, before the shard knows that the batch is its own."""
    await both(world)
    seen: list[object] = []
    original = Shard._replay

    def replay(self: Shard, entry: Any, place: Any) -> None:
        seen.append((entry.key, place))
        original(self, entry, place)

    monkeypatch.setattr(Shard, "_replay", replay)
    shard_of(world).close()
    world.broker.apply(world.view.image)
    await world.broker.groups.replayed()
    for number in range(3):
        await commit(world, number)
    assert len(seen) == len(set(seen)) == 3
