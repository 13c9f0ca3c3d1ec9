"""What the scenarios of transactions share: producers, where their coordinator is, and what a reader gets to see."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from ottla.broker.coordination import TRANSACTIONS_TOPIC, partition_for
from ottla.client import TopicPartition
from ottla.simulation.process import Machine
from tests.simulation.scenarios.stage import TOPIC, Broken, Stage

T = TypeVar("T")

SHARDS = 5
SETTINGS = {"transaction_state_log_num_partitions": str(SHARDS)}


async def an_id(stage: Stage) -> str:
    """A transactional id whose coordinator does not lead the partition that is looked at."""
    producer = stage.cluster.producer(transactional_id="first")
    async with producer:
        leader = stage.leader()
    for number in range(100):
        name = f"t{number}"
        if coordinator(stage, name) != leader:
            return name
    raise Broken("every id is coordinated by the leader")


def coordinator(stage: Stage, name: str) -> int:
    return stage.cluster.leader(TRANSACTIONS_TOPIC, partition_for(name, SHARDS))


def producer(stage: Stage, name: str, **options: Any) -> Any:
    return stage.cluster.producer(transactional_id=name, linger_ms=0, **options)


async def send(stage: Stage, producer: Any, value: bytes) -> None:
    """One record, in the partition that is looked at."""
    await asyncio.wait_for(producer.send_and_wait(TOPIC, value, partition=stage.index), 60)


async def committed(stage: Stage) -> list[bytes]:
    """All that a reader of committed records sees. Raises Broken if it does not get to the end."""
    where = TopicPartition(TOPIC, stage.index)
    end = stage.on(stage.leader()).high_watermark
    found: list[bytes] = []
    async with stage.cluster.consumer(auto_offset_reset="earliest", isolation_level="read_committed") as consumer:
        consumer.assign([where])
        try:
            async with asyncio.timeout(stage.patience):
                while await consumer.position(where) < end:
                    for records in (await consumer.getmany(timeout_ms=500)).values():
                        found += [record.value for record in records]
        except TimeoutError as error:
            raise Broken(f"a reader gets as far as {await consumer.position(where)} of {end}") from error
    return found


async def sees(stage: Stage, *values: bytes) -> None:
    found = await committed(stage)
    if found != [*values]:
        raise Broken(f"committed: {[*values]}; seen: {found}")


class Application:
    """A process on a machine of its own, that can stand still and go on (SIGSTOP, SIGCONT)."""

    def __init__(self, stage: Stage) -> None:
        self._world = stage.cluster.world
        machine = Machine("application", "10.0.1.1")
        self._world.network.add(machine)
        self._process, self._context = self._world.loop.spawn(machine.name, machine)

    def does(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """What it runs next; of a process that stands still, once it goes on."""
        return self._world.loop.create_task(work, name="application", context=self._context)

    def pause(self) -> None:
        self._world.loop.pause(self._process)

    def resume(self) -> None:
        self._world.loop.resume(self._process)
