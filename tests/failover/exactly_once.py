"""Copiers in a cluster whose nodes die and freeze, as they do themselves, by a schedule drawn from a seed."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from ottla.broker.coordination import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, partition_for
from ottla.client import Admin, TopicPartition
from ottla.cluster.traffic import Traffic
from tests.failover.application import Application, Instance
from tests.failover.cluster import NODES, Cluster
from tests.failover.copier.job import Job
from tests.failover.copies import Copies, mistakes
from tests.failover.replicas import Replica, check_identical, read_replica, values_of

PARTITIONS = 4
SHARDS = 3
SETTINGS = {
    "offsets.topic.num.partitions": SHARDS,
    "transaction.state.log.num.partitions": SHARDS,
    "group.min.session.timeout.ms": 1000,
    "group.consumer.min.session.timeout.ms": 2000,
    "group.consumer.session.timeout.ms": 2000,
}
LIBRARIES = ("ottla", "confluent-kafka", "aiokafka")
PATIENCE_S = 40.0
EVERY_NODE = "every node"
ROLES = (
    "the coordinator of transactions",
    "the coordinator of the group",
    "the leader of the output",
    "the leader of the input",
    "the active controller",
    "some node",
)


@dataclass(frozen=True, slots=True)
class Step:
    """What is struck together: a role, EVERY_NODE, or the name of a copier.

    Attributes:
        after: seconds from when the last step was over.
        freeze: SIGSTOP and SIGCONT instead of SIGKILL and a new start. While a copier is frozen, another instance of it
            is started.
        down: seconds that this lasts.
    """

    after: float
    victims: tuple[str, ...]
    freeze: bool
    down: float

    def __str__(self) -> str:
        verb = "freezes" if self.freeze else "dies"
        return f"after {self.after:.2f} s {' and '.join(self.victims)} {verb} for {self.down:.2f} s"


def schedule(seed: int | str, names: tuple[str, ...], steps: int) -> list[Step]:
    """The same one for the same arguments. Each role is met before any is met again."""
    rng = random.Random(f"exactly once {seed}")
    found: list[Step] = []
    deck: list[str] = []
    for _ in range(steps):
        deck = deck or rng.sample(ROLES, len(ROLES))
        kind = rng.random()
        victims = [EVERY_NODE] if kind < 0.1 else [deck.pop()] if kind < 0.75 else []
        if not victims or rng.random() < 0.6:
            victims.append(rng.choice(names))
        freeze = EVERY_NODE not in victims and rng.random() < 0.3
        down = rng.uniform(1.8, 3.5) if freeze else rng.choice((0.0, rng.uniform(0.0, 1.0), rng.uniform(2.0, 3.0)))
        found.append(Step(rng.uniform(0.0, 0.8), tuple(victims), freeze, down))
    return found


class Scene:
    """A topic that is written to, one that its records are copied to, the copiers, and a reader of the copies."""

    def __init__(self, cluster: Cluster, name: str, library: str, seed: int = 1) -> None:
        """With an even seed copiers of this library are a group of KIP-848."""
        self.cluster = cluster
        self.source, self.target, self.group = f"{name}-in", f"{name}-out", f"{name}-group"
        # aiokafka's copier is alone: see there.
        self.names = tuple(f"{name}-{letter}" for letter in ("a" if library == "aiokafka" else "ab"))
        common = cluster.bootstrap(), self.source, self.target, PARTITIONS, self.group
        protocol = "classic" if seed % 2 else "consumer"
        self.applications = {each: Application(library, Job(*common, each, 0, protocol)) for each in self.names}
        self.copies = Copies(cluster.bootstrap(), self.target, PARTITIONS)
        self.traffic = Traffic(cluster.bootstrap(), self.source, PARTITIONS, interval=0.08)
        self._rng = random.Random(f"some node {seed}")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Both topics are there and the input grows; whatever runs is ended afterwards."""
        for topic in (self.source, self.target):
            await self.cluster.create(topic, leaders=(1, 2, 3, 1))
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.traffic)
            await self.traffic.start_reading()
            await stack.enter_async_context(self.copies)
            for application in self.applications.values():
                stack.push_async_callback(application.destroy)
            yield

    def instances(self) -> list[Instance]:
        return [instance for application in self.applications.values() for instance in application.instances]

    # Faults

    async def strike(self, step: Step) -> None:
        """And bring everything back."""
        await asyncio.sleep(step.after)
        async with asyncio.TaskGroup() as together:
            for victim in step.victims:
                together.create_task(self._strike(victim, step), name=victim)

    async def _strike(self, victim: str, step: Step) -> None:
        if victim in self.applications:
            await self._strike_copier(self.applications[victim], step)
            return
        nodes = NODES if victim == EVERY_NODE else (await self.holder(victim),)
        if step.freeze:
            for node in nodes:
                self.cluster.pause(node)
            await asyncio.sleep(step.down)
            for node in nodes:
                self.cluster.resume(node)
        else:
            await self.cluster.kill(*nodes)
            await asyncio.sleep(step.down)
            await self.cluster.start(*nodes)

    async def _strike_copier(self, application: Application, step: Step) -> None:
        await application.unattended()
        old = application.newest
        old.signal(signal.SIGSTOP if step.freeze else signal.SIGKILL)
        if step.freeze:
            await application.start()
            application.keep()
            await asyncio.sleep(step.down)
            old.signal(signal.SIGCONT)
            await old.end(PATIENCE_S)
        else:
            await asyncio.sleep(step.down)
            await application.start()
            application.keep()

    async def holder(self, role: str) -> int:
        """Who has the role now; a node drawn at random where that is nobody."""
        name = self._rng.choice(self.names)
        partition = self._rng.randrange(PARTITIONS)
        chance = self._rng.choice(self.cluster.running())
        match role:
            case "the coordinator of transactions":
                topic, partition = TRANSACTIONS_TOPIC, partition_for(name, SHARDS)
            case "the coordinator of the group":
                topic, partition = OFFSETS_TOPIC, partition_for(self.group, SHARDS)
            case "the leader of the output":
                topic = self.target
            case "the leader of the input":
                topic = self.source
            case "the active controller":
                return await self.cluster.active_controller()
            case _:
                return chance
        views = [view for view in await self.cluster.views(topic) if view is not None]
        leader = views[0].partitions[partition].leader if views else -1
        return leader if leader in self.cluster.running() else chance

    async def goes_on(self, more: int = 20) -> None:
        """Copies come."""
        await self.copies.count(len(self.copies.seen) + more, PATIENCE_S)

    # The end

    async def settle(self) -> None:
        """No more input; all of it is copied, the copiers have ended, and nothing holds up the reader."""
        await self.cluster.in_sync(self.target)
        await self.traffic.stop_writing(within=PATIENCE_S)
        assert not self.traffic.failed
        await self.traffic.read_everything(within=PATIENCE_S)
        verdict = self.traffic.ledger.verdict()
        assert verdict.clean, verdict
        await self.copies.count(len(self.inputs()), PATIENCE_S)
        for application in self.applications.values():
            await application.stop(PATIENCE_S)
        await self.cluster.in_sync(self.target)
        await self.copies.reach(await self.cluster.high_watermarks(self.target, PARTITIONS), PATIENCE_S)

    def inputs(self) -> list[tuple[int, int]]:
        """(partition, number) of all that is in the input."""
        parts = enumerate(self.traffic.ledger.partitions)
        return [(partition, number) for partition, part in parts for _, number in part.read]

    async def check(self) -> str:
        """Every input was copied once, transactions were seen as a whole or not at all, the group is at the end, and
        all replicas are the same. Returns what there was, in one line."""
        told = {key: each for instance in self.instances() for key, each in instance.transactions.items()}
        found = mistakes(self.inputs(), self.copies.seen, told)
        assert not found, found
        async with Admin(bootstrap_servers=self.cluster.bootstrap()) as admin:
            places = await admin.list_consumer_group_offsets(self.group, require_stable=True)
        ends = await self.cluster.high_watermarks(self.source, PARTITIONS)
        assert {tp: place.offset for tp, place in places.items()} == {
            TopicPartition(self.source, partition): end for partition, end in enumerate(ends)
        }
        marks = await self.cluster.high_watermarks(self.target, PARTITIONS)
        written = self.written(check_identical(self.cluster, self.target, marks))
        aborted = len(written) - len(self.copies.seen)
        assert set(self.copies.seen) <= set(written)
        return (
            f"{len(self.copies.seen)} copies in {len(told)} transactions by {len(self.instances())} instances, "
            f"{aborted} aborted records on disk"
        )

    @staticmethod
    def written(replicas: list[Replica]) -> list[bytes]:
        """All copies on disk, whatever became of their transactions."""
        return [value for value in values_of(replicas) if b"/" in value]

    def on_disk(self, author: str) -> set[bytes]:
        """The copies of one transaction that some node has written, committed or not."""
        everywhere = (
            read_replica(self.cluster.data(node), self.target, partition, 1 << 62)
            for node in NODES
            for partition in range(PARTITIONS)
        )
        return {value for value in self.written(list(everywhere)) if value.endswith(b" " + author.encode())}
