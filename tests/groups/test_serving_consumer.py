"""KIP-848 APIs on one broker: heartbeats and the log, sessions, commits by epoch, and groups that change protocol."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.coordination.partitioning import OFFSETS_TOPIC
from ottla.broker.groups import resolver
from ottla.broker.groups.consumer import RegexKey, Resolved
from ottla.broker.groups.records import Entry
from ottla.broker.groups.retention import expire
from ottla.broker.groups.shard import Shard
from tests.broker.world import World, topic_id
from tests.groups.test_serving import acknowledge, commit, fetched, join_values, stable_member, world

__all__ = ["world"]

BEAT, DESCRIBE, LIST, DELETE, JOIN, LEAVE, DESCRIBE_CLASSIC = 68, 69, 16, 42, 11, 13, 15


def values(member: str, epoch: int = 0, **more: Any) -> dict[str, Any]:
    first: dict[str, Any] = (
        {"rebalance_timeout": 1000, "subscribed_topic_names": ["t"], "topic_partitions": []}
        if epoch == 0
        else {"rebalance_timeout": -1, "subscribed_topic_names": None, "topic_partitions": None}
    )
    return {"group_id": "g", "member_id": member, "member_epoch": epoch, **first, **more}


async def beat(world: World, member: str, epoch: int = 0, *, version: int = 1, **more: Any) -> Any:
    return await world.call(BEAT, version, values(member, epoch, **more))


def owned(response: Any) -> list[int]:
    return [index for row in response.assignment.topic_partitions for index in row.partitions]


def shard_of(world: World) -> Shard:
    (shard,) = world.broker.groups.shards()
    return shard


async def test_a_group_may_have_times_of_its_own(world: World) -> None:
    """KIP-1043: they hold from the next heartbeat on, and for this group only."""
    await world.coordinate()
    assert (await beat(world, "a")).heartbeat_interval.total_seconds() == 5
    world.set_config("group", "g", consumer_heartbeat_interval_ms="700", consumer_session_timeout_ms="9000")
    assert (await beat(world, "a", 1)).heartbeat_interval.total_seconds() == 0.7
    now = asyncio.get_running_loop().time()
    assert 8 < shard_of(world).consumers.groups["g"].sessions["a"] - now <= 9
    other = await beat(world, "x", group_id="other")
    assert other.heartbeat_interval.total_seconds() == 5


async def test_members_share_one_after_the_other(world: World) -> None:
    await world.coordinate()
    first = await beat(world, "a")
    assert (first.error_code, first.member_epoch, owned(first)) == (ErrorCode.none, 1, [0, 1, 2])
    second = await beat(world, "b")
    assert (second.member_epoch, owned(second)) == (2, []), "nothing is free yet"
    again = await beat(world, "a", 1)
    assert (again.member_epoch, len(owned(again))) == (1, 2), "to be given up first"
    (group,) = (await world.call(DESCRIBE, 1, {"group_ids": ["g"]})).groups
    assert (group.group_state, group.group_epoch, group.assignment_epoch, group.assignor_name) == (
        "Reconciling",
        2,
        2,
        "uniform",
    )
    kept = [{"topic_id": topic_id("t"), "partitions": owned(again)}]
    done = await beat(world, "a", 1, topic_partitions=kept)
    assert done.member_epoch == 2
    late = await beat(world, "b", 2)
    assert sorted([*owned(late), *owned(again)]) == [0, 1, 2]
    (group,) = (await world.call(DESCRIBE, 1, {"group_ids": ["g"]})).groups
    assert group.group_state == "Stable"
    assert (await beat(world, "b", 7)).error_code is ErrorCode.fenced_member_epoch
    assert (await beat(world, "b", -1)).member_epoch == -1
    assert (await beat(world, "b", 2)).error_code is ErrorCode.unknown_member_id


async def test_an_assignment_is_told_until_its_member_says_that_it_owns_it(world: World) -> None:
    """An answer may be lost, and librdkafka then repeats the request as it was, with no word on what it owns."""
    await world.coordinate()
    await beat(world, "a")
    await beat(world, "b")
    lost, again = [owned(await beat(world, "a", 1)) for _ in range(2)]
    assert lost == again and len(again) == 2, "to be given up first"
    kept = [{"topic_id": topic_id("t"), "partitions": again}]
    assert (await beat(world, "a", 1, topic_partitions=kept)).member_epoch == 2
    lost, again = [owned(await beat(world, "b", 2)) for _ in range(2)]
    assert lost == again and len(again) == 1, "it was freed within the epoch"
    got = [{"topic_id": topic_id("t"), "partitions": again}]
    for quiet in (
        await beat(world, "b", 2, topic_partitions=got),
        await beat(world, "b", 2),
        await beat(world, "a", 2),
    ):
        assert (quiet.error_code, quiet.assignment) == (ErrorCode.none, None)


async def test_nothing_is_told_before_it_is_replicated(world: World) -> None:
    (partition,) = world.add_topic(OFFSETS_TOPIC, replicas=(1, 2))
    acknowledge(partition)
    world.broker.apply(world.view.image)
    await world.broker.groups.replayed()
    answers = [world.start(BEAT, 1, values(member)) for member in "ab"]
    await asyncio.sleep(0.01)
    assert not any(answer.done() for answer, _ in answers)
    acknowledge(partition)
    await asyncio.sleep(0)
    assert [answer.done() for answer, _ in answers] == [True, False], "the second is decided after the first"
    acknowledge(partition)
    epochs = [world.decoded(BEAT, 1, await answer, route).member_epoch for answer, route in answers]
    assert epochs == [1, 2]


async def test_commits_carry_the_epoch(world: World) -> None:
    await world.coordinate()
    await beat(world, "a")
    own = {"member_id": "a", "generation_id_or_member_epoch": 1}
    assert await commit(world, 5, **own) is ErrorCode.none
    assert await commit(world, 6, member_id="a", generation_id_or_member_epoch=0) is ErrorCode.stale_member_epoch
    assert await commit(world, 6, member_id="x", generation_id_or_member_epoch=1) is ErrorCode.unknown_member_id
    assert await commit(world, 6) is ErrorCode.unknown_member_id
    assert await fetched(world) == 5


async def test_a_silent_member_is_out_after_its_session(world: World) -> None:
    await world.coordinate()
    await beat(world, "a")
    shard = shard_of(world)
    group = shard.consumers.groups["g"]
    group.sessions["a"] = 0.0
    shard.tick("g")
    assert not group.members and group.state == "Empty"
    assert (await beat(world, "a", 1)).error_code is ErrorCode.unknown_member_id


async def test_a_silent_member_whose_leave_is_not_written_is_looked_at_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves and is silent in one batch, and the batch fails: it stays a member, and nobody would miss it."""
    (partition,) = world.add_topic(OFFSETS_TOPIC, replicas=(1, 2))
    acknowledge(partition)
    world.broker.apply(world.view.image)
    await world.broker.groups.replayed()
    first, route = world.start(BEAT, 1, values("a"))
    acknowledge(partition)
    await first
    shard = shard_of(world)
    group = shard.consumers.groups["g"]
    second, _ = world.start(BEAT, 1, values("b"))
    leave, _ = world.start(BEAT, 1, values("a", -1))
    group.sessions["a"] = 0.0
    shard.tick("g")
    append = world.replicas.append
    monkeypatch.setattr(world.replicas, "append", lambda *_, **__: ErrorCode.not_enough_replicas)
    acknowledge(partition)
    answer = world.decoded(BEAT, 1, await leave, route)
    assert answer.error_code is ErrorCode.coordinator_not_available
    await second
    assert group.members.keys() == {"a", "b"} and group.sessions.keys() == {"a", "b"}
    monkeypatch.setattr(world.replicas, "append", append)
    group.sessions["a"] = 0.0
    shard.tick("g")
    acknowledge(partition)
    assert group.members.keys() == {"b"}


async def test_who_does_not_give_up_is_out_after_its_rebalance_timeout(world: World) -> None:
    await world.coordinate()
    await beat(world, "a")
    await beat(world, "b")
    await beat(world, "a", 1)
    shard = shard_of(world)
    group = shard.consumers.groups["g"]
    epoch, _ = group.revocations["a"]
    group.revocations["a"] = epoch, 0.0
    shard.tick("g")
    assert list(group.members) == ["b"]
    assert owned(await beat(world, "b", 2)) == [0, 1, 2]


async def test_a_group_is_there_after_its_coordinator_moved(world: World) -> None:
    await world.coordinate()
    await beat(world, "a")
    shard = shard_of(world)
    before = shard.consumers.groups["g"]
    shard.close()
    world.broker.apply(world.view.image)
    await world.broker.groups.replayed()
    after = shard_of(world).consumers.groups["g"]
    assert after is not before and after.sessions.keys() == {"a"}
    assert (after.epoch, after.members, after.current) == (before.epoch, before.members, before.current)
    assert (await beat(world, "a", 1)).error_code is ErrorCode.none


async def test_an_empty_group_may_change_its_protocol(world: World) -> None:
    await world.coordinate()
    joined = await stable_member(world)
    assert (await beat(world, "a")).error_code is ErrorCode.group_id_not_found
    await world.call(LEAVE, 5, {"group_id": "g", "members": [{"member_id": joined.member_id}]})
    assert await commit(world, 5) is ErrorCode.none
    assert (await beat(world, "a")).error_code is ErrorCode.coordinator_load_in_progress
    assert (await beat(world, "a")).error_code is ErrorCode.none
    (row,) = (await world.call(LIST, 5, {"types_filter": ["Consumer"]})).groups
    assert (row.group_type, row.group_state) == ("consumer", "Stable")
    assert (await world.call(DESCRIBE_CLASSIC, 6, {"groups": ["g"]})).groups[0].error_code is (
        ErrorCode.group_id_not_found
    )
    other = join_values(protocol_type="connect")
    assert (await world.call(JOIN, 3, other)).error_code is ErrorCode.inconsistent_group_protocol
    (deleted,) = (await world.call(DELETE, 2, {"groups_names": ["g"]})).results
    assert deleted.error_code is ErrorCode.non_empty_group
    await beat(world, "a", -1)
    assert (await world.call(JOIN, 3, join_values())).error_code is ErrorCode.coordinator_load_in_progress
    assert (await world.call(JOIN, 3, join_values())).error_code is ErrorCode.none
    assert await fetched(world) == 5, "offsets outlive the protocol"


async def test_an_empty_group_is_deleted_with_its_offsets(world: World) -> None:
    await world.coordinate()
    await beat(world, "a")
    assert await commit(world, 5, member_id="a", generation_id_or_member_epoch=1) is ErrorCode.none
    await beat(world, "a", -1)
    (deleted,) = (await world.call(DELETE, 2, {"groups_names": ["g"]})).results
    assert deleted.error_code is ErrorCode.none
    assert (await world.call(LIST, 5, {})).groups == () and await fetched(world) == -1
    assert not list(shard_of(world).ids())


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"group_id": ""}, ErrorCode.invalid_request),
        ({"member_id": ""}, ErrorCode.invalid_request),
        ({"instance_id": " "}, ErrorCode.invalid_request),
        ({"rack_id": ""}, ErrorCode.invalid_request),
        ({"member_epoch": -3}, ErrorCode.invalid_request),
        ({"member_epoch": -2}, ErrorCode.invalid_request),
        ({"rebalance_timeout": -1}, ErrorCode.invalid_request),
        ({"topic_partitions": None}, ErrorCode.invalid_request),
        ({"subscribed_topic_names": None}, ErrorCode.invalid_request),
        ({"server_assignor": "mine"}, ErrorCode.unsupported_assignor),
        ({"subscribed_topic_regex": "(?=a)b"}, ErrorCode.invalid_regular_expression),
        ({"member_epoch": 4}, ErrorCode.group_id_not_found),
    ],
)
async def test_bad_heartbeats(world: World, more: dict[str, Any], error: ErrorCode) -> None:
    await world.coordinate()
    response = await world.call(BEAT, 1, values("a") | more)
    assert response.error_code is error
    assert (await world.call(LIST, 5, {})).groups == ()


PATTERN = {"subscribed_topic_names": None, "subscribed_topic_regex": "t.*"}
REFRESH_MS = 10_000


async def test_a_pattern_takes_new_topics_in(world: World) -> None:
    await world.coordinate()
    first = await beat(world, "a", **PATTERN)
    assert owned(first) == [0, 1, 2]
    world.add_topic("t2", 2)
    world.now_ms += REFRESH_MS - 1
    assert (await beat(world, "a", 1)).member_epoch == 1
    world.now_ms += 1
    grown = await beat(world, "a", 1)
    assert (grown.member_epoch, len(owned(grown))) == (2, 5)


async def test_topics_that_are_made_in_a_row_are_one_rebalance(world: World) -> None:
    """Kafka's REGEX_BATCH_REFRESH_MIN_INTERVAL_MS. What was looked up is written with its version and time, also when
    the topics that came do not match."""
    await world.coordinate()
    await beat(world, "a", **PATTERN)
    group = shard_of(world).consumers.groups["g"]
    world.now_ms += REFRESH_MS
    world.add_topic("t2", 1)
    assert (await beat(world, "a", 1)).member_epoch == 2, "the first one does not wait"
    for number in range(3, 8):
        world.add_topic(f"t{number}", 1)
        world.now_ms += 1000
        assert (await beat(world, "a", 2)).member_epoch == 2
    world.now_ms += REFRESH_MS
    told = await beat(world, "a", 2)
    assert (told.member_epoch, len(owned(told))) == (3, 9)
    world.now_ms += REFRESH_MS
    before = group.regexes["t.*"]
    world.add_topic("other", 1)
    assert (await beat(world, "a", 3)).member_epoch == 3
    after = group.regexes["t.*"]
    assert (after.topics, after.at_ms) == (before.topics, world.now_ms) and after.version > before.version


async def test_a_new_pattern_does_not_wait_for_those_that_there_are(world: World) -> None:
    await world.coordinate()
    await beat(world, "a", **PATTERN)
    other = await beat(world, "b", subscribed_topic_names=None, subscribed_topic_regex="t")
    assert other.member_epoch == 2 and shard_of(world).consumers.groups["g"].regexes.keys() == {"t.*", "t"}


async def test_a_topic_that_goes_is_one_rebalance(world: World) -> None:
    """It is no topic any more at once; that the pattern does not have it either makes no second one."""
    await world.coordinate()
    world.add_topic("t2", 1)
    await beat(world, "a", **PATTERN)
    world.forget_topic("t2")
    gone = await beat(world, "a", 1)
    assert owned(gone) == [0, 1, 2]
    kept = [{"topic_id": topic_id("t"), "partitions": [0, 1, 2]}]
    assert (await beat(world, "a", 1, topic_partitions=kept)).member_epoch == 2
    world.now_ms += REFRESH_MS
    assert (await beat(world, "a", 2)).member_epoch == 2
    group = shard_of(world).consumers.groups["g"]
    assert (group.epoch, group.regexes["t.*"].topics) == (2, ("t",))


@pytest.mark.parametrize(
    ("ago_ms", "version", "refreshed"),
    [
        (REFRESH_MS, 0, True),
        (REFRESH_MS - 1, 0, False),
        (-3_600_000, 0, True),  # its clock was an hour ahead
        (REFRESH_MS, 1 << 40, False),  # it has seen more of the metadata than this broker has
    ],
)
async def test_an_older_coordinators_record_is_looked_up_again(
    world: World, ago_ms: int, version: int, refreshed: bool
) -> None:
    """It says as of when it is true; what it says may be true still, and then nobody is rebalanced."""
    await world.coordinate()
    await beat(world, "a", **PATTERN)
    shard = shard_of(world)
    old = Resolved(("t",), version, world.now_ms - ago_ms)
    shard.write([Entry(RegexKey("g", "t.*"), old)], lambda _error: None)
    shard.close()
    world.broker.apply(world.view.image)
    await world.broker.groups.replayed()
    group = shard_of(world).consumers.groups["g"]
    assert group.regexes["t.*"] == old
    for _ in range(2):
        assert (await beat(world, "a", 1)).member_epoch == 1
    found = group.regexes["t.*"]
    assert found.topics == ("t",)
    assert (found == old) is not refreshed and (found.at_ms == world.now_ms) is refreshed


async def test_what_a_pattern_stands_for_is_written_down(world: World) -> None:
    await world.coordinate()
    pattern = {"subscribed_topic_names": None, "subscribed_topic_regex": "(t+)+[0-9]?"}
    await beat(world, "a", **pattern)
    shard = shard_of(world)
    assert shard.consumers.groups["g"].regexes["(t+)+[0-9]?"].topics == ("t",)
    world.add_topic("t2", 2)
    world.now_ms += REFRESH_MS
    shard.close()
    world.broker.apply(world.view.image)
    await world.broker.groups.replayed()
    group = shard_of(world).consumers.groups["g"]
    assert group.regexes["(t+)+[0-9]?"].topics == ("t",), "as it was before its coordinator moved"
    await beat(world, "a", 1)
    assert group.regexes["(t+)+[0-9]?"].topics == ("t", "t2")
    assert group.regexes["(t+)+[0-9]?"].at_ms == world.now_ms
    await beat(world, "b", subscribed_topic_regex="x.*", subscribed_topic_names=None)
    assert group.regexes.keys() == {"(t+)+[0-9]?", "x.*"}
    await beat(world, "b", -1)
    assert group.regexes.keys() == {"(t+)+[0-9]?"}
    await beat(world, "a", 2, subscribed_topic_regex="", subscribed_topic_names=["t"])
    assert not group.regexes and group.members["a"].regex is None
    await beat(world, "a", -1)
    (deleted,) = (await world.call(DELETE, 2, {"groups_names": ["g"]})).results
    assert deleted.error_code is ErrorCode.none and not list(shard_of(world).ids())


async def test_a_pattern_that_is_much_work_is_resolved_in_portions(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it: its member is told of its topics by a later heartbeat."""
    monkeypatch.setattr(resolver, "AT_ONCE", 10)
    monkeypatch.setattr(resolver, "PORTION", 10)
    await world.coordinate()
    pattern = {"subscribed_topic_names": None, "subscribed_topic_regex": "t.*"}
    first = await beat(world, "a", **pattern)
    assert (first.error_code, owned(first)) == (ErrorCode.none, [])
    other = await beat(world, "b", subscribed_topic_names=None, subscribed_topic_regex="__.*")
    assert (other.error_code, owned(other)) == (ErrorCode.none, [])
    group = shard_of(world).consumers.groups["g"]
    async with asyncio.timeout(10):
        while group.regexes.keys() != {"t.*", "__.*"}:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert group.regexes["t.*"].topics == ("t",) and group.regexes["__.*"].topics == (OFFSETS_TOPIC,)
    told = await beat(world, "a", first.member_epoch)
    assert owned(told) == [0, 1, 2]
    world.add_topic("t2", 2)
    world.now_ms += REFRESH_MS
    await beat(world, "a", told.member_epoch)
    async with asyncio.timeout(10):
        while group.regexes["t.*"].topics != ("t", "t2"):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_static_member_that_comes_back_with_another_subscription(world: World) -> None:
    """It has what it had, as far as it still wants that; the rest is a rebalance like any other."""
    await world.coordinate()
    world.add_topic("u", 2)
    first = await beat(world, "a", instance_id="i", subscribed_topic_names=["t", "u"])
    assert len(owned(first)) == 5
    assert (await beat(world, "a", -2, instance_id="i")).error_code is ErrorCode.none
    group = shard_of(world).consumers.groups["g"]
    back = await beat(world, "a2", instance_id="i", subscribed_topic_names=["u", "t"])
    assert (group.epoch, len(owned(back))) == (1, 5), "nothing is rebalanced"
    assert (await beat(world, "a2", -2, instance_id="i")).error_code is ErrorCode.none
    other = await beat(world, "a3", instance_id="i", subscribed_topic_names=["t"])
    assert (group.epoch, other.member_epoch, owned(other)) == (2, 2, [0, 1, 2])
    assert group.members.keys() == {"a3"} and group.instances == {"i": "a3"}
    rest = await beat(world, "b", subscribed_topic_names=["u"])
    assert owned(rest) == [0, 1], "what it does not want any more is free at once"


async def test_the_server_makes_the_id_for_the_first_version(world: World) -> None:
    await world.coordinate()
    response = await beat(world, "", version=0)
    assert response.error_code is ErrorCode.none and len(response.member_id) == 36


@pytest.mark.parametrize("moves", [False, True])
async def test_what_a_group_has_committed_outlives_its_last_member_by_the_retention(world: World, moves: bool) -> None:
    """KIP-211, whatever the age of the commit. Who did not see the member go counts from when it came to coordinate."""
    await world.coordinate()
    await beat(world, "a")
    assert await commit(world, 5, member_id="a", generation_id_or_member_epoch=1) is ErrorCode.none
    week = 7 * 86_400_000
    world.now_ms += 2 * week
    assert await expire(shard_of(world), world.now_ms, week) == 0
    await beat(world, "a", -1)
    world.now_ms += week - 1
    assert await expire(shard_of(world), world.now_ms, week) == 0
    if moves:
        shard_of(world).close()
        world.broker.apply(world.view.image)
        await world.broker.groups.replayed()
        world.now_ms += week - 1
        assert await expire(shard_of(world), world.now_ms, week) == 0
    world.now_ms += 1
    assert await expire(shard_of(world), world.now_ms, week) == 1
    assert not list(shard_of(world).ids())
