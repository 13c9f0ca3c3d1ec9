"""A shard with members of both protocols under random schedules: joins, departures, commits, time, writes that are slow
or lost, and coordinators that move. Replay of the log is the live state, and committed offsets never go back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from ottla.broker.coordination import Place
from ottla.broker.coordination.partitioning import OFFSETS_TOPIC
from ottla.broker.groups.classic import ClassicGroup, State
from ottla.broker.groups.commits import Commits
from ottla.broker.groups.consumer import ConsumerGroup
from ottla.broker.groups.consumer_groups import ConsumerGroups
from ottla.broker.groups.offsets import OffsetStore, Position
from ottla.broker.groups.records import Entry, GroupKey, OffsetKey, OffsetValue, StoredGroup, decode
from ottla.broker.groups.shard import Shard
from ottla.broker.replication import LeaderState
from ottla.controller import PartitionImage
from ottla.log import ModelledDisk
from ottla.records import decode_batch, iter_headers
from tests.broker.world import World
from tests.groups.machine import persistent
from tests.groups.members import PARTITIONS, Classic, Member, Modern, check, shard_of
from tests.groups.test_consumer_schedules import state_of
from tests.groups.test_serving import COMMIT, FETCH, commit_values

SESSION_S = 5.0
"""Of KIP-848 members; those of classic ones last twice as long."""


class StandingLoop(asyncio.SelectorEventLoop):
    """Time passes when it is told to."""

    now = 1000.0

    def time(self) -> float:
        return self.now


@dataclass
class Reader:
    """What a member does with its partitions: it begins where the group has committed, and goes on from there."""

    member: Member
    task: asyncio.Task[None] | None = None
    as_whom: tuple[str, int] = ("", -1)
    positions: dict[int, int] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[str, int]:
        member = self.member
        return member.member_id, member.generation if isinstance(member, Classic) else member.epoch


class Schedule:
    def __init__(self, seed: int, members: tuple[str, ...]) -> None:
        self.rng = random.Random(seed)
        self.loop = asyncio.get_running_loop()
        self.world = World(ModelledDisk(random.Random(seed)))
        self.world.add_topic("t", PARTITIONS)
        groups = self.world.broker.groups
        groups.config = replace(groups.config, group_consumer_session_timeout_ms=int(SESSION_S * 1000))
        self.readers = [Reader(make(self.world, name)) for name in members]
        self.alive: list[Reader] = []
        self.committed: dict[int, int] = {}
        self.epoch = 5
        self.accepted = 0
        self.quick = True
        """Whether the follower fetches all the time, or now and then."""

    async def begin(self) -> None:
        (self.partition,) = self.world.add_topic(OFFSETS_TOPIC, replicas=(1, 2), leader_epoch=self.epoch)
        self.world.broker.apply(self.world.view.image)
        await self.world.broker.groups.replayed()
        self.acknowledge()

    # What happens

    async def step(self) -> None:
        what, rng = self.rng.random(), self.rng
        if what < 0.1:
            self.quick = not self.quick
        elif what < 0.25:
            self.acknowledge()
        elif what < 0.35:
            await self.advance(rng.choice([0.3, 2.0, 6.0, 13.0]))
        elif what < 0.40:
            await self.move(lose=rng.random() < 0.5)
        elif what < 0.47 and self.alive:
            reader = rng.choice(self.alive)
            self.alive.remove(reader)
            await self.end(reader, leave=rng.random() < 0.5)
        elif what < 0.58 and len(self.alive) < len(self.readers):
            self.alive.append(rng.choice([each for each in self.readers if each not in self.alive]))
        elif self.alive:
            reader = rng.choice(self.alive)
            self.start(reader, self.commit(reader) if what > 0.8 else reader.member.step())
        await self.pump()
        self.check()

    def start(self, reader: Reader, work: Coroutine[Any, Any, None]) -> None:
        """One thing at a time for each."""
        if reader.task is None:
            reader.task = self.loop.create_task(work)
        else:
            work.close()

    async def pump(self) -> None:
        for _ in range(12):
            await asyncio.sleep(0)
            if self.quick:
                self.acknowledge()
        for reader in self.readers:
            if reader.task is not None and reader.task.done():
                reader.task.result()
                reader.task = None

    async def end(self, reader: Reader, *, leave: bool) -> None:
        """It leaves, or is not heard of any more; if it comes again, then as another."""
        if reader.task is not None:
            reader.task.cancel()
            await asyncio.gather(reader.task, return_exceptions=True)
            reader.task = None
        member = reader.member
        if leave:
            leaving = self.loop.create_task(member.leave())
            await self.pump()
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        if isinstance(member, Classic):
            member.member_id, member.generation, member.owned, member.joining = "", -1, frozenset(), True
            member.stuck = None
        else:
            member.epoch, member.owned, member.news = 0, frozenset(), True
            member.lives += 1
        reader.positions.clear()

    async def commit(self, reader: Reader) -> None:
        member, me = reader.member, reader.identity
        if me != reader.as_whom:
            # Others may have gone on meanwhile.
            reader.as_whom, reader.positions = me, {}
        if not member.owned:
            return
        index = self.rng.choice(sorted(member.owned))
        if index not in reader.positions:
            found = await self.fetch(index)
            if found is None:
                return
            reader.positions[index] = max(found, 0)
        if reader.identity != me or index not in member.owned:
            return
        takes = belongs(shard_of(self.world), *me) if self.leads else False
        value = reader.positions[index] + self.rng.randrange(1, 5)
        values = commit_values(value, partition=index, member_id=me[0], generation_id_or_member_epoch=me[1])
        reader.positions[index] = value
        response = await self.world.call(COMMIT, 9, values)
        error = response.topics[0].partitions[0].error_code
        assert takes or error is not ErrorCode.none, f"{me} does not belong to the group, and has committed"
        if error is ErrorCode.none:
            self.accepted += 1
            assert self.stored().get(index, -1) >= value, "it is committed when that is said"

    async def fetch(self, index: int) -> int | None:
        wanted = [{"group_id": "g", "topics": [{"name": "t", "partition_indexes": [index]}]}]
        (found,) = (await self.world.call(FETCH, 9, {"groups": wanted})).groups
        if found.error_code is not ErrorCode.none:
            return None
        offset: int = found.topics[0].partitions[0].committed_offset
        assert offset >= self.committed.get(index, -1), "whoever asks is told what is committed, or more"
        return offset

    # The log

    @property
    def leads(self) -> bool:
        return bool(list(self.world.broker.groups.shards()))

    def acknowledge(self) -> None:
        """The follower has everything."""
        role = self.partition.role
        if not isinstance(role, LeaderState):
            return
        role.followers[2].fetched(12, role.log_end, role.log_end, self.partition.host.now())
        self.partition.advance()

    async def advance(self, seconds: float) -> None:
        while seconds > 0:
            assert isinstance(self.loop, StandingLoop)
            self.loop.now += min(seconds, 1.0)
            self.world.now_ms += 1000
            seconds -= 1.0
            await self.pump()

    async def move(self, *, lose: bool) -> None:
        """The next coordinator has what was committed, and what was not either, or not (`lose`)."""
        partition = self.partition
        shard = shard_of(self.world)
        ready, idle, before = shard.log.ready, shard.log.idle, self.live()
        self.epoch += 2
        partition.become_follower(PartitionImage((1, 2), (1, 2), 2, self.epoch - 1, 0))
        await self.pump()
        if lose:
            assert partition.log is not None
            partition.log.truncate_to(partition.high_watermark)
        partition.become_leader(PartitionImage((1, 2), (1, 2), 1, self.epoch, 0))
        self.world.broker.apply(self.world.view.image)
        await self.world.broker.groups.replayed()
        if ready and (idle or lose):
            assert shard_of(self.world).log.ready
            assert self.live() == before, "the next coordinator knows what the last one knew"
        self.acknowledge()

    # What must hold

    def stored(self) -> dict[int, int]:
        return {at[1]: value.offset for at, value in shard_of(self.world).offsets.of("g").items()}

    def live(self) -> tuple[object, ...]:
        """What is stored, as the coordinator has it."""
        shard = shard_of(self.world)
        group, found = shard.groups.get("g"), shard.consumers.groups.get("g")
        return (
            None if group is None else group.stored,
            None if found is None else state_of(found),
            dict(shard.offsets.of("g")),
        )

    def replayed(self) -> tuple[object, ...]:
        """The same, read from the log."""
        stored: StoredGroup | None = None
        group, offsets = ConsumerGroup("g"), OffsetStore()
        held = self.partition.log
        assert held is not None
        for key, value, offset in committed_entries(held.read(0, 1 << 20, up_to=self.partition.high_watermark)):
            if isinstance(key, OffsetKey):
                offsets.replay(key, value, Place(offset, -1))
            elif isinstance(key, GroupKey):
                stored = value
            else:
                group.replay(key, value)
        exists = group.exists or group.members or group.current or group.targets or group.regexes
        return stored, state_of(group) if exists else None, dict(offsets.of("g"))

    def check(self) -> None:
        shard = shard_of(self.world)
        if not shard.log.ready:
            return
        check(self.world, [reader.member for reader in self.alive])
        assert self.live() == self.replayed(), "replay of the log is the live state"
        group = shard.groups.get("g")
        if group is not None and group.stored and group.state in (State.STABLE, State.EMPTY) and shard.log.idle:
            again = ClassicGroup("g", 100, 0.0)
            again.replay(group.stored)
            again.recover(shard.now())
            assert persistent(again) == persistent(group)
        for index, offset in self.stored().items():
            assert offset >= self.committed.get(index, -1), f"partition {index} went back to {offset}"
            self.committed[index] = offset
        assert self.stored().keys() >= self.committed.keys()

    async def settle(self) -> None:
        """All is well again, once the silent ones are out."""
        self.quick = True
        for _ in range(45):
            await self.advance(1.0)
            for reader in self.alive:
                self.start(reader, reader.member.step())
                await self.pump()
            self.check()
            members = [reader.member for reader in self.alive]
            if set(check(self.world, members)) == set(range(PARTITIONS)) and all(
                member.counts(shard_of(self.world)) for member in members
            ):
                return
        raise AssertionError(f"{check(self.world, members)} of {PARTITIONS} partitions have an owner")


def committed_entries(data: Any) -> list[tuple[Any, Any, int]]:
    found = []
    for at, header in iter_headers(data):
        for record in [] if header.is_control else decode_batch(data, at):
            assert record.key is not None
            entry = decode(record.key, record.value)
            assert entry is not None
            found.append((entry.key, entry.value, record.offset))
    return found


def belongs(shard: Shard, member_id: str, generation: int) -> bool:
    """Whether the coordinator takes it for a member of this generation, a rebalance or not."""
    group, found = shard.groups.get("g"), shard.consumers.groups.get("g")
    if found is not None:
        return member_id in found.members and found.of(member_id).epoch == generation
    return group is not None and member_id in group.members and group.generation == generation


def make(world: World, name: str) -> Member:
    if name.startswith("m"):
        return Modern(world, name, instance=name if name.endswith("s") else None)
    return Classic(world, name, cooperative=name.startswith("c"), instance=name if name.endswith("s") else None)


async def run(seed: int, members: tuple[str, ...], length: int) -> int:
    schedule = Schedule(seed, members)
    await schedule.begin()
    for _ in range(length):
        await schedule.step()
    if schedule.alive:
        await schedule.settle()
        for reader in schedule.alive:
            schedule.start(reader, schedule.commit(reader))
            await schedule.pump()
        schedule.check()
    for reader in schedule.readers:
        if reader.task is not None:
            reader.task.cancel()
    await schedule.world.close()
    return schedule.accepted


KINDS = {
    "classic": ("e1", "e2", "e3s", "e4s"),
    "cooperative": ("c1", "c2", "c3s"),
    "consumer": ("m1", "m2", "m3s", "m4s"),
    "both": ("e1", "c1", "e2s", "m1", "m2"),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(st.integers(0, 1_000_000))
def test_replay_is_the_live_state_and_commits_never_go_back(kind: str, seed: int) -> None:
    with asyncio.Runner(loop_factory=StandingLoop) as runner:
        runner.run(run(seed, KINDS[kind], 80))


def any_epoch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ConsumerGroups, "check_epoch", lambda *_: ErrorCode.none)


def told_before_it_is_replicated(patch: pytest.MonkeyPatch) -> None:
    commit = Commits.commit

    def at_once(self: Commits, group_id: str, positions: Sequence[Position], keep_ms: int) -> asyncio.Future[ErrorCode]:
        written = commit(self, group_id, positions, keep_ms)
        if not written.done():
            written.set_result(ErrorCode.none)
        return written

    patch.setattr(Commits, "commit", at_once)


def no_sessions_after_a_move(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ConsumerGroups, "loaded", lambda self, now: None)


def changed_before_it_is_replicated(patch: pytest.MonkeyPatch) -> None:
    write = Shard.write

    def early(self: Shard, entries: Sequence[Entry], *rest: Any, **more: Any) -> None:
        for entry in entries:
            if isinstance(entry.key, OffsetKey):
                self.offsets.replay(entry.key, cast(OffsetValue, entry.value), Place(0, -1))
        write(self, entries, *rest, **more)

    patch.setattr(Shard, "write", early)


@pytest.mark.parametrize(
    "mutant", [any_epoch, told_before_it_is_replicated, no_sessions_after_a_move, changed_before_it_is_replicated]
)
def test_a_coordinator_without_one_of_its_rules_is_found_out(
    monkeypatch: pytest.MonkeyPatch, mutant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        for seed in range(40):
            with asyncio.Runner(loop_factory=StandingLoop) as runner:
                runner.run(run(seed, KINDS["consumer"], 120))
