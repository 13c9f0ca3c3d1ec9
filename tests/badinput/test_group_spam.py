"""Clients that ask to join and never come back: what is kept of them has a bound, and other groups do not notice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ottla.broker.groups.newcomers import Bounds
from ottla.wire import KafkaConnection, encode, request_type
from tests.badinput.groups import BEAT, JOIN, E, coordinating, join_values, member_of, unnoticed
from tests.badinput.node import TIMEOUT, Running, eventually

BURST = 50
BOUNDS = Bounds(members=150, size=2 << 20, of_group=100, size_of_group=1 << 20)


@pytest.fixture
async def node(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Running]:
    async with coordinating(tmp_path / "data", caplog) as started:
        started.broker.groups.newcomers.bounds = BOUNDS
        yield started


async def settled(node: Running) -> Any:
    """A member of a stable group; nobody else's join is answered while the test runs."""
    joined = await member_of(node)
    groups = node.broker.groups
    groups.config = replace(groups.config, group_initial_rebalance_delay_ms=600_000)
    return joined


# The ways to join


def send(peer: KafkaConnection, version: int, values: Any) -> None:
    peer.send(JOIN, version, [encode(request_type(JOIN, version), values)])


async def ids(peer: KafkaConnection, groups: Sequence[str]) -> list[str]:
    found = []
    for group in groups:
        answer = await peer.call(JOIN, 9, join_values(group_id=group))
        assert answer.error_code is E.member_id_required
        found.append(answer.member_id)
    return found


async def before_ids(peer: KafkaConnection, groups: Sequence[str], first: int) -> None:
    for group in groups:
        send(peer, 3, join_values(group_id=group))


async def for_an_id(peer: KafkaConnection, groups: Sequence[str], first: int) -> None:
    await ids(peer, groups)


async def with_an_id(peer: KafkaConnection, groups: Sequence[str], first: int) -> None:
    for group, member_id in zip(groups, await ids(peer, groups), strict=True):
        send(peer, 9, join_values(group_id=group, member_id=member_id))


async def static(peer: KafkaConnection, groups: Sequence[str], first: int) -> None:
    for number, group in enumerate(groups, first):
        send(peer, 9, join_values(group_id=group, group_instance_id=f"m{number}"))


async def by_heartbeat(peer: KafkaConnection, groups: Sequence[str], first: int) -> None:
    for number, group in enumerate(groups, first):
        values = {"group_id": group, "member_id": f"m{number}", "member_epoch": 0, "rebalance_timeout": 60_000}
        values |= {"subscribed_topic_names": ["target"], "topic_partitions": []}
        assert (await peer.call(BEAT, 1, values)).error_code is E.none


Way = Callable[[KafkaConnection, Sequence[str], int], Awaitable[None]]
WAYS: dict[Way, int] = {before_ids: 30, with_an_id: 30, static: 30, for_an_id: 30, by_heartbeat: 12}
"""And how many connections do it."""
LEAVES_NOTHING = (before_ids, with_an_id, static)
"""Of these nothing is left when the connection has gone."""


async def spam(node: Running, way: Way, group: Callable[[int], str], client_id: str = "spam") -> None:
    """Connections that ask for many members each, and go."""
    stats, there = node.server.stats, node.server.connections
    accepted = stats.accepted + WAYS[way]
    for first in range(0, WAYS[way] * BURST, BURST):
        peer = await KafkaConnection.open("127.0.0.1", node.port, client_id=client_id, timeout=TIMEOUT)
        await way(peer, [group(number) for number in range(first, first + BURST)], first)
        peer.abort()
    await eventually(lambda: stats.accepted == accepted and node.server.connections == there)


def counted(node: Running) -> tuple[int, int]:
    """(groups, members and ids that wait to be used), the good group left out."""
    groups = members = 0
    for shard in node.broker.groups.shards():
        for group in shard.groups.values():
            if group.id != "good":
                groups, members = groups + 1, members + len(group.members) + len(group.pending)
        for other in shard.consumers.groups.values():
            groups, members = groups + 1, members + len(other.members)
    return groups, members


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_who_never_comes_back_takes_no_room(node: Running, way: Way) -> None:
    joined = await settled(node)
    newcomers = node.broker.groups.newcomers
    async with node.unharmed():
        await spam(node, way, lambda _: "spam")
        await unnoticed(node, joined, 1)
        assert counted(node)[1] <= BOUNDS.of_group
        await spam(node, way, lambda number: f"g{number}")
        await unnoticed(node, joined, 2)
        groups, members = counted(node)
        if way in LEAVES_NOTHING:
            assert (groups, members, len(newcomers), newcomers.size) == (0, 0, 0, 0)
        else:
            assert 0 < groups <= BOUNDS.members and 0 < members <= BOUNDS.members
            assert 0 < len(newcomers) <= BOUNDS.members
        assert len(node.broker.groups._deadlines) < 1000 + 2 * BOUNDS.members


@pytest.mark.parametrize("way", [for_an_id, by_heartbeat], ids=lambda way: way.__name__)
async def test_long_names_count_by_their_length(node: Running, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """19 MB of names and client ids are sent, and 2 MB of it may be kept."""
    monkeypatch.setitem(WAYS, way, 6)
    await spam(node, way, lambda number: f"{number}-".ljust(32_000, "g"), "c" * 32_000)
    groups = node.broker.groups
    kept = {name for shard in groups.shards() for name in (*shard.groups, *shard.consumers.groups)}
    kept |= {name for _, name in groups._deadlines._armed}
    assert 0 < groups.newcomers.size <= BOUNDS.size and 0 < sum(map(len, kept)) < BOUNDS.size


async def test_who_waits_is_not_pushed_out(node: Running) -> None:
    """Those who hold a connection and wait stay, and one too many is asked to come later; who only took an id goes."""
    joined = await settled(node)
    idle = await ids(node.witness, ["spam"] * 20)
    peers = [await node.client() for _ in range(2)]
    waiting = [
        peer.call_raw(JOIN, 9, [encode(request_type(JOIN, 9), join_values(group_id="spam", group_instance_id=f"{i}"))])
        for i, peer in enumerate(peers * 50)
    ]
    await eventually(lambda: len(node.broker.groups.newcomers) == BOUNDS.of_group)
    extra = await (await node.client()).call(JOIN, 9, join_values(group_id="spam", group_instance_id="late"))
    assert extra.error_code is E.coordinator_not_available
    gone = await node.witness.call(JOIN, 9, join_values(group_id="spam", member_id=idle[0]))
    assert gone.error_code is E.unknown_member_id
    await unnoticed(node, joined, 1)
    assert all(each.cancel() for each in waiting), "nobody of these was answered"
    assert counted(node) == (1, BOUNDS.of_group)
