"""Programs with a consumer of this library in a group: each is a process of its own, which can be killed and stopped.

A program processes what it is handed out and commits after that, by itself or automatically, as its users would write
it. What it tells is the same as the hand-driven members tell, but for the heartbeats, which it does not see.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog

from ottla.client import (
    CommitFailedError,
    Consumer,
    ConsumerRebalanceListener,
    FencedInstanceIdError,
    KafkaError,
    SubscriptionPattern,
    TopicPartition,
)
from ottla.simulation.groups.told import Assigned, At, Commit, Fetched, Outcome

if TYPE_CHECKING:
    from ottla.simulation.groups.workload import GroupWorkload

log = structlog.get_logger(__name__)

PROGRAMS: Final[Mapping[str, Mapping[str, Any]]] = {
    "our classic": {"partition_assignment_strategy": "range"},
    "our cooperative": {"partition_assignment_strategy": "cooperative-sticky"},
    "our consumer": {"group_protocol": "consumer"},
}
"""Options by kind. The first is understood by the hand-driven members of a classic group."""

_LOOK_S = 0.5
_POLL_MS = 200.0


async def run_program(workload: GroupWorkload, seat: str, group: str, kind: str, rng: random.Random, name: str) -> None:
    """One life of a program: until it leaves, is killed, or everything ends. Meanwhile it may stand still.

    Raises KafkaError when it cannot start.
    """
    world = workload.cluster.world
    loop, whims = world.loop, random.Random(rng.getrandbits(64))
    instance = seat if rng.random() < workload.static else None
    process, context = loop.spawn(name, world.home)
    program = Program(workload, seat, group, kind, rng, name, instance)
    task = loop.create_task(program.run(), name=name, context=context)
    try:
        while not (await asyncio.wait([task], timeout=_LOOK_S))[0]:
            whim = 1.0 if workload.calm else whims.random()
            if whim < 0.02:
                world.trace.note("simulation", "kill", program=name)
                return
            if whim < 0.03:
                loop.pause(process)
                await asyncio.sleep(whims.uniform(1.0, 2.0) * workload.session_s)
                loop.resume(process)
        task.result()
    finally:
        loop.kill(process)
        world.network.leave(process, silently=False)


class Program(ConsumerRebalanceListener):
    """`instance`: it is a static member (KIP-345), and known by that."""

    def __init__(
        self,
        workload: GroupWorkload,
        seat: str,
        group: str,
        kind: str,
        rng: random.Random,
        name: str,
        instance: str | None,
    ) -> None:
        self._workload = workload
        self._told = workload.told
        self._seat = seat
        self._group = group
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._instance = instance
        self._automatic = rng.random() < 0.5
        self._by_pattern = kind == "our consumer" and rng.random() < 0.3
        self._consumer: Consumer = workload.cluster.consumer(
            group_id=group,
            client_id=name,
            group_instance_id=instance,
            auto_offset_reset="earliest",
            enable_auto_commit=self._automatic,
            auto_commit_interval_ms=300,
            session_timeout_ms=workload.session_s * 1000,
            heartbeat_interval_ms=500,
            max_poll_interval_ms=2 * workload.session_s * 1000,
            request_timeout_ms=1500,
            fetch_max_wait_ms=300,
            max_poll_records=rng.choice((3, 500)),
            metadata_max_age_ms=workload.metadata_age_ms(rng),
            client_rack=rng.choice(workload.cluster.racks) if workload.cluster.racks else "",
            **PROGRAMS[kind],
        )

    async def run(self) -> None:
        """Raises KafkaError when it cannot start."""
        if self._by_pattern:
            self._consumer.subscribe(pattern=SubscriptionPattern(f"{self._workload.topic}$"), listener=self)
        else:
            self._consumer.subscribe([self._workload.topic], listener=self)
        async with self._consumer as consumer:
            while not self._workload.stopping.is_set():
                self._note_owned()
                try:
                    await self._step(consumer)
                except FencedInstanceIdError:
                    return
                except KafkaError as error:
                    log.debug("program_in_trouble", program=self._seat, error=str(error))
                    await asyncio.sleep(0.1)
                if not self._workload.calm and self._rng.random() < self._workload.restless:
                    return

    async def _step(self, consumer: Consumer) -> None:
        got = await consumer.getmany(timeout_ms=_POLL_MS)
        for where, records in got.items():
            at = (where.topic, where.partition)
            self._told.processed[self._group, at].update(record.offset for record in records)
        if got and not self._automatic and self._rng.random() < 0.7:
            await self._commit(consumer, {at: records[-1].offset + 1 for at, records in got.items()})
        if self._workload.calm or self._rng.random() < 0.1:
            await self._ask(consumer)

    async def _commit(self, consumer: Consumer, offsets: dict[TopicPartition, int]) -> None:
        began, now = self._loop.time(), consumer.group_metadata()
        sent = Commit(began, began, self._group, self._name, now.generation_id, {}, "info", member_id=now.member_id)
        outcome: Outcome = "info"
        try:
            await consumer.commit(offsets)
            outcome = "ok"
        except CommitFailedError:
            outcome = "fail"
        finally:
            plain = {(where.topic, where.partition): offset for where, offset in offsets.items()}
            last = consumer.group_metadata().generation_id
            row = sent._replace(ended=self._loop.time(), offsets=plain, outcome=outcome, last=last)
            self._told.commits.append(row)

    async def _ask(self, consumer: Consumer) -> None:
        """Where the group is; in the end also where it is to go, for a commit may be left from before a trouble."""
        for where in sorted(consumer.assignment()):
            began = self._loop.time()
            found = await consumer.committed(where)
            at = (where.topic, where.partition)
            self._told.fetched.append(
                Fetched(began, self._loop.time(), self._group, {at: -1 if found is None else found})
            )
            if self._workload.calm and not self._automatic and where in consumer.assignment():
                position = await consumer.position(where)
                if position > (found or 0):
                    await self._commit(consumer, {where: position})

    # What it owns

    @property
    def _name(self) -> str:
        return self._instance or self._consumer.group_metadata().member_id

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        now = self._loop.time()
        mine = frozenset((where.topic, where.partition) for where in self._consumer.assignment())
        if mine:
            generation = self._consumer.group_metadata().generation_id
            self._told.assigned.append(Assigned(self._began, now, self._group, self._name, generation, mine))
        self._began = now
        self._note_owned()

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self._began = self._loop.time()

    def _note_owned(self) -> None:
        mine: frozenset[At] = frozenset((where.topic, where.partition) for where in self._consumer.assignment())
        self._workload.owned[self._seat] = self._group, mine
