"""A consumer group of this library under observation: who owned what, what was processed, what was committed."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from ottla.broker.coordination import OFFSETS_TOPIC, partition_for
from ottla.client import (
    Admin,
    CommitFailedError,
    Consumer,
    ConsumerRebalanceListener,
    KafkaError,
    Producer,
    TopicPartition,
)
from ottla.client.structs import OffsetAndMetadata
from tests.failover.cluster import Cluster, eventually

SETTINGS: dict[str, Any] = {
    "auto_offset_reset": "earliest",
    "session_timeout_ms": 6000,
    "heartbeat_interval_ms": 300,
    "max_poll_interval_ms": 15000,
    "retry_backoff_ms": 20,
}


class Watch:
    """What all members of a group did. A second owner in one generation, or a committed offset that goes back, is an
    AssertionError in whatever found it."""

    def __init__(self, group: str, topic: str, partitions: int) -> None:
        self.group = group
        self.topic = topic
        self.partitions = partitions
        self.processed: Counter[bytes] = Counter()
        self.newest: dict[int, int] = defaultdict(lambda: -1)
        self.refused = 0
        self.committed: dict[TopicPartition, int] = {}
        self.errors: list[BaseException] = []
        self._owners: dict[tuple[int, TopicPartition], str] = {}

    def owns(self, who: str, generation: int, partitions: set[TopicPartition]) -> None:
        for tp in partitions:
            owner = self._owners.setdefault((generation, tp), who)
            assert owner == who, f"{tp} belongs to {owner} and {who} in generation {generation}"

    def has(self, count: int) -> bool:
        """Whether the numbers below this were processed."""
        return {b"%d" % number for number in range(count)} <= self.processed.keys()

    def saw(self, found: dict[TopicPartition, OffsetAndMetadata]) -> None:
        for tp, place in found.items():
            assert place.offset >= self.committed.get(tp, 0), f"{tp}: {place.offset} after {self.committed[tp]}"
            self.committed[tp] = place.offset


class Member(ConsumerRebalanceListener):
    """One consumer that commits after it has processed, in a task of its own."""

    _numbers = itertools.count(1)

    def __init__(self, watch: Watch, bootstrap: str, **options: Any) -> None:
        self.name = f"member {next(self._numbers)}"
        self.consumer = Consumer(
            bootstrap_servers=bootstrap, group_id=watch.group, enable_auto_commit=False, **{**SETTINGS, **options}
        )
        self._watch = watch
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.consumer.subscribe([self._watch.topic], listener=self)
        await self.consumer.start()
        self._task = asyncio.get_running_loop().create_task(self._work(), name=self.name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    async def leave(self) -> None:
        """In good order."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self.consumer.stop()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        generation = self.consumer.group_metadata().generation_id
        self._watch.owns(self.name, generation, self.consumer.assignment())

    async def _work(self) -> None:
        try:
            while True:
                await self._process(await self.consumer.getmany(timeout_ms=200))
        except (KafkaError, AssertionError) as error:
            self._watch.errors.append(error)
            raise

    async def _process(self, got: dict[TopicPartition, list[Any]]) -> None:
        for tp, records in got.items():
            for record in records:
                self._watch.processed[record.value] += 1
                self._watch.newest[tp.partition] = max(self._watch.newest[tp.partition], int(record.value))
        if got:
            try:
                await self.consumer.commit({tp: records[-1].offset + 1 for tp, records in got.items()})
            except CommitFailedError:
                self._watch.refused += 1


@asynccontextmanager
async def watched(watch: Watch, bootstrap: str, rng: random.Random | None = None) -> AsyncIterator[None]:
    """Look at the committed offsets again and again."""

    async def look() -> None:
        async with Admin(bootstrap_servers=bootstrap, request_timeout_ms=60000, rng=rng) as admin:
            while True:
                watch.saw(await admin.list_consumer_group_offsets(watch.group))
                await asyncio.sleep(0.05)

    task = asyncio.get_running_loop().create_task(look(), name="look at commits")
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        found = (await asyncio.gather(task, return_exceptions=True))[0]
        assert isinstance(found, asyncio.CancelledError), found


@asynccontextmanager
async def writing(cluster: Cluster, topic: str, partitions: int, every: float = 0.004) -> AsyncIterator[list[bytes]]:
    """Values that were acknowledged, as long as the block lasts; one in so many seconds."""
    acknowledged: list[bytes] = []

    async def write(producer: Producer) -> None:
        number = 0
        while True:
            value = b"%d" % number
            future = await producer.send(topic, value, partition=number % partitions)
            future.add_done_callback(lambda done, value=value: acknowledged.append(value) if _fine(done) else None)
            number += 1
            await asyncio.sleep(every)

    async with Producer(bootstrap_servers=cluster.bootstrap(), linger_ms=0) as producer:
        task = asyncio.get_running_loop().create_task(write(producer), name="write")
        try:
            yield acknowledged
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await producer.flush()


def _fine(done: asyncio.Future[object]) -> bool:
    return not done.cancelled() and done.exception() is None


async def coordinator_of(cluster: Cluster, group: str) -> int:
    view = await cluster.led(OFFSETS_TOPIC)
    return view.partitions[partition_for(group, len(view.partitions))].leader


async def whole(watch: Watch, members: Sequence[Member], what: str) -> None:
    """Every partition has one owner, and all members are in one generation."""

    async def probe() -> bool:
        owned = [tp.partition for member in members for tp in member.consumer.assignment()]
        generations = {member.consumer.group_metadata().generation_id for member in members}
        return sorted(owned) == list(range(watch.partitions)) and len(generations) == 1

    await eventually(probe, f"{what}: one owner for each partition")


async def goes_on(watch: Watch, acknowledged: Sequence[bytes], what: str) -> float:
    """Of every partition a record was processed that is not acknowledged yet; how many seconds that took."""
    loop = asyncio.get_running_loop()
    began, before = loop.time(), dict.fromkeys(range(watch.partitions), -1)
    for number in map(int, acknowledged):
        before[number % watch.partitions] = max(before[number % watch.partitions], number)

    async def probe() -> bool:
        return all(watch.newest[partition] > number for partition, number in before.items())

    await eventually(probe, f"{what}: records from every partition")
    return loop.time() - began
