"""Topics that come and go under the same names, and grow while they are there, below clients that go on all the time.

Whatever was acknowledged while only one topic of a name was known to any node is in that one: whoever reads it to its
end before it is deleted must meet the record where it was acknowledged, and nobody may meet it in another topic. A
follower that goes on from topic to topic must have met what was acknowledged in the last one. At the end all are
deleted, and no node may have anything of them.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self
from uuid import UUID

import structlog

from ottla.client import (
    IllegalStateError,
    KafkaError,
    NewTopic,
    Producer,
    RecordMetadata,
    TopicAlreadyExistsError,
    TopicPartition,
)
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.errors import Anomaly
from ottla.simulation.reading import consumer_options, is_behind
from ottla.simulation.user import producer_options
from ottla.tasks import stop_tasks

log = structlog.get_logger(__name__)

SETTINGS: Final[Mapping[str, str]] = {"log.segment.delete.delay.ms": "1000"}
NAMES: Final = ("passing-0", "passing-1")
_MOST_PARTITIONS: Final = 3
_LIVES_S: Final = (0.5, 20.0)
_PAUSE_S: Final = (0.0, 0.6)
_RETRY_S: Final = 0.2
_PATIENCE_S: Final = 20.0
_FOLLOWED_S: Final = 20.0
_REQUEST_MS: Final = 3000


@dataclass(slots=True)
class _Life:
    """One topic, while it is there. `records` are those of which is known that they are in it."""

    name: str
    topic_id: UUID
    records: dict[tuple[int, int], bytes] = field(default_factory=dict)


class PassingWorkload:
    """Runs from `async with` on, until `finish`. `counts` is what was done, `findings` what was wrong."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.counts: Counter[str] = Counter()
        self.findings: list[str] = []
        self._cluster = cluster
        self._rng = cluster.world.rng("topics")
        self._stopping = asyncio.Event()
        self._lives: dict[str, _Life] = {}
        self._homes: dict[bytes, UUID] = {}
        self._written = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._met: set[bytes] = set()
        self._followers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for name in NAMES:
            self._followers.append(asyncio.create_task(self._follow(name, self._new_rng()), name=f"follower of {name}"))
            self._begin(self._own(name, self._new_rng()), f"owner of {name}")
            self._begin(self._write(name, self._new_rng()), f"writer to {name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_tasks([*self._tasks, *self._followers])

    def _begin(self, work: Coroutine[None, None, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    def _new_rng(self) -> random.Random:
        return random.Random(self._rng.getrandbits(64))

    async def finish(self, *, within: float) -> None:
        """What is there is read once more and deleted, and goes from all nodes. Raises TimeoutError, or what broke a
        client."""
        self._stopping.set()
        async with asyncio.timeout(within):
            await asyncio.gather(*self._tasks)
            for life in list(self._lives.values()):
                while not await self._read(life):
                    pass
                await self._is_followed(life)
                await self._delete(life)
            await stop_tasks(self._followers)
        try:
            await self._cluster.until(self._is_all_gone, "nothing is left of what was deleted", within=within)
        except TimeoutError as error:
            raise Anomaly(f"{error}; there is {next(self._left())}") from error

    def _is_all_gone(self) -> bool:
        return not any(self._left())

    def _left(self) -> Iterator[str]:
        """Directories of any topic of these names; strays are kept, as nobody knows what they are."""
        for node in self._cluster.nodes.values():
            for path in node.disk.files():
                log_directory = path.rpartition("/")[0].rpartition("/")[2]
                if log_directory.startswith(NAMES) and not log_directory.endswith("-stray"):
                    yield f"{path} of node {node.id}"

    # -- the owner of a name

    async def _own(self, name: str, rng: random.Random) -> None:
        """One topic after the other."""
        while not self._stopping.is_set():
            life = await self._create(name, rng)
            ends = self._cluster.world.loop.time() + rng.uniform(*_LIVES_S)
            while self._cluster.world.loop.time() < ends and not self._stopping.is_set():
                await asyncio.sleep(rng.uniform(0, 3))
                if rng.random() < 0.2 and 0 < self._partitions(name) < _MOST_PARTITIONS:
                    await self._grow(name)
            if self._stopping.is_set():
                return
            if rng.random() < 0.7:
                await self._read(life)
            await self._delete(life)
            await asyncio.sleep(rng.choice((0.0, 0.0, rng.uniform(*_PAUSE_S))))

    async def _create(self, name: str, rng: random.Random) -> _Life:
        """Of an attempt whose answer is lost the topic may be there, or come to be there later."""
        configs = {
            "segment.bytes": rng.choice(("1000", "100000")),
            "cleanup.policy": rng.choice(("delete", "delete", "compact", "compact,delete")),
        }
        wanted = NewTopic(name, rng.randint(1, _MOST_PARTITIONS), 3, topic_configs=configs)
        while True:
            try:
                async with self._cluster.admin() as admin:
                    await admin.create_topics([wanted], timeout_ms=_REQUEST_MS)
            except TopicAlreadyExistsError:
                pass
            except KafkaError as error:
                log.info("topic_not_created", topic=name, error=str(error))
                await asyncio.sleep(_RETRY_S)
                continue
            topic = self._cluster.invariants.metadata.latest.topics.get(name)
            if topic is not None:
                self.counts["created"] += 1
                self._lives[name] = life = _Life(name, topic.id)
                return life

    async def _grow(self, name: str) -> None:
        try:
            async with self._cluster.admin() as admin:
                await admin.create_partitions({name: self._partitions(name) + 1}, timeout_ms=_REQUEST_MS)
            self.counts["grown"] += 1
        except KafkaError as error:
            log.info("topic_not_grown", topic=name, error=str(error))

    def _partitions(self, name: str) -> int:
        """How many there are now, also by a request whose answer was lost."""
        topic = self._cluster.invariants.metadata.latest.topics.get(name)
        return 0 if topic is None else len(topic.partitions)

    async def _delete(self, life: _Life) -> None:
        """By its id: a request that arrives late shall not hit the next one."""
        del self._lives[life.name]
        while self._cluster.invariants.metadata.topic_id(life.name) == life.topic_id:
            try:
                async with self._cluster.admin() as admin:
                    await admin.delete_topics([life.topic_id], timeout_ms=_REQUEST_MS)
            except KafkaError as error:
                log.info("topic_not_deleted", topic=life.name, error=str(error))
                await asyncio.sleep(_RETRY_S)
        self.counts["deleted"] += 1

    # -- writers

    async def _write(self, name: str, rng: random.Random) -> None:
        """Mostly the same producer for topic after topic."""
        while not self._stopping.is_set():
            producer = self._cluster.producer(
                **producer_options(rng) | {"delivery_timeout_ms": rng.choice((3000, 10000))}
            )
            try:
                await producer.start()
                while not self._stopping.is_set() and rng.random() > 0.02:
                    await self._send(producer, name, rng)
                    await asyncio.sleep(rng.uniform(*_PAUSE_S))
            except KafkaError as error:
                log.info("writer_to_passing_ended", error=str(error))
                await asyncio.sleep(_RETRY_S)
            finally:
                await producer.stop(flush=False)

    async def _send(self, producer: Producer, name: str, rng: random.Random) -> None:
        """A few records at once. Raises IllegalStateError when this producer can do no more."""
        life = self._only(name)
        sent: list[tuple[bytes, asyncio.Future[RecordMetadata]]] = []
        try:
            for _ in range(rng.choice((1, 1, 5))):
                self._written += 1
                value = b"%d" % self._written + b" " * rng.choice((0, 50))
                sent.append((value, await producer.send(name, value, key=b"%d" % self._written)))
        except IllegalStateError:
            raise
        except KafkaError as error:
            log.info("not_sent_to_passing", error=str(error))
        for value, answer in sent:
            try:
                told = await answer
            except KafkaError:
                self.counts["unknown"] += 1
                continue
            self.counts["written"] += 1
            if told.offset >= 0 and life is not None and self._only(name) is life:
                self._keep(life, value, told)

    def _keep(self, life: _Life, value: bytes, told: RecordMetadata) -> None:
        self._cluster.invariants.acknowledged(life.name, told.partition, told.offset)
        other = life.records.setdefault((told.partition, told.offset), value)
        if other != value:
            self._finds(life, (told.partition, told.offset), f"{other!r} and {value!r} were both acknowledged")
        self._homes[value] = life.topic_id

    def _only(self, name: str) -> _Life | None:
        """The topic of the name that is there now, if no node knows another by that name: then clients mean it."""
        life = self._lives.get(name)
        if life is None or self._cluster.invariants.metadata.topic_id(name) != life.topic_id:
            return None
        for node_id in self._cluster.nodes:
            for index in range(_MOST_PARTITIONS):
                found = self._cluster.partition_on(node_id, name, index)
                if found is not None and found.topic_id != life.topic_id:
                    return None
        return life

    # -- readers

    async def _follow(self, name: str, rng: random.Random) -> None:
        """The first partition of whatever topic has the name."""
        while True:
            options = consumer_options(rng, self._cluster.racks)
            try:
                async with self._cluster.consumer(auto_offset_reset="earliest", **options) as consumer:
                    consumer.assign([TopicPartition(name, 0)])
                    while True:
                        for records in (await consumer.getmany(timeout_ms=500)).values():
                            self._met.update(record.value or b"" for record in records)
            except KafkaError as error:
                log.info("follower_begins_anew", topic=name, error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _is_followed(self, life: _Life) -> None:
        """Raises Anomaly when a follower does not get to all that was acknowledged."""
        wanted = {value for (index, _), value in life.records.items() if index == 0}
        try:
            await self._cluster.until(lambda: wanted <= self._met, "followed", within=_FOLLOWED_S)
        except TimeoutError as error:
            missed = min(wanted - self._met)
            raise Anomaly(f"{life.name}-0: a reader that goes on from topic to topic never met {missed!r}") from error

    async def _read(self, life: _Life) -> bool:
        """All of a topic. False if nobody got to the end, or whose records it was cannot be told."""
        known = dict(life.records)
        before = self._only(life.name)
        partitions = [TopicPartition(life.name, index) for index in range(self._partitions(life.name))]
        met: dict[tuple[int, int], bytes] = {}
        try:
            async with (
                asyncio.timeout(_PATIENCE_S),
                self._cluster.consumer(auto_offset_reset="earliest") as consumer,
            ):
                consumer.assign(partitions)
                while await is_behind(self._cluster, consumer, partitions):
                    for where, records in (await consumer.getmany(timeout_ms=500)).items():
                        met.update(((where.partition, each.offset), each.value or b"") for each in records)
        except (KafkaError, TimeoutError) as error:
            self.counts["given up"] += 1
            log.info("reader_of_passing_ended", error=str(error))
            await asyncio.sleep(_RETRY_S)
            return False
        if before is not life or self._only(life.name) is not life:
            await asyncio.sleep(_RETRY_S)
            return False
        self._judge(life, known, met)
        self.counts["read"] += 1
        return True

    def _judge(self, life: _Life, known: dict[tuple[int, int], bytes], met: dict[tuple[int, int], bytes]) -> None:
        """Every key is written once, so compaction takes nothing away."""
        for at, value in known.items():
            if met.get(at) != value:
                self._finds(life, at, f"{value!r} was acknowledged, a reader met {met.get(at)!r}")
        for at, value in met.items():
            if self._homes.get(value, life.topic_id) != life.topic_id:
                self._finds(life, at, f"a reader met {value!r}, which was written to a topic before")

    def _finds(self, life: _Life, at: tuple[int, int], what: str) -> None:
        index, offset = at
        self.findings.append(f"{life.name}-{index}, offset {offset}: {what}")
