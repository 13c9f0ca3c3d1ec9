"""Group APIs on one broker: what is answered, when, and what stands in the log afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.coordination.partitioning import OFFSETS_TOPIC
from ottla.broker.groups.newcomers import Bounds
from ottla.broker.groups.records import Entry, GroupKey, OffsetKey, OffsetValue, StoredGroup, decode
from ottla.broker.groups.retention import expire
from ottla.broker.replication import LeaderState, Partition
from ottla.controller import Delta
from ottla.log import OsDisk
from ottla.records import Record, decode_batch, encode_batch, iter_headers, read_header
from tests.broker.world import NOW_MS, World, batch, topic_id
from tests.groups.machine import subscription

JOIN, SYNC, HEARTBEAT, LEAVE, COMMIT, FETCH = 11, 14, 12, 13, 8, 9
T = TypeVar("T")
FIND, DESCRIBE, LIST, DELETE, OFFSET_DELETE, PRODUCE, CREATE = 10, 15, 16, 42, 47, 0, 19


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.chdir(tmp_path)
    made = World(OsDisk())
    made.add_topic("t", 3)
    yield made
    await made.close()


def join_values(**more: Any) -> dict[str, Any]:
    return {
        "group_id": "g",
        "session_timeout": 10_000,
        "rebalance_timeout": 10_000,
        "protocol_type": "consumer",
        "protocols": [{"name": "range", "metadata": subscription("t")}],
        **more,
    }


def commit_values(offset: int, *, topic: str = "t", partition: int = 0, metadata: str = "", **more: Any) -> Any:
    row = {"partition_index": partition, "committed_offset": offset, "committed_metadata": metadata}
    rows = [{"name": topic, "topic_id": topic_id(topic), "partitions": [row]}]
    return {"group_id": "g", "generation_id_or_member_epoch": -1, "topics": rows, **more}


async def commit(world: World, offset: int, *, version: int = 9, **more: Any) -> ErrorCode:
    response = await world.call(COMMIT, version, commit_values(offset, **more))
    error: ErrorCode = response.topics[0].partitions[0].error_code
    return error


async def fetched(world: World, group: str = "g", topic: str = "t", partition: int = 0) -> int:
    wanted = [{"group_id": group, "topics": [{"name": topic, "partition_indexes": [partition]}]}]
    (found,) = (await world.call(FETCH, 9, {"groups": wanted})).groups
    assert found.error_code is ErrorCode.none
    offset: int = found.topics[0].partitions[0].committed_offset
    return offset


async def stable_member(world: World, **more: Any) -> Any:
    """The JoinGroup answer of a sole member whose group is stable."""
    first = await world.call(JOIN, 9, join_values(**more))
    if first.error_code is ErrorCode.member_id_required:
        first = await world.call(JOIN, 9, join_values(member_id=first.member_id, **more))
    assert first.error_code is ErrorCode.none
    synced = await world.call(SYNC, 5, sync_values(first))
    assert (synced.error_code, synced.assignment) == (ErrorCode.none, b"mine")
    return first


def sync_values(joined: Any) -> dict[str, Any]:
    return {
        "group_id": "g",
        "generation_id": joined.generation_id,
        "member_id": joined.member_id,
        "protocol_type": "consumer",
        "protocol_name": "range",
        "assignments": [{"member_id": joined.member_id, "assignment": b"mine"}],
    }


def entries(partition: Partition) -> list[Entry]:
    assert partition.log is not None
    data = partition.log.read(0, 1 << 20, up_to=partition.log_end_offset)
    found = []
    for at, _ in iter_headers(data):
        for record in decode_batch(data, at):
            assert record.key is not None
            entry = decode(record.key, record.value)
            assert entry is not None
            found.append(entry)
    return found


def acknowledge(partition: Partition) -> None:
    """The follower has everything."""
    role = partition.role
    assert isinstance(role, LeaderState)
    role.followers[2].fetched(12, role.log_end, role.log_end, partition.host.now())
    partition.advance()


async def confirmed(partition: Partition, asking: Coroutine[Any, Any, T]) -> T:
    """The answer to what waits until the follower has everything."""
    answer = asyncio.ensure_future(asking)
    log_end = partition.log_end_offset
    async with asyncio.timeout(10):
        while partition.log_end_offset == log_end:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert not answer.done()
    acknowledge(partition)
    return await answer


async def test_a_group_from_the_first_join_to_its_end(world: World) -> None:
    (partition,) = await world.coordinate()
    joined = await stable_member(world)
    assert (joined.generation_id, joined.leader, joined.protocol_name) == (1, joined.member_id, "range")
    beat = {"group_id": "g", "generation_id": 1, "member_id": joined.member_id}
    assert (await world.call(HEARTBEAT, 4, beat)).error_code is ErrorCode.none
    (described,) = (await world.call(DESCRIBE, 6, {"groups": ["g"]})).groups
    assert (described.group_state, described.protocol_data, described.members[0].member_assignment) == (
        "Stable",
        "range",
        b"mine",
    )
    own = {"generation_id_or_member_epoch": 1, "member_id": joined.member_id}
    assert await commit(world, 5, metadata="note", **own) is ErrorCode.none
    assert await fetched(world) == 5
    left = await world.call(LEAVE, 5, {"group_id": "g", "members": [{"member_id": joined.member_id}]})
    assert left.members[0].error_code is ErrorCode.none
    (listed,) = (await world.call(LIST, 5, {"states_filter": ["empty"]})).groups
    assert (listed.group_id, listed.group_state, listed.group_type) == ("g", "Empty", "classic")
    values = [entry.value for entry in entries(partition)]
    assert [value.generation for value in values if isinstance(value, StoredGroup)] == [1, 2]
    assert OffsetValue(5, -1, "note", NOW_MS, topic_id=topic_id("t")) in values
    (deleted,) = (await world.call(DELETE, 2, {"groups_names": ["g"]})).results
    assert deleted.error_code is ErrorCode.none
    assert [entry.key for entry in entries(partition)[-2:]] == [OffsetKey("g", "t", 0), GroupKey("g")]
    assert await fetched(world) == -1
    assert (await world.call(LIST, 5, {})).groups == ()


@pytest.mark.parametrize("version", range(10))
async def test_join_in_every_version(world: World, version: int) -> None:
    await world.coordinate()
    response = await world.call(JOIN, version, join_values())
    if version >= 4:
        assert response.error_code is ErrorCode.member_id_required
        response = await world.call(JOIN, version, join_values(member_id=response.member_id))
    assert (response.error_code, response.generation_id, response.protocol_name) == (ErrorCode.none, 1, "range")
    assert [row.member_id for row in response.members] == [response.member_id]


async def test_a_commit_is_answered_when_it_is_replicated_and_not_before(world: World) -> None:
    (partition,) = world.add_topic(OFFSETS_TOPIC, replicas=(1, 2))
    acknowledge(partition)
    world.broker.apply(world.view.image)
    await world.broker.groups.replayed()
    answer, route = world.start(COMMIT, 9, commit_values(7))
    await asyncio.sleep(0.01)
    assert not answer.done()
    assert await confirmed(partition, fetched(world)) == 7, "it is told when it is committed"
    response = world.decoded(COMMIT, 9, await answer, route)
    assert response.topics[0].partitions[0].error_code is ErrorCode.none


async def test_who_cannot_tell_whether_it_still_leads_tells_no_offsets(world: World) -> None:
    (partition,) = world.add_topic(OFFSETS_TOPIC, replicas=(1, 2))
    acknowledge(partition)
    world.broker.apply(world.view.image)
    await world.broker.groups.replayed()
    asking, route = world.start(FETCH, 9, {"groups": [{"group_id": "g", "topics": None}]})
    await asyncio.sleep(0.01)
    assert not asking.done()
    assert partition.image is not None
    partition.become_follower(partition.image)
    (found,) = world.decoded(FETCH, 9, await asking, route).groups
    assert found.error_code is ErrorCode.not_coordinator


async def test_leadership_that_is_lost_answers_whoever_waits(world: World) -> None:
    (partition,) = world.add_topic(OFFSETS_TOPIC, replicas=(1, 2))
    acknowledge(partition)
    world.broker.apply(world.view.image)
    await world.broker.groups.replayed()
    commit_answer, commit_route = world.start(COMMIT, 9, commit_values(7))
    joined = await world.call(JOIN, 5, join_values())
    join_answer, join_route = world.start(JOIN, 5, join_values(member_id=joined.member_id))
    assert partition.image is not None
    partition.become_follower(partition.image)
    error = world.decoded(COMMIT, 9, await commit_answer, commit_route).topics[0].partitions[0].error_code
    assert error is ErrorCode.not_coordinator
    assert world.decoded(JOIN, 5, await join_answer, join_route).error_code is ErrorCode.not_coordinator
    assert await commit(world, 8) is ErrorCode.not_coordinator
    response = await world.call(HEARTBEAT, 4, {"group_id": "g", "generation_id": 1, "member_id": "m"})
    assert response.error_code is ErrorCode.not_coordinator


async def test_a_new_leader_serves_when_its_log_is_replayed_and_committed(world: World) -> None:
    (partition,) = await world.coordinate()
    joined = await stable_member(world)
    own = {"generation_id_or_member_epoch": 1, "member_id": joined.member_id}
    assert await commit(world, 9, **own) is ErrorCode.none
    assert partition.image is not None
    partition.become_follower(partition.image)
    assert await commit(world, 8) is ErrorCode.not_coordinator
    partition.role.high_watermark = 0  # as on a replica that never heard of a later one
    grown = replace(partition.image, replicas=(1, 2), isr=(1, 2), leader_epoch=partition.leader_epoch + 1)
    partition.become_leader(grown)
    world.broker.apply(world.view.image)
    assert await commit(world, 8) is ErrorCode.coordinator_load_in_progress
    await world.broker.groups.replayed()
    assert await commit(world, 8) is ErrorCode.coordinator_load_in_progress, "replayed, but not known to be committed"
    assert (await world.call(LIST, 5, {})).error_code is ErrorCode.coordinator_load_in_progress
    beat = {"group_id": "g", "generation_id": 1, "member_id": joined.member_id}
    # What clients expect: old ones, and aiokafka to this day, have no way with any other code.
    assert (await world.call(HEARTBEAT, 4, beat)).error_code is ErrorCode.none
    assert (await world.call(SYNC, 5, sync_values(joined))).error_code is ErrorCode.rebalance_in_progress
    assert (await world.call(JOIN, 5, join_values())).error_code is ErrorCode.coordinator_load_in_progress
    acknowledge(partition)
    assert await confirmed(partition, fetched(world)) == 9
    assert (await world.call(HEARTBEAT, 4, beat)).error_code is ErrorCode.none


async def test_a_log_that_cannot_be_read_is_not_served(world: World) -> None:
    (partition,) = await world.coordinate()
    assert await commit(world, 1) is ErrorCode.none
    shard = next(iter(world.broker.groups.shards()))
    shard.close()
    data = encode_batch([Record(0, NOW_MS, b"\0\1\0", b"")])
    world.replicas.append(partition, data, read_header(data), acks=1)
    world.broker.apply(world.view.image)
    await world.broker.groups.replayed()
    assert await commit(world, 2) is ErrorCode.coordinator_not_available


# Bad input (RELIABILITY section 4)


async def test_bad_groups(world: World) -> None:
    await world.coordinate()
    assert (await world.call(JOIN, 9, join_values(group_id=""))).error_code is ErrorCode.invalid_group_id
    for session in (5_999, 1_800_001, -1):
        response = await world.call(JOIN, 9, join_values(session_timeout=session))
        assert response.error_code is ErrorCode.invalid_session_timeout
    for more in ({"protocols": []}, {"protocol_type": ""}):
        response = await world.call(JOIN, 9, join_values(**more))
        assert response.error_code is ErrorCode.inconsistent_group_protocol
    assert (await world.call(JOIN, 9, join_values(member_id="who"))).error_code is ErrorCode.unknown_member_id
    for key, values in ((SYNC, {"protocol_type": "a", "protocol_name": "b"}), (HEARTBEAT, {}), (LEAVE, {})):
        response = await world.call(key, 4 if key != SYNC else 5, {"group_id": "", **values})
        assert response.error_code is ErrorCode.invalid_group_id
    assert (await world.call(LIST, 5, {})).groups == (), "nothing of it is kept"


async def test_bad_commits(world: World) -> None:
    await world.coordinate()
    assert await commit(world, 1, metadata="x" * 4097) is ErrorCode.offset_metadata_too_large
    assert await commit(world, 1, metadata="x" * 4096) is ErrorCode.none
    assert await commit(world, 1, topic="none") is ErrorCode.unknown_topic_or_partition
    assert await commit(world, 1, topic="none", version=10) is ErrorCode.unknown_topic_id
    assert await commit(world, 1, partition=9) is ErrorCode.unknown_topic_or_partition
    assert await commit(world, 1, version=10) is ErrorCode.none
    assert await commit(world, 1, group_id="other", generation_id_or_member_epoch=3) is ErrorCode.illegal_generation
    assert await commit(world, 1, generation_id_or_member_epoch=3) is ErrorCode.unknown_member_id


async def test_a_commit_that_is_too_large(world: World) -> None:
    await world.coordinate()
    world.set_config("topic", OFFSETS_TOPIC, max_message_bytes="200")
    assert await commit(world, 1, metadata="x" * 300) is ErrorCode.invalid_commit_offset_size


async def test_clients_do_not_write_to_internal_topics(world: World) -> None:
    (partition,) = await world.coordinate()
    response = await world.produce(OFFSETS_TOPIC, batch())
    assert response.error_code is ErrorCode.invalid_topic_exception
    assert partition.log_end_offset == 0


async def test_join_spam_over_many_groups_is_bounded(world: World) -> None:
    """The ids that were asked for first are forgotten, and so are their groups; whoever comes with one asks again."""
    await world.coordinate()
    world.broker.groups.newcomers.bounds = Bounds(members=20)
    answers = [await world.call(JOIN, 9, join_values(group_id=f"g{n}")) for n in range(30)]
    assert {answer.error_code for answer in answers} == {ErrorCode.member_id_required}
    (shard,) = world.broker.groups.shards()
    assert shard.groups.keys() == {f"g{n}" for n in range(10, 30)}
    late = await world.call(JOIN, 9, join_values(group_id="g3", member_id=answers[3].member_id))
    assert late.error_code is ErrorCode.unknown_member_id
    assert (await world.call(JOIN, 9, join_values(group_id="g3"))).error_code is ErrorCode.member_id_required


# Deleting


async def test_deleting_offsets(world: World) -> None:
    await world.coordinate()
    await stable_member(world)
    world.add_topic("other")
    member = next(iter(next(iter(world.broker.groups.shards())).groups["g"].members))
    own = {"generation_id_or_member_epoch": 1, "member_id": member}
    for topic in ("t", "other"):
        assert await commit(world, 4, topic=topic, **own) is ErrorCode.none
    rows = [{"name": name, "partitions": [{"partition_index": 0}]} for name in ("t", "other", "none")]
    response = await world.call(OFFSET_DELETE, 0, {"group_id": "g", "topics": rows})
    assert [topic.partitions[0].error_code for topic in response.topics] == [
        ErrorCode.group_subscribed_to_topic,
        ErrorCode.none,
        ErrorCode.unknown_topic_or_partition,
    ]
    assert (await fetched(world), await fetched(world, topic="other")) == (4, -1)
    (deleted,) = (await world.call(DELETE, 2, {"groups_names": ["g"]})).results
    assert deleted.error_code is ErrorCode.non_empty_group


async def test_a_deleted_topic_takes_its_offsets_along(world: World) -> None:
    (partition,) = await world.coordinate()
    assert await commit(world, 4) is ErrorCode.none
    topics = dict(world.view.image.topics)
    gone = topics.pop("t")
    world.update(topics=topics)
    world.broker.apply(world.view.image, Delta(deleted=(gone,)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert entries(partition)[-1] == Entry(OffsetKey("g", "t", 0), None)
    assert await fetched(world) == -1


async def test_expiry_on_a_shard(world: World) -> None:
    (partition,) = await world.coordinate()
    joined = await stable_member(world)
    own = {"generation_id_or_member_epoch": 1, "member_id": joined.member_id}
    assert await commit(world, 4, **own) is ErrorCode.none
    assert await commit(world, 4, group_id="simple") is ErrorCode.none
    (shard,) = world.broker.groups.shards()
    later = NOW_MS + 8 * 86_400_000
    assert await expire(shard, later, 7 * 86_400_000) == 1
    assert (await fetched(world), await fetched(world, "simple")) == (4, -1)
    await world.call(LEAVE, 5, {"group_id": "g", "members": [{"member_id": joined.member_id}]})
    assert await expire(shard, later, 7 * 86_400_000) == 1
    assert not shard.groups and not list(shard.ids())
    assert entries(partition)[-1] == Entry(GroupKey("g"), None)


@pytest.mark.parametrize("version", range(1, 8))
async def test_an_error_of_the_group_is_told_for_each_partition_too(world: World, version: int) -> None:
    """aiokafka looks only there, and would begin anew."""
    values = {"group_id": "g", "topics": [{"name": "t", "partition_indexes": [0, 2]}]}
    response = await world.call(FETCH, version, values)
    assert version < 2 or response.error_code is ErrorCode.not_coordinator
    (topic,) = response.topics
    rows = [(row.partition_index, row.committed_offset, row.error_code) for row in topic.partitions]
    assert rows == [(0, -1, ErrorCode.not_coordinator), (2, -1, ErrorCode.not_coordinator)]
    if version >= 2:
        assert (await world.call(FETCH, version, {"group_id": "g", "topics": None})).topics == ()
