"""Requests about groups that are wrong, too long, too many or somebody else's: Kafka's codes, and the group goes on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.wire import KafkaConnection, encode, request_type
from tests.badinput.groups import (
    BEAT,
    COMMIT,
    FETCH,
    FIND,
    HEARTBEAT,
    JOIN,
    LEAVE,
    SYNC,
    E,
    commit,
    committed,
    coordinating,
    join_values,
    member_of,
    own,
    sync_values,
    unnoticed,
)
from tests.badinput.node import TIMEOUT, Running, eventually, framed
from tests.badinput.test_bytes import header

DESCRIBE, LIST, INIT, TXN_COMMIT, DELETE, OFFSET_DELETE, DESCRIBE_CONSUMER = 15, 16, 22, 28, 42, 47, 69
LONGEST = "x" * 32_767
"""No string of the protocol is longer."""


@pytest.fixture
async def node(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Running]:
    sizes = {"group.max.size": "2", "group.consumer.max.size": "2"}
    async with coordinating(tmp_path / "data", caplog, 0, **sizes) as started:
        yield started


def beat_values(member: str, epoch: int = 0, **more: Any) -> dict[str, Any]:
    first = {"rebalance_timeout": 60_000, "subscribed_topic_names": ["target"], "topic_partitions": []}
    return {"group_id": "other", "member_id": member, "member_epoch": epoch, **(first if epoch == 0 else {}), **more}


# Too many


async def test_one_member_too_many(node: Running) -> None:
    """KIP-389, before an id is given too; and the members who are there stay."""
    first = await member_of(node, group_instance_id="a")
    peer = await node.client()
    second = asyncio.ensure_future(peer.call(JOIN, 9, join_values(group_instance_id="b")))
    shard = node.broker.groups.shard_of("good")
    await eventually(lambda: len(shard.groups["good"].members) == 2)
    again = await node.witness.call(JOIN, 9, join_values(member_id=first.member_id, group_instance_id="a"))
    other = await second
    assert (again.error_code, other.error_code) == (E.none, E.none)
    leader, follower = (again, other) if again.members else (other, again)
    assert (await node.witness.call(SYNC, 5, sync_values(leader))).error_code is E.none
    assert (await node.witness.call(SYNC, 5, sync_values(follower))).error_code is E.none
    async with node.unharmed():
        for version in range(10):
            for more in ({}, {"member_id": "nobody"}, {"group_instance_id": "c"} if version >= 5 else {}):
                answer = await node.witness.call(JOIN, version, join_values(**more))
                assert (answer.error_code, answer.member_id) == (E.group_max_size_reached, "")
        await unnoticed(node, again, 5)


async def test_one_member_too_many_of_the_new_protocol(node: Running) -> None:
    for member in ("a", "b"):
        assert (await node.witness.call(BEAT, 1, beat_values(member))).error_code is E.none
    async with node.unharmed():
        for more in ({}, {"instance_id": "i"}):
            answer = await node.witness.call(BEAT, 1, beat_values("c", **more))
            assert answer.error_code is E.group_max_size_reached
        joined = await node.witness.call(JOIN, 9, join_values(group_id="other", group_instance_id="d"))
        assert joined.error_code is E.group_max_size_reached
    assert (await node.witness.call(BEAT, 1, beat_values("a"))).error_code is E.none


# Times and names


@pytest.mark.parametrize(
    ("session_ms", "error"),
    [
        (-1, E.invalid_session_timeout),
        (0, E.invalid_session_timeout),
        (5_999, E.invalid_session_timeout),
        (6_000, E.member_id_required),
        (1_800_000, E.member_id_required),
        (1_800_001, E.invalid_session_timeout),
        (2**31 - 1, E.invalid_session_timeout),
    ],
)
async def test_sessions(node: Running, session_ms: int, error: ErrorCode) -> None:
    async with node.unharmed():
        answer = await node.witness.call(JOIN, 9, join_values(session_timeout=session_ms))
        assert answer.error_code is error


async def test_no_group_and_no_protocol(node: Running) -> None:
    joined = await member_of(node)
    async with node.unharmed():
        for key, version, values in (
            (JOIN, 9, join_values(group_id="")),
            (SYNC, 5, sync_values(joined, group_id="")),
            (HEARTBEAT, 4, {**own(joined), "group_id": ""}),
            (LEAVE, 5, {"group_id": "", "members": [{"member_id": joined.member_id}]}),
        ):
            assert (await node.witness.call(key, version, values)).error_code is E.invalid_group_id
        for more in ({"protocols": []}, {"protocol_type": ""}, {"protocol_type": "connect"}):
            answer = await node.witness.call(JOIN, 9, join_values(**more))
            assert answer.error_code is E.inconsistent_group_protocol
        unlike = [{"name": "unheard of", "metadata": b""}]
        answer = await node.witness.call(JOIN, 9, join_values(protocols=unlike))
        assert answer.error_code is E.inconsistent_group_protocol
        await unnoticed(node, joined, 5)


MARK = "@" * 8


def named_requests() -> list[tuple[int, int, dict[str, Any]]]:
    group = {"group_id": MARK}
    topics = [{"name": "target", "partitions": [{"partition_index": 0}]}]
    return [
        (COMMIT, 2, {**group, "topics": topics}),
        (COMMIT, 9, {**group, "topics": topics}),
        (FETCH, 7, {**group, "topics": None}),
        (FETCH, 9, {"groups": [{**group, "topics": None}]}),
        (FIND, 0, {"key": MARK}),
        (FIND, 6, {"key_type": 0, "coordinator_keys": [MARK]}),
        (JOIN, 3, join_values(group_id=MARK)),
        (JOIN, 9, join_values(group_id=MARK)),
        (JOIN, 9, join_values(group_instance_id=MARK)),
        (JOIN, 9, join_values(member_id=MARK)),
        (HEARTBEAT, 4, {**group, "member_id": "m", "generation_id": 1}),
        (LEAVE, 5, {**group, "members": []}),
        (SYNC, 5, {**group, "member_id": "m", "protocol_type": "consumer", "protocol_name": "range"}),
        (DESCRIBE, 6, {"groups": [MARK]}),
        (TXN_COMMIT, 4, {**group, "transactional_id": "t", "topics": topics}),
        (DELETE, 2, {"groups_names": [MARK]}),
        (OFFSET_DELETE, 0, {**group, "topics": []}),
        (BEAT, 1, beat_values("m", group_id=MARK)),
        (BEAT, 1, beat_values(MARK)),
        (DESCRIBE_CONSUMER, 1, {"group_ids": [MARK]}),
    ]


async def test_names_that_are_no_text(node: Running) -> None:
    """Kafka puts U+FFFD for what it cannot read, so that the names of different groups become one; here nobody is
    answered who sends such a name."""
    joined = await member_of(node)
    async with node.unharmed(lines=len(named_requests())):
        for key, version, values in named_requests():
            body = encode(request_type(key, version), values)
            assert body.count(MARK.encode()) == 1
            flexible = bool(getattr(request_type(key, version).__header_schema__, "__flexible__", False))
            peer = await node.raw()
            await peer.send(framed(header(key, version, flexible=flexible) + body.replace(MARK.encode(), b"\xff" * 8)))
            assert await peer.closed(), (key, version)
        await unnoticed(node, joined, 5)
    assert [row.group_id for row in (await node.witness.call(LIST, 5, {})).groups] == ["good"]


async def test_names_of_every_length(node: Running) -> None:
    """The longest names are taken, and are unknown where they have to be known; longer ones are no strings."""
    joined = await member_of(node)
    peer = await KafkaConnection.open("127.0.0.1", node.port, client_id=LONGEST, timeout=TIMEOUT)
    async with node.unharmed():
        answer = await peer.call(JOIN, 9, join_values(group_id=LONGEST))
        assert answer.error_code is E.member_id_required
        assert len(answer.member_id) == 255 + 1 + 36, "of the client id a part"
        for instance in ({"group_instance_id": LONGEST}, {}):
            who = {"member_id": LONGEST, **instance}
            assert (await peer.call(JOIN, 9, join_values(**who))).error_code is E.unknown_member_id
            assert (await peer.call(HEARTBEAT, 4, {**own(joined), **who})).error_code is E.unknown_member_id
            assert (await peer.call(SYNC, 5, sync_values(joined, **who))).error_code is E.unknown_member_id
            left = await peer.call(LEAVE, 5, {"group_id": "good", "members": [who]})
            assert left.members[0].error_code is E.unknown_member_id
        static = await peer.call(JOIN, 9, join_values(group_id=LONGEST, group_instance_id=LONGEST))
        assert static.error_code is E.none and len(static.member_id) == 255 + 1 + 36
        values = sync_values(static, group_id=LONGEST, group_instance_id=LONGEST)
        assert (await peer.call(SYNC, 5, values)).error_code is E.none, "and can be written down"
        beaten = await peer.call(BEAT, 1, beat_values(LONGEST, instance_id=LONGEST, rack_id=LONGEST))
        assert (beaten.error_code, beaten.member_id) == (E.none, LONGEST)
        await unnoticed(node, joined, 5)
    await peer.close()
    async with node.unharmed(lines=3):
        for more in ({"group_id": LONGEST + "x"}, {"member_id": LONGEST + "x"}, {"group_instance_id": LONGEST + "x"}):
            one = await node.client()
            with pytest.raises(ConnectionError):
                await one.call(JOIN, 9, join_values(**more))


# What members tell each other


async def test_metadata_that_is_none_is_handed_on_as_it_is(node: Running) -> None:
    """The coordinator need not understand it (there are other protocols than consumers'), and does not stumble."""
    rng = random.Random(3)
    for number, size in enumerate((0, 1, 2, 7, 100, 100_000)):
        said, given, group = rng.randbytes(size), rng.randbytes(size), f"g{number}"
        async with node.unharmed():
            values = join_values(group_id=group, protocols=[{"name": "range", "metadata": said}])
            (row,) = (joined := await node.witness.call(JOIN, 9, {**values, "group_instance_id": "i"})).members
            assert bytes(row.metadata) == said
            plan = [{"member_id": each, "assignment": given} for each in (joined.member_id, "stranger", "")]
            values = sync_values(joined, group_id=group, assignments=plan)
            assert bytes((await node.witness.call(SYNC, 5, values)).assignment) == given
            (told,) = (await node.witness.call(DESCRIBE, 6, {"groups": [group]})).groups
            (member,) = told.members
            assert (bytes(member.member_metadata), bytes(member.member_assignment)) == (said, given)
            topics = [{"name": "target", "partitions": [{"partition_index": 0}]}]
            deleted = await node.witness.call(OFFSET_DELETE, 0, {"group_id": group, "topics": topics})
            assert deleted.error_code in (E.none, E.group_subscribed_to_topic)
            beaten = await node.witness.call(BEAT, 1, beat_values("m", group_id=group))
            assert beaten.error_code in (E.group_id_not_found, E.none), "it can be moved over, or it cannot"


async def test_a_member_whose_metadata_is_none_can_be_led_by_another(node: Running) -> None:
    garbage = b"\xff\xff\x7f\xff\xff\xff" * 3
    first = await member_of(node)
    peer = await node.client()
    values = join_values(protocols=[{"name": "range", "metadata": garbage}])
    second = asyncio.ensure_future(peer.call(JOIN, 3, values))
    shard = node.broker.groups.shard_of("good")
    await eventually(lambda: len(shard.groups["good"].members) == 2)
    led = await node.witness.call(JOIN, 9, join_values(member_id=first.member_id))
    assert garbage in [bytes(row.metadata) for row in led.members]
    other = await second
    assert (await node.witness.call(SYNC, 5, sync_values(led))).error_code is E.none
    assert bytes((await node.witness.call(SYNC, 5, sync_values(other))).assignment) == b"part"
    await unnoticed(node, led, 5)


# Commits


async def transactional(node: Running) -> dict[str, Any]:
    await node.witness.call(FIND, 6, {"key_type": 1, "coordinator_keys": ["t"]})
    await eventually(lambda: not isinstance(node.broker.transactions.shard_of("t"), ErrorCode))
    made = await node.witness.call(INIT, 5, {"transactional_id": "t", "transaction_timeout": 60_000})
    assert made.error_code is E.none
    return {
        "api": (TXN_COMMIT, 5),
        "transactional_id": "t",
        "producer_id": made.producer_id,
        "producer_epoch": made.producer_epoch,
        "generation_id": -1,
    }


@pytest.mark.parametrize("in_transaction", [False, True])
async def test_metadata_of_commits(node: Running, in_transaction: bool) -> None:
    more = await transactional(node) if in_transaction else {}
    async with node.unharmed():
        for metadata, error in (
            ("m" * 4097, E.offset_metadata_too_large),
            ("m" * 32_767, E.offset_metadata_too_large),
            ("\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 2049, E.offset_metadata_too_large),
            ("m" * 4096, E.none),
            ("\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 2048, E.none),
        ):
            assert await commit(node, 7, metadata=metadata, **more) is error
    assert await committed(node) == ((-1, "") if in_transaction else (7, metadata)), "what was too long is not there"


@pytest.mark.parametrize("in_transaction", [False, True])
async def test_positions_that_are_none(node: Running, in_transaction: bool) -> None:
    """Which offsets there are is the leader's affair: Kafka's coordinator takes any number, and so does this one."""
    more = await transactional(node) if in_transaction else {}
    async with node.unharmed():
        for index in (-1, 1, 2**31 - 1, -(2**31)):
            assert await commit(node, 5, index=index, **more) is E.unknown_topic_or_partition
        assert (await committed(node))[0] == -1
        for offset in (-5, -(2**63), 2**63 - 1):
            assert await commit(node, offset, **more) is E.none
            if not in_transaction:
                assert (await committed(node))[0] == offset


@pytest.mark.parametrize("in_transaction", [False, True])
async def test_commits_of_others_and_of_before(node: Running, in_transaction: bool) -> None:
    more = await transactional(node) if in_transaction else {}
    joined = await member_of(node, group_instance_id="i")
    name = "generation_id" if in_transaction else "generation_id_or_member_epoch"
    mine = {"member_id": joined.member_id, name: joined.generation_id}
    async with node.unharmed():
        for who, error in (
            ({name: joined.generation_id - 1}, E.illegal_generation),
            ({name: joined.generation_id + 1}, E.illegal_generation),
            ({name: -1}, E.illegal_generation),
            ({name: 2**31 - 1}, E.illegal_generation),
            ({"member_id": "nobody"}, E.unknown_member_id),
            ({"member_id": "nobody", "group_instance_id": "i"}, E.fenced_instance_id),
            ({"group_instance_id": "j"}, E.unknown_member_id),
            ({"member_id": ""}, E.unknown_member_id),
        ):
            assert await commit(node, 9, **{**more, **mine, **who}) is error, who
        if not in_transaction:
            assert await commit(node, 9) is E.unknown_member_id, "who has no generation while there are members"
        assert (await committed(node))[0] == -1
        await unnoticed(node, joined, 5)


async def test_members_of_before(node: Running) -> None:
    joined = await member_of(node)
    async with node.unharmed():
        for generation in (-1, 0, joined.generation_id + 1, 2**31 - 1):
            old = {"generation_id": generation}
            assert (await node.witness.call(HEARTBEAT, 4, {**own(joined), **old})).error_code is E.illegal_generation
            assert (await node.witness.call(SYNC, 5, sync_values(joined, **old))).error_code is E.illegal_generation
        values = sync_values(joined, protocol_name="sticky")
        assert (await node.witness.call(SYNC, 5, values)).error_code is E.inconsistent_group_protocol
        await unnoticed(node, joined, 5)
