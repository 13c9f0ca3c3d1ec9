"""The group coordinator of a broker: one shard for each partition of `__consumer_offsets` that the broker leads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.coordination import OFFSETS_TOPIC, Deadlines, InternalTopic, Shards
from ottla.broker.groups.classic import Now
from ottla.broker.groups.config import GroupConfig, MemberTimes
from ottla.broker.groups.consumer import Topic
from ottla.broker.groups.inspection import GroupSummary, summaries
from ottla.broker.groups.newcomers import Group, Newcomers
from ottla.broker.groups.retention import expire, forget_topics
from ottla.broker.groups.shard import Shard
from ottla.broker.replication import Partition, ReplicaManager
from ottla.controller import Delta, MetadataImage, PartitionImage
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
        topic: InternalTopic,
        image: Callable[[], MetadataImage],
        clock: Callable[[], int],
        max_bytes: Callable[[], int],
    ) -> None:
        self.config = config
        self.replicas = replicas
        self.topic = topic
        self.clock = clock
        self.max_bytes = max_bytes
        self.newcomers = Newcomers()
        self._crowded: dict[Group, None] = {}
        self._image = image
        self._shards = Shards(OFFSETS_TOPIC, find=replicas.partition, image=image, make=self._make)
        self._deadlines = Deadlines(self._due)
        self._keeper: asyncio.Task[None] | None = None
        self._forgotten: set[str] = set()
        self._forgetter: asyncio.Task[None] | None = None
        self._closed = False
        self._seen: object = None
        self._topics: dict[str, Topic] = {}
        self._topics_version = -1

    # For request handlers

    def home(self, group_id: str) -> tuple[int, PartitionImage] | None:
        """The partition that the group belongs to; None while the topic does not exist."""
        return self._shards.home(group_id)

    def shard_of(self, group_id: str) -> Shard | ErrorCode:
        """See `Shards.of`."""
        return self._shards.of(group_id)

    def shards(self) -> Iterable[Shard]:
        """Those that this broker leads, ready or not."""
        return self._shards.led()

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

    def forget(self, shard: Shard, group: str) -> None:
        self._deadlines.forget((shard, group))

    def make_room(self, group: Group) -> None:
        """Somebody has come to this group. Done a turn later: whoever says so may be in the middle of a write."""
        if not self._crowded:
            asyncio.get_running_loop().call_soon(self._make_room)
        self._crowded[group] = None

    def _make_room(self) -> None:
        crowded, self._crowded = self._crowded, {}
        for group in crowded:
            for excess in self.newcomers.excess(group):
                for shard in self.shards():
                    shard.crowd_out(excess)

    def topics(self) -> Mapping[str, Topic]:
        """All topics as assignors see them: the same object until something in it changes."""
        topics = self._image().topics
        if topics is not self._seen:
            self._seen = topics
            found = {name: Topic(topic.id, len(topic.partitions)) for name, topic in topics.items()}
            if found != self._topics:
                self._topics, self._topics_version = found, self._image().offset
        return self._topics

    def topics_version(self) -> int:
        """As of which offset of the metadata log they are."""
        return self._topics_version

    def member_times(self, group_id: str) -> MemberTimes:
        """What the group's own configs say, and else the node's (KIP-1043)."""
        config = self.config
        own = self._image().configs.get(("group", group_id), {})
        return MemberTimes(
            int(own.get("consumer.session.timeout.ms", config.group_consumer_session_timeout_ms)),
            int(own.get("consumer.heartbeat.interval.ms", config.group_consumer_heartbeat_interval_ms)),
        )

    def shard_lost(self, shard: Shard) -> None:
        self._shards.lost(shard)

    def _due(self, key: Hashable) -> None:
        assert isinstance(key, tuple)
        shard, group = key
        shard.tick(group)

    # Metadata

    def apply(self, image: MetadataImage, delta: Delta | None = None) -> None:
        """Take up what this broker came to lead, give up what it does not lead any more. `delta` None: everything."""
        self._shards.apply(image, delta)
        if delta is not None and delta.deleted and not self._closed:
            self._forget({topic.name for topic in delta.deleted if topic.name not in image.topics})

    def _make(self, partition: Partition) -> Shard:
        if self._keeper is None:
            self._keeper = start_task(self._keep(), "offsets-retention")
        return Shard(partition, self)

    async def replayed(self) -> None:
        """See `Shards.replayed`."""
        await self._shards.replayed()

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
        await stop_tasks(task for task in (self._keeper, self._forgetter) if task is not None)
        await self._shards.close()
        self._deadlines.close()
        await self.topic.close()
