"""Clients of both protocols that share a group on one broker, for tests: they do what their protocol asks of them."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field
from typing import Any

from kio.schema.errors import ErrorCode

from ottla.broker.groups.classic import State
from ottla.broker.groups.embedded import assigned_in, assignment_bytes, subscription_of
from ottla.broker.groups.shard import Shard
from tests.broker.world import World, topic_id
from tests.groups.test_serving import HEARTBEAT, JOIN, LEAVE, SYNC

BEAT = 68
PARTITIONS = 5
LOST = (
    ErrorCode.unknown_member_id,
    ErrorCode.illegal_generation,
    ErrorCode.fenced_instance_id,
    ErrorCode.fenced_member_epoch,
)
LATER = (
    ErrorCode.coordinator_load_in_progress,
    ErrorCode.coordinator_not_available,
    ErrorCode.not_coordinator,
    ErrorCode.unreleased_instance_id,
)


def metadata(topics: tuple[str, ...] = ("t",), owned: frozenset[int] = frozenset(), version: int = 1) -> bytes:
    names = b"".join(struct.pack(">h", len(name)) + name.encode() for name in topics)
    data = struct.pack(">hi", version, len(topics)) + names + struct.pack(">i", -1)
    if version >= 1:
        row = b"\0\1t" + struct.pack(f">i{len(owned)}i", len(owned), *sorted(owned))
        data += struct.pack(">i", bool(owned)) + (row if owned else b"")
    if version >= 2:
        data += struct.pack(">i", 7)
    if version >= 3:
        data += b"\0\2r1"
    return data


def owners_in(joined: Any) -> dict[int, str]:
    """Who has which partition, as the members said when they joined."""
    owners = {}
    for row in joined.members:
        said = subscription_of(row.metadata)
        assert said is not None
        owners.update({index: row.member_id for _, index in said.owned})
    return owners


@dataclass(eq=False)
class Classic:
    """A consumer of the classic protocol that leads with a range assignment. The cooperative kind keeps what it has
    through a rebalance, and gives up only what it is told to."""

    world: World
    name: str
    cooperative: bool = False
    instance: str | None = None
    member_id: str = ""
    generation: int = -1
    owned: frozenset[int] = frozenset()
    joining: bool = True
    stuck: Any = None

    @property
    def protocol(self) -> str:
        return "cooperative-sticky" if self.cooperative else "range"

    async def step(self) -> None:
        if self.stuck is not None:
            await self._joined()
        elif self.joining:
            await self.join()
        else:
            values = {"group_id": "g", "member_id": self.member_id, "generation_id": self.generation}
            response = await self.world.call(HEARTBEAT, 4, values | {"group_instance_id": self.instance})
            self._heed(response.error_code)

    async def join(self) -> None:
        self.joining = True
        if not self.cooperative:
            self.owned = frozenset()
        values = {
            "group_id": "g",
            "member_id": self.member_id,
            "group_instance_id": self.instance,
            "session_timeout": 10_000,
            "rebalance_timeout": 10_000,
            "protocol_type": "consumer",
            # One that everybody knows, and likes best: the log keeps no others.
            "protocols": [{"name": name, "metadata": metadata(owned=self.owned)} for name in ("both", self.protocol)],
        }
        answer, self._route = self.world.start(JOIN, 9, values)
        self.stuck = answer
        await self._joined()

    async def _joined(self) -> None:
        """The answer to the join, if there is one by now."""
        answer = self.stuck
        if asyncio.isfuture(answer):
            for _ in range(3):
                await asyncio.sleep(0)
            if not answer.done():
                return
            answer = answer.result()
        self.stuck = None
        response = self.world.decoded(JOIN, 9, answer, self._route)
        if response.error_code is ErrorCode.member_id_required:
            self.member_id = response.member_id
            await self.join()
            return
        if response.error_code is not ErrorCode.none:
            self._heed(response.error_code)
            return
        self.member_id, self.generation = response.member_id, response.generation_id
        await self._sync(response)

    async def _sync(self, joined: Any) -> None:
        plan = []
        if joined.leader == self.member_id:
            members = sorted(row.member_id for row in joined.members)
            owners = owners_in(joined)
            for place, member in enumerate(members):
                # What somebody else still has (KIP-429) is given out once that one has joined again without it.
                mine = [
                    ("t", index)
                    for index in range(PARTITIONS)
                    if index % len(members) == place and owners.get(index, member) == member
                ]
                plan.append({"member_id": member, "assignment": assignment_bytes(mine, 1)})
        values = {
            "group_id": "g",
            "generation_id": self.generation,
            "member_id": self.member_id,
            "group_instance_id": self.instance,
            "protocol_type": "consumer",
            "protocol_name": joined.protocol_name,
            "assignments": plan,
        }
        answer, route = self.world.start(SYNC, 5, values)
        if asyncio.isfuture(answer):
            for _ in range(3):
                await asyncio.sleep(0)
            if not answer.done():
                answer.cancel()  # the leader has not synced: ask again, as for a lost connection
                return
            answer = answer.result()
        response = self.world.decoded(SYNC, 5, answer, route)
        if response.error_code is not ErrorCode.none:
            self._heed(response.error_code)
            return
        told = assigned_in(response.assignment)
        assert told is not None
        given = frozenset(index for _, index in told)
        gives_up = self.owned - given
        self.owned, self.joining = given, bool(self.cooperative and gives_up)

    def _heed(self, error: ErrorCode) -> None:
        if error in LOST:
            self.joining, self.owned, self.generation = True, frozenset(), -1
            if error is not ErrorCode.illegal_generation:
                self.member_id = ""
        elif error is ErrorCode.rebalance_in_progress:
            self.joining = True
        else:
            assert error in (ErrorCode.none, *LATER), error

    async def leave(self) -> None:
        members = [{"member_id": self.member_id, "group_instance_id": self.instance}]
        await self.world.call(LEAVE, 5, {"group_id": "g", "members": members})
        self.owned, self.joining, self.member_id, self.generation = frozenset(), True, "", -1
        self.stuck = None

    def counts(self, shard: Shard) -> bool:
        """Whether the coordinator takes it for a member of this generation."""
        group = shard.groups.get("g")
        if group is not None:
            known = self.member_id in group.members and group.state is State.STABLE
            return known and group.generation == self.generation
        found = shard.consumers.groups.get("g")
        return (
            found is not None
            and self.member_id in found.members
            and found.of(self.member_id).epoch == (self.generation)
        )


@dataclass(eq=False)
class Modern:
    """A consumer of KIP-848's protocol."""

    world: World
    name: str
    instance: str | None = None
    epoch: int = 0
    owned: frozenset[int] = frozenset()
    news: bool = True
    lives: int = 0
    last: Any = field(default=None)

    @property
    def member_id(self) -> str:
        return f"{self.name}-{self.lives}"

    async def step(self, epoch: int | None = None) -> None:
        first = self.epoch == 0
        owned = [{"topic_id": topic_id("t"), "partitions": sorted(self.owned)}] if self.owned else []
        values = {
            "group_id": "g",
            "member_id": self.member_id,
            "member_epoch": self.epoch if epoch is None else epoch,
            "instance_id": self.instance,
            "rebalance_timeout": 1000 if first or self.news else -1,
            "subscribed_topic_names": ["t"] if first or self.news else None,
            "topic_partitions": owned,
        }
        response = self.last = await self.world.call(BEAT, 1, values)
        if response.error_code in LOST or response.error_code is ErrorCode.group_id_not_found:
            self.epoch, self.owned, self.news = 0, frozenset(), True
        elif response.error_code is ErrorCode.none and epoch is None:
            self.epoch, self.news = response.member_epoch, False
            if response.assignment is not None:
                rows = response.assignment.topic_partitions
                self.owned = frozenset(index for row in rows for index in row.partitions)
        else:
            assert epoch is not None or response.error_code in LATER, response

    async def leave(self) -> None:
        if self.epoch > 0:
            await self.step(-1)
        self.epoch, self.owned, self.news = 0, frozenset(), True
        self.lives += 1

    def counts(self, shard: Shard) -> bool:
        found = shard.consumers.groups.get("g")
        return found is not None and self.member_id in found.members and found.of(self.member_id).epoch == self.epoch


Member = Classic | Modern


def shard_of(world: World) -> Shard:
    (shard,) = world.broker.groups.shards()
    return shard


def check(world: World, members: list[Member]) -> dict[int, str]:
    """No partition has two owners. Who has which."""
    shard, owners = shard_of(world), dict[int, str]()
    for member in members:
        for index in member.owned if member.counts(shard) else ():
            assert index not in owners, f"{index} is read by {owners[index]} and {member.name}"
            owners[index] = member.name
    assert not ("g" in shard.groups and "g" in shard.consumers.groups)
    return owners


async def settle(world: World, members: list[Member], rounds: int = 12) -> dict[int, str]:
    for _ in range(rounds):
        for member in members:
            await member.step()
            check(world, members)
    owners = check(world, members)
    assert set(owners) == set(range(PARTITIONS))
    return owners


def kind(world: World) -> str:
    return "consumer" if "g" in shard_of(world).consumers.groups else "classic"
