"""The group coordinator of a broker: one shard for each partition of `__consumer_offsets` that the broker leads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.groups.classic import Now
from ottla.broker.groups.config import GroupConfig
from ottla.broker.groups.consumer import Topic
from ottla.broker.groups.deadlines import Deadlines
from ottla.broker.groups.inspection import GroupSummary, summaries
from ottla.broker.groups.partitioning import OFFSETS_TOPIC, partition_for
from ottla.broker.groups.primitives import BadRecord
from ottla.broker.groups.retention import expire, forget_topics
from ottla.broker.groups.shard import Shard
from ottla.broker.groups.topic import OffsetsTopic
from ottla.broker.replication import Partition, ReplicaManager
from ottla.controller import Delta, MetadataImage, PartitionImage
from ottla.log import DiskError, LogError
from ottla.records import CorruptBatch
from ottla.tasks import start_task, stop_tasks

log = structlog.get_logger(__name__)


class GroupCoordinator:
    """Call `apply` after the replica manager's, with every image; `close` at the end. All on the event loop.

    `max_bytes` is the largest batch that the internal topic takes. What `shard_of` refuses with is what the client is
    to be told.
    """

    def __init__(
        self,
        config: GroupConfig,
        replicas: ReplicaManager,
        *,
        topic: OffsetsTopic,
        image: Callable[[], MetadataImage],
        clock: Callable[[], int],
        max_bytes: Callable[[], int],
    ) -> None:
        self.config = config
        self.replicas = replicas
        self.topic = topic
        self.clock = clock
        self.max_bytes = max_bytes
        self._image = image
        self._shards: dict[int, Shard] = {}
        self._deadlines = Deadlines(self._due)
        self._to_load: deque[Shard] = deque()
        self._loader: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._forgotten: set[str] = set()
        self._forgetter: asyncio.Task[None] | None = None
        self._closed = False
        self._seen: object = None
        self._topics: dict[str, Topic] = {}

    # For request handlers

    def home(self, group_id: str) -> tuple[int, PartitionImage] | None:
        """The partition that the group belongs to; None while the topic does not exist."""
        topic = self._image().topics.get(OFFSETS_TOPIC)
        if topic is None:
            return None
        index = partition_for(group_id, len(topic.partitions))
        return index, topic.partitions[index]

    def shard_of(self, group_id: str) -> Shard | ErrorCode:
        """The shard that has the group, ready to serve; NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS,
        COORDINATOR_NOT_AVAILABLE (its records cannot be read)."""
        home = self.home(group_id)
        shard = None if home is None else self._shards.get(home[0])
        if shard is None or not shard.log.leads:
            return ErrorCode.not_coordinator
        if shard.failed:
            return ErrorCode.coordinator_not_available
        return shard if shard.log.ready else ErrorCode.coordinator_load_in_progress

    def shards(self) -> Iterable[Shard]:
        """Those that this broker leads, ready or not."""
        return tuple(shard for shard in self._shards.values() if shard.log.leads)

    def summaries(self) -> Iterator[GroupSummary]:
        """Every group that is served here, for metrics."""
        for shard in self.shards():
            if shard.log.ready:
                yield from summaries(shard)

    # For shards

    def now(self) -> Now:
        return Now(asyncio.get_running_loop().time(), self.clock())

    def wake(self, shard: Shard, group: str, at: float) -> None:
        self._deadlines.wake((shard, group), at)

    def topics(self) -> Mapping[str, Topic]:
        """All topics as assignors see them: the same object until something in it changes."""
        topics = self._image().topics
        if topics is not self._seen:
            self._seen = topics
            found = {name: Topic(topic.id, len(topic.partitions)) for name, topic in topics.items()}
            if found != self._topics:
                self._topics = found
        return self._topics

    def shard_lost(self, shard: Shard) -> None:
        index = shard.log.partition.index
        if self._shards.get(index) is shard:
            del self._shards[index]
            log.info("shard_unloaded", partition=index, leader_epoch=shard.log.epoch)

    def _due(self, key: Hashable) -> None:
        assert isinstance(key, tuple)
        shard, group = key
        shard.tick(group)

    # Metadata

    def apply(self, image: MetadataImage, delta: Delta | None = None) -> None:
        """Take up what this broker came to lead, give up what it does not lead any more. `delta` None: everything."""
        if self._closed:
            return
        if delta is None:
            topic = image.topics.get(OFFSETS_TOPIC)
            changed: Iterable[int] = () if topic is None else sorted(topic.partitions)
        else:
            changed = sorted(index for name, index in delta.partitions if name == OFFSETS_TOPIC)
        for index in changed:
            self._look_at(index)
        if delta is not None and delta.deleted:
            self._forget({topic.name for topic in delta.deleted if topic.name not in image.topics})

    def _look_at(self, index: int) -> None:
        found = self._shards.get(index)
        if found is not None and found.log.leads:
            return
        partition = self.replicas.partition(OFFSETS_TOPIC, index)
        if not isinstance(partition, Partition) or not partition.is_leader:
            return
        shard = self._shards[index] = Shard(partition, self)
        self._to_load.append(shard)
        if self._loader is None or self._loader.done():
            self._loader = start_task(self._load(), "group-coordinator-loader")
        if self._keeper is None:
            self._keeper = start_task(self._keep(), "offsets-retention")

    async def _load(self) -> None:
        """One shard after the other, so that loading is a steady small load however many there are."""
        while self._to_load:
            shard = self._to_load.popleft()
            try:
                await shard.log.load()
            except (DiskError, LogError, CorruptBatch, BadRecord) as error:
                # Serving groups without some of their records would be to forget what was promised.
                shard.failed = True
                log.error("shard_load_failed", partition=shard.log.partition.index, error=repr(error))

    async def replayed(self) -> None:
        """Until the logs of all shards are replayed (they serve when those records are committed, too)."""
        if self._loader is not None:
            await asyncio.wait([self._loader])

    # Retention

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self.config.offsets_retention_check_interval_ms / 1000)
            for shard in self.shards():
                if shard.log.ready:
                    await expire(shard, self.clock(), self.config.offsets_retention_minutes * 60_000)

    def _forget(self, topics: set[str]) -> None:
        self._forgotten |= topics - {OFFSETS_TOPIC}
        if self._forgotten and self._shards and (self._forgetter is None or self._forgetter.done()):
            self._forgetter = start_task(self._forget_topics(), "forget-offsets")

    async def _forget_topics(self) -> None:
        while self._forgotten:
            topics = frozenset(self._forgotten)
            self._forgotten.clear()
            for shard in self.shards():
                if shard.log.ready:
                    await forget_topics(shard, topics)

    async def close(self) -> None:
        """Give up everything: whoever waits is sent to look for another coordinator."""
        self._closed = True
        self._to_load.clear()
        await stop_tasks(task for task in (self._loader, self._keeper, self._forgetter) if task is not None)
        for shard in tuple(self._shards.values()):
            shard.close()
        self._deadlines.close()
        await self.topic.close()
