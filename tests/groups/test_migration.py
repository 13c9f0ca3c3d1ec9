"""Groups that move between the protocols while they have members (KIP-848, online migration)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from ottla.broker.coordination.partitioning import OFFSETS_TOPIC
from ottla.broker.groups.consumer import ClassicFacts, MemberFacts, MemberKey
from ottla.broker.groups.embedded import assigned_in, assignment_bytes, subscription_of
from ottla.broker.groups.records import Entry, decode, encode_key, encode_value
from ottla.log import ModelledDisk, OsDisk
from tests.broker.world import World
from tests.groups.members import PARTITIONS, Classic, Member, Modern, check, kind, metadata, settle, shard_of
from tests.groups.test_serving import COMMIT, DESCRIBE, JOIN, LIST, acknowledge, commit_values

DESCRIBE_CONSUMER = 69


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.chdir(tmp_path)
    made = World(OsDisk())
    made.add_topic("t", PARTITIONS)
    yield made
    await made.close()


async def commit(world: World, member: str, epoch: int, offset: int = 5) -> ErrorCode:
    values = commit_values(offset, member_id=member, generation_id_or_member_epoch=epoch)
    response = await world.call(COMMIT, 9, values)
    error: ErrorCode = response.topics[0].partitions[0].error_code
    return error


async def test_a_group_goes_over_and_comes_back(world: World) -> None:
    await world.coordinate()
    eager, sticky, modern = Classic(world, "e"), Classic(world, "c", cooperative=True), Modern(world, "m")
    await settle(world, [eager])
    before = eager.owned
    assert before == frozenset(range(PARTITIONS)) and kind(world) == "classic"
    await modern.step()
    assert kind(world) == "consumer" and modern.owned == frozenset()
    assert await commit(world, eager.member_id, eager.generation) is ErrorCode.none
    (group,) = (await world.call(DESCRIBE_CONSUMER, 1, {"group_ids": ["g"]})).groups
    assert sorted(row.member_type for row in group.members) == [0, 1]
    owners = await settle(world, [eager, sticky, modern])
    assert set(owners.values()) == {"e", "c", "m"} and group.error_code is ErrorCode.none
    assert await commit(world, eager.member_id, eager.generation - 1) is ErrorCode.illegal_generation
    await modern.leave()
    assert kind(world) == "classic"
    (described,) = (await world.call(DESCRIBE, 6, {"groups": ["g"]})).groups
    assert described.group_state == "PreparingRebalance"
    owners = await settle(world, [eager, sticky])
    assert set(owners.values()) == {"e", "c"}
    (listed,) = (await world.call(LIST, 5, {})).groups
    assert (listed.group_type, listed.group_state) == ("classic", "Stable")


async def test_both_ways_outlive_the_coordinator(world: World) -> None:
    await world.coordinate()
    classic, modern = Classic(world, "e"), Modern(world, "m")

    async def move() -> None:
        shard_of(world).close()
        world.broker.apply(world.view.image)
        await world.broker.groups.replayed()

    await settle(world, [classic])
    await modern.step()
    await move()
    assert kind(world) == "consumer"
    await settle(world, [classic, modern])
    facts = shard_of(world).consumers.groups["g"].members[classic.member_id]
    assert facts.classic is not None and facts.classic.session_ms == 10_000
    await modern.leave()
    await move()
    assert kind(world) == "classic"
    await settle(world, [classic])


async def test_a_static_member_changes_its_protocol_and_keeps_its_part(world: World) -> None:
    await world.coordinate()
    one, two = Classic(world, "one", instance="i1"), Classic(world, "two", instance="i2")
    await settle(world, [one, two])
    before = shard_of(world).groups["g"].generation
    modern = Modern(world, "m", instance="i1")
    had = one.owned
    await modern.step()
    found = shard_of(world).consumers.groups["g"]
    assert modern.owned == had and found.epoch <= before + 1
    await one.step()
    assert one.owned == frozenset(), "its instance is somebody else now"
    owners = await settle(world, [modern, two])
    assert set(owners.values()) == {"m", "two"}
    back = Classic(world, "back", instance="i1")
    await back.step()
    assert kind(world) == "classic", "nobody is left who speaks KIP-848"


@pytest.mark.parametrize("policy", ["disabled", "downgrade"])
async def test_policy_against_going_over(world: World, policy: str) -> None:
    await world.coordinate()
    groups = world.broker.groups
    groups.config = replace(groups.config, group_consumer_migration_policy=policy)
    classic, modern = Classic(world, "e"), Modern(world, "m")
    await settle(world, [classic])
    await modern.step()
    assert modern.last.error_code is ErrorCode.group_id_not_found and kind(world) == "classic"
    await settle(world, [classic])


async def test_policy_against_coming_back(world: World) -> None:
    await world.coordinate()
    groups = world.broker.groups
    groups.config = replace(groups.config, group_consumer_migration_policy="upgrade")
    classic, modern = Classic(world, "e"), Modern(world, "m")
    await settle(world, [classic])
    await settle(world, [classic, modern])
    await modern.leave()
    assert kind(world) == "consumer"
    await settle(world, [classic])


async def test_a_classic_member_that_does_not_join_again_is_out_after_its_rebalance_timeout(world: World) -> None:
    await world.coordinate()
    classic, modern = Classic(world, "e"), Modern(world, "m")
    await settle(world, [classic])
    await modern.step()
    await classic.step()
    assert classic.joining
    shard = shard_of(world)
    group = shard.consumers.groups["g"]
    assert group.promises.keys() == {classic.member_id}
    group.promises[classic.member_id] = 0.0
    shard.tick("g")
    assert set(group.members) == {modern.member_id}
    await settle(world, [modern])


async def test_a_group_that_is_no_consumers_stays(world: World) -> None:
    await world.coordinate()
    values = {
        "group_id": "g",
        "session_timeout": 10_000,
        "rebalance_timeout": 10_000,
        "protocol_type": "connect",
        "protocols": [{"name": "default", "metadata": b"\xff"}],
    }
    joined = await world.call(JOIN, 3, values)
    assert joined.error_code is ErrorCode.none
    modern = Modern(world, "m")
    await modern.step()
    assert modern.last.error_code is ErrorCode.group_id_not_found


async def test_what_timed_out_may_be_committed_yet(world: World) -> None:
    """Nothing is decided on a state that may be about to change: else two members could get one partition."""
    (partition,) = world.add_topic(OFFSETS_TOPIC, replicas=(1, 2))
    acknowledge(partition)
    world.broker.apply(world.view.image)
    await world.broker.groups.replayed()
    shard = shard_of(world)
    first, second = Modern(world, "a"), Modern(world, "b")
    asked = asyncio.ensure_future(first.step())
    await asyncio.sleep(0)
    waits = asyncio.ensure_future(second.step())
    await asyncio.sleep(0)
    for write in shard.log._untold:
        write.deadline = 0.0
    shard.log._time_over()
    await asyncio.gather(asked, waits)
    assert {first.last.error_code, second.last.error_code} == {ErrorCode.coordinator_not_available}
    await second.step()
    assert second.last.error_code is ErrorCode.coordinator_not_available, "it is not known yet who is in the group"
    acknowledge(partition)
    group = shard.consumers.groups["g"]
    assert set(group.members) == {"a-0"} == group.sessions.keys(), "it lives, and has to show it"
    asked = asyncio.ensure_future(second.step())
    await asyncio.sleep(0)
    acknowledge(partition)
    await asked
    given_out = [at for current in group.current.values() for at in current.assigned]
    assert len(given_out) == len(set(given_out)) == PARTITIONS


async def test_a_group_is_of_one_kind_also_while_it_is_being_written(world: World) -> None:
    (partition,) = world.add_topic(OFFSETS_TOPIC, replicas=(1, 2))
    acknowledge(partition)
    world.broker.apply(world.view.image)
    await world.broker.groups.replayed()
    modern = Modern(world, "m")
    asked = asyncio.ensure_future(modern.step())
    await asyncio.sleep(0)
    classic = Classic(world, "e")
    await classic.step()
    assert not shard_of(world).groups
    acknowledge(partition)
    await asked
    assert kind(world) == "consumer"


def forget_others(world: World, alive: list[Member]) -> None:
    """The sessions end of those who have left, which a coordinator that has come since may not know."""
    shard, known = shard_of(world), {member.member_id for member in alive}
    group, found = shard.groups.get("g"), shard.consumers.groups.get("g")
    if group is not None:
        for member in group.members.values():
            if member.id not in known:
                member.deadline, member.is_new = 0.0, True
    if found is not None:
        found.sessions.update(dict.fromkeys(found.members.keys() - known, 0.0))
    shard.tick("g")


async def run_schedule(seed: int, length: int) -> None:
    rng = random.Random(seed)
    world = World(ModelledDisk(random.Random(seed)))
    world.add_topic("t", PARTITIONS)
    await world.coordinate()
    members: list[Member] = [
        Classic(world, "e1"),
        Classic(world, "e2"),
        Classic(world, "c1", cooperative=True),
        Classic(world, "s1", instance="s1"),
        Modern(world, "m1"),
        Modern(world, "m2"),
    ]
    alive: list[Member] = []
    for _ in range(length):
        what = rng.random()
        if what < 0.1:
            shard_of(world).close()
            world.broker.apply(world.view.image)
            await world.broker.groups.replayed()
        elif what < 0.25 and alive:
            member = alive.pop(rng.randrange(len(alive)))
            await member.leave()
        elif what < 0.45 and len(alive) < len(members):
            alive.append(rng.choice([each for each in members if each not in alive]))
        elif alive:
            await rng.choice(alive).step()
        check(world, alive)
    for _ in range(4):
        for member in alive:
            await member.step()
        forget_others(world, alive)
    if alive:
        await settle(world, alive, 25)
    await world.close()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 100_000))
def test_members_of_both_kinds_come_and_go(seed: int) -> None:
    asyncio.run(run_schedule(seed, 60))


def test_embedded_metadata_of_every_version() -> None:
    for version in range(5):
        said = subscription_of(metadata(("t", "u"), frozenset({1, 2}), version))
        assert said is not None and said.topics == ("t", "u") and said.version == version
        assert said.owned == (frozenset({("t", 1), ("t", 2)}) if version else frozenset())
        assert said.rack == ("r1" if version >= 3 else None)
    whole = metadata(("t",), frozenset({1}), 3)
    assert all(subscription_of(whole[:length]) is None for length in range(len(whole)))
    told = assignment_bytes([("t", 2), ("a", 1), ("t", 0)], 9)
    assert told[:2] == b"\0\3" and assigned_in(told) == frozenset({("t", 0), ("t", 2), ("a", 1)})
    assert assigned_in(b"") == frozenset() and assigned_in(b"mine") is None


def test_a_classic_member_of_a_consumer_group_in_the_log() -> None:
    """Tagged field 0 of ConsumerGroupMemberMetadataValue, a nullable struct."""
    facts = MemberFacts(None, None, "c", "/h", ("t",), None, 1000, None, ClassicFacts(30_000, (("range", b"\1\2"),)))
    key = MemberKey("g", "m")
    data = encode_value(facts)
    tagged = "01" + "00" + "11" + "01" + "00007530" + "02" + "0672616e6765" + "030102" + "00" + "00"
    assert data is not None
    assert data.hex().endswith(tagged)
    assert decode(encode_key(key), data) == Entry(key, facts)
