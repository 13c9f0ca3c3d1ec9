"""Consumers in groups under faults: they read what others write, process it, and commit what they have processed.

One group speaks the classic protocol, one that of KIP-848, and in the third members of both come and go, so that it
moves from one to the other; the members of the fourth share by the cooperative protocol. Some members are driven by
hand (`members`), some are programs with this library's consumer (`programs`). A member crashes, leaves, or goes on;
each commits only what it has read since its partitions were given to it, from where its group had committed.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.coordination.partitioning import OFFSETS_TOPIC, partition_for
from ottla.client import Consumer, KafkaError, TopicPartition
from ottla.simulation.checker import Finding
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.groups.check import check_groups
from ottla.simulation.groups.members import At, ClassicMember, ConsumerMember, Member, Trouble
from ottla.simulation.groups.programs import PROGRAMS, run_program
from ottla.simulation.groups.told import Assigned, Commit, Fetched, Held, Outcome, Told
from ottla.tasks import stop_tasks

log = structlog.get_logger(__name__)

SETTINGS: Final[Mapping[str, str]] = {
    "offsets.topic.num.partitions": "2",
    "group.initial.rebalance.delay.ms": "100",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "3000",
    "group.consumer.session.timeout.ms": "3000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "500",
}
"""Of nodes: few partitions for offsets, so that their leaders are hit, and little patience."""

SESSION_S = 3.0
PATIENCE_S = 1.5
_STEP_S = (0.05, 0.3)
_POLL_MS = 50.0
GROUPS: Final[Mapping[str, Sequence[str]]] = {
    "classics": ("classic", "classic", "our classic"),
    "consumers": ("consumer", "consumer", "our consumer"),
    "mixed": ("classic", "our consumer", "either"),
    "cooperative": ("our cooperative", "our cooperative"),
}
_EITHER = ("classic", "consumer", "our classic", "our consumer")


class GroupWorkload:
    """Runs members from `async with` on, until `finish`."""

    def __init__(
        self,
        cluster: SimulatedCluster,
        topic: str,
        partitions: int,
        groups: Mapping[str, Sequence[str]] = GROUPS,
        *,
        restless: float = 0.006,
        session_s: float = SESSION_S,
    ) -> None:
        """`groups`: of which kind each member is, by group. After a step a member leaves with the
        probability `restless`. Where a member says so itself, its session (and the time that it has to join again in a
        rebalance) is `session_s`."""
        alike = {group for group, kinds in groups.items() if len({kind.removeprefix("our ") for kind in kinds}) == 1}
        self.told = Told(alike=frozenset(alike))
        self.groups = groups
        self.session_s = session_s
        self.restless = restless
        self.static = 0.3
        """Which part of the programs are static members (KIP-345)."""
        self.calm = False
        self.cluster = cluster
        self.topic = topic
        self.partitions = partitions
        self.stopping = asyncio.Event()
        self._rng = cluster.world.rng("groups")
        self._tasks: list[asyncio.Task[None]] = []
        self.lives = 0
        self.lives_of: Counter[str] = Counter()
        """How many members a group has had."""
        self.owned: dict[str, tuple[str, frozenset[At]]] = {}

    async def __aenter__(self) -> Self:
        for group, kinds in self.groups.items():
            for number, kind in enumerate(kinds):
                seat = f"{group}-{number}"
                rng = random.Random(self._rng.getrandbits(64))
                self._tasks.append(asyncio.create_task(self._live(group, seat, kind, rng), name=seat))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_tasks(self._tasks)

    @property
    def counts(self) -> dict[str, int]:
        """What was done, for a report."""
        commits = [each.outcome for each in self.told.commits]
        return {
            "assigned": len(self.told.assigned),
            "commits": commits.count("ok"),
            "refused": commits.count("fail"),
            "fetched": len(self.told.fetched),
            "processed": sum(map(len, self.told.processed.values())),
        }

    async def _live(self, group: str, seat: str, kind: str, rng: random.Random) -> None:
        """One member after the other."""
        while not self.stopping.is_set():
            self.lives += 1
            self.lives_of[group] += 1
            chosen, name = rng.choice(_EITHER) if kind == "either" else kind, f"{seat}-{self.lives}"
            try:
                if chosen in PROGRAMS:
                    await run_program(self, seat, group, chosen, rng, name)
                else:
                    await self._drive(self._member(group, name, chosen), seat, rng)
            except KafkaError as error:
                log.info("client_not_started", error=str(error))
            finally:
                self.owned.pop(seat, None)
            await asyncio.sleep(rng.uniform(0.0, 1.0))

    async def _drive(self, member: Member, seat: str, rng: random.Random) -> None:
        try:
            await Worker(self, seat, member, rng).run()
        finally:
            member.forget_coordinator()

    def _member(self, group: str, name: str, kind: str) -> Member:
        servers = [(host, int(port)) for host, _, port in (each.rpartition(":") for each in self._bootstrap())]
        if kind == "classic":
            return ClassicMember(
                servers,
                group,
                self.topic,
                name,
                session_s=self.session_s,
                patience_s=PATIENCE_S,
                partitions=self.partitions,
            )
        return ConsumerMember(servers, group, self.topic, name, session_s=self.session_s, patience_s=PATIENCE_S)

    def _bootstrap(self) -> list[str]:
        return self.cluster.bootstrap.split(",")

    def metadata_age_ms(self, _rng: random.Random) -> float:
        """How old the metadata of a program may be."""
        return 300000

    async def rest(self, *, within: float) -> None:
        """Nothing more is written to the topic: here others have done that."""

    async def finish(self, ends: Mapping[At, int], *, within: float) -> None:
        """Until every group has processed and committed everything, and every partition has one owner in each; then no
        more operations. From now on nobody leaves or stands still. Raises TimeoutError with what is missing."""
        loop = asyncio.get_running_loop()
        self.calm, began = True, loop.time()
        while (missing := self._missing(ends)) is not None:
            if loop.time() - began > within:
                raise TimeoutError(f"not within {within:g} s: {missing}")
            await asyncio.sleep(0.1)
        self.stopping.set()
        async with asyncio.timeout(within):
            await asyncio.gather(*self._tasks)

    def findings(self, ends: Mapping[At, int]) -> list[Finding]:
        """After `finish`."""
        return check_groups(self.told, dict.fromkeys(self.groups, ends))

    def coordinator(self, group: str) -> str | None:
        """The address of the node that leads, in the newest epoch that the controllers have committed, what the group's
        coordinator leads, and has read what that says of the group; None: there is none."""
        topic = self.cluster.invariants.metadata.latest.topics.get(OFFSETS_TOPIC)
        if topic is None:
            return None
        index = partition_for(group, len(topic.partitions))
        state = topic.partitions[index]
        node = self.cluster.nodes.get(state.leader)
        if node is None or node.node is None or node.node.broker is None or node.node.broker._broker is None:
            return None
        shard = node.node.broker._broker.groups.shard_of(group)
        if isinstance(shard, ErrorCode) or shard.log.epoch != state.leader_epoch:
            return None
        return node.machine.address

    def _missing(self, ends: Mapping[At, int]) -> str | None:
        for group in self.groups:
            owners = [at for named, mine in self.owned.values() if named == group for at in mine]
            if sorted(owners) != sorted(ends):
                return f"{group}: {len(set(owners))} of {len(ends)} partitions have an owner, {len(owners)} owners"
            best = dict.fromkeys(ends, 0)
            for commit in self.told.commits:
                if commit.group == group and commit.outcome == "ok":
                    best.update({at: max(best[at], offset) for at, offset in commit.offsets.items()})
            for fetched in self.told.fetched:
                if fetched.group == group:
                    best.update({at: max(best[at], offset) for at, offset in fetched.offsets.items()})
            behind = {at: (best[at], end) for at, end in ends.items() if best[at] < end}
            if behind:
                return f"{group}: committed of ends {behind}"
        return None


class Worker:
    """One member with a consumer, until it leaves or crashes."""

    def __init__(self, workload: GroupWorkload, seat: str, member: Member, rng: random.Random) -> None:
        self._workload = workload
        self._told = workload.told
        self._seat = seat
        self._member = member
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._positions: dict[At, int] = {}
        self._life = 0
        self._next_beat = 0.0
        self._noted: object = None
        self._since: dict[At, float] = {}

    async def run(self) -> None:
        """Raises KafkaError when the consumer cannot be started."""
        async with self._workload.cluster.consumer(request_timeout_ms=1500, fetch_max_wait_ms=300) as consumer:
            while not self._workload.stopping.is_set():
                try:
                    await self._step(consumer)
                except Trouble as trouble:
                    log.debug("member_in_trouble", member=self._member.name, trouble=str(trouble))
                    await asyncio.sleep(0.1)
                # Crashes and departures are told apart by the coordinator: one is silent.
                whim = 1.0 if self._workload.calm else self._rng.random()
                if whim < 0.004:
                    return
                if whim < 0.004 + self._workload.restless:
                    await self._leave()
                    return
                await asyncio.sleep(self._rng.uniform(*_STEP_S))

    async def _leave(self) -> None:
        try:
            await self._member.leave()
        except Trouble as trouble:
            log.debug("member_in_trouble", member=self._member.name, trouble=str(trouble))

    async def _step(self, consumer: Consumer) -> None:
        member = self._member
        if self._loop.time() >= self._next_beat or not member.settled:
            await self._beat()
        await self._take_up(consumer)
        if self._positions:
            await self._process(consumer)
            await self._commit()

    async def _beat(self) -> None:
        member = self._member
        began, life, since = self._loop.time(), member.lives, self._since
        informed = self._workload.coordinator(member.group)
        try:
            await member.tick()
        finally:
            self._note(began)
        if member.lives == life and since:
            # Also what it is only now told to give up was its own until now.
            # Who knows now that it is not the coordinator, or is it only now, may not have known when it answered.
            at = member.coordinator
            uninformed = at is None or not informed == at == self._workload.coordinator(member.group)
            self._told.held.append(Held(began, member.group, member.member_id, since, uninformed))
        self._next_beat = self._loop.time() + (0.5 if member.settled else 0.0)

    def _note(self, began: float) -> None:
        """What the member has now."""
        member, now = self._member, self._loop.time()
        noted = member.generation, member.assignment
        if noted == self._noted:
            return
        self._noted = noted
        self._workload.owned[self._seat] = member.group, member.assignment
        self._since = {at: self._since.get(at, now) for at in member.assignment}
        if member.assignment:
            row = Assigned(began, now, member.group, member.member_id, member.generation, member.assignment)
            self._told.assigned.append(row)

    async def _take_up(self, consumer: Consumer) -> None:
        """Begin with new partitions where the group has committed, and give up those that are not its own any more."""
        member = self._member
        wanted = member.assignment
        if member.lives != self._life:
            # It was out for a while, in which others may have gone on.
            self._life = member.lives
            self._positions.clear()
        fresh = sorted(wanted - self._positions.keys())
        if not fresh and wanted == self._positions.keys():
            return
        positions = {at: offset for at, offset in self._positions.items() if at in wanted}
        if fresh:
            began = self._loop.time()
            found = await member.committed(fresh)
            self._told.fetched.append(Fetched(began, self._loop.time(), member.group, found))
            positions |= {at: max(offset, 0) for at, offset in found.items()}
        self._positions = positions
        consumer.assign([TopicPartition(*at) for at in sorted(wanted)])
        for at, offset in positions.items():
            consumer.seek(TopicPartition(*at), offset)

    async def _process(self, consumer: Consumer) -> None:
        try:
            got = await consumer.getmany(timeout_ms=_POLL_MS)
        except KafkaError:
            for at, offset in self._positions.items():
                consumer.seek(TopicPartition(*at), offset)
            return
        for where, records in got.items():
            at = (where.topic, where.partition)
            if at not in self._positions or not records:
                continue
            self._told.processed[self._member.group, at].update(record.offset for record in records)
            self._positions[at] = records[-1].offset + 1

    async def _commit(self) -> None:
        """All positions, whether they have changed or not."""
        member, offsets = self._member, {at: now for at, now in self._positions.items() if now}
        if not offsets or self._rng.random() < 0.3:
            return
        if self._rng.random() < 0.02 and not self._workload.calm:
            # The process stands still for as long as others may believe it dead, and does not know.
            await asyncio.sleep(self._rng.uniform(1.0, 2.0) * self._workload.session_s)
        began, generation = self._loop.time(), member.generation
        outcome: Outcome = "info"
        error = None
        try:
            error = await member.commit(offsets)
            outcome = "ok" if error is ErrorCode.none else "fail"
        finally:
            now, me = self._loop.time(), member.member_id
            row = Commit(began, now, member.group, me, generation, offsets, outcome, member_id=me)
            self._told.commits.append(row)
        if error is ErrorCode.rebalance_in_progress:
            member.out()
        elif error is not None:
            try:
                member.heed(error)
            finally:
                self._note(began)
        self._note(began)
