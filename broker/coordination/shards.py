"""The shards of an internal topic: one for each of its partitions that this broker leads, and who has which name."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, Protocol, TypeVar

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.coordination.partitioning import partition_for
from ottla.broker.coordination.primitives import BadRecord
from ottla.broker.coordination.shard_log import ShardLog
from ottla.broker.replication import Partition
from ottla.controller import Delta, MetadataImage, PartitionImage
from ottla.log import DiskError, LogError
from ottla.records import CorruptBatch
from ottla.tasks import start_task, stop_tasks

log = structlog.get_logger(__name__)

RELOAD_S: Final = 1.0
"""Seconds after which a log that could not be read is tried again; twice as long each time, up to 64 times."""
_MOST_DOUBLINGS: Final = 6


class LedShard(Protocol):
    """`failed` when its log could not be read; `close` gives it up."""

    failed: bool

    @property
    def log(self) -> ShardLog[Any]: ...
    def close(self) -> None: ...


S = TypeVar("S", bound=LedShard)


class Shards(Generic[S]):
    """Call `apply` with every image, after the replica manager's; `lost` when the epoch of a shard is over."""

    def __init__(
        self,
        topic: str,
        *,
        find: Callable[[str, int], Partition | ErrorCode],
        image: Callable[[], MetadataImage],
        make: Callable[[Partition], S],
    ) -> None:
        """`find` gives this broker's replica, `make` a shard for one that it leads."""
        self._topic = topic
        self._find = find
        self._image = image
        self._make = make
        self._shards: dict[int, S] = {}
        self._to_load: deque[S] = deque()
        self._loader: asyncio.Task[None] | None = None
        self._reloads: dict[int, asyncio.TimerHandle] = {}
        self._failures: Counter[int] = Counter()
        self._closed = False

    def __bool__(self) -> bool:
        return bool(self._shards)

    def home(self, name: str) -> tuple[int, PartitionImage] | None:
        """The partition that the name belongs to; None while the topic does not exist."""
        topic = self._image().topics.get(self._topic)
        if topic is None:
            return None
        index = partition_for(name, len(topic.partitions))
        return index, topic.partitions[index]

    def of(self, name: str) -> S | ErrorCode:
        """The shard that has the name, ready to serve; NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS,
        COORDINATOR_NOT_AVAILABLE (its records cannot be read)."""
        home = self.home(name)
        shard = None if home is None else self._shards.get(home[0])
        if shard is None or not shard.log.leads:
            return ErrorCode.not_coordinator
        if shard.failed:
            return ErrorCode.coordinator_not_available
        return shard if shard.log.ready else ErrorCode.coordinator_load_in_progress

    def led(self) -> Iterable[S]:
        """Those that this broker leads, ready or not."""
        return tuple(shard for shard in self._shards.values() if shard.log.leads)

    def lost(self, shard: S) -> None:
        index = shard.log.partition.index
        if self._shards.get(index) is shard:
            del self._shards[index]
            log.info("shard_unloaded", topic=self._topic, partition=index, leader_epoch=shard.log.epoch)

    def apply(self, image: MetadataImage, delta: Delta | None = None) -> None:
        """Take up what this broker came to lead, give up what it does not lead any more. `delta` None: everything."""
        if self._closed:
            return
        if delta is None:
            topic = image.topics.get(self._topic)
            changed: Iterable[int] = () if topic is None else sorted(topic.partitions)
        else:
            changed = sorted(index for name, index in delta.partitions if name == self._topic)
        for index in changed:
            self._look_at(index)

    def _look_at(self, index: int) -> None:
        found = self._shards.get(index)
        if found is not None and found.log.leads:
            return
        partition = self._find(self._topic, index)
        if not isinstance(partition, Partition) or not partition.is_leader:
            return
        shard = self._shards[index] = self._make(partition)
        self._to_load.append(shard)
        if self._loader is None or self._loader.done():
            self._loader = start_task(self._load(), f"load-{self._topic}")

    async def _load(self) -> None:
        """One shard after the other, so that loading is a steady small load however many there are."""
        while self._to_load:
            shard = self._to_load.popleft()
            index = shard.log.partition.index
            try:
                await shard.log.load()
            except (DiskError, LogError, CorruptBatch, BadRecord) as error:
                # Serving without some of the records would be to forget what was promised.
                shard.failed = True
                self._reload_later(shard, error)
            else:
                del self._failures[index]

    def _reload_later(self, shard: S, error: Exception) -> None:
        """A disk may answer again; nobody else would look at this shard before it has another leader."""
        index = shard.log.partition.index
        wait = RELOAD_S * 2 ** min(self._failures[index], _MOST_DOUBLINGS)
        self._failures[index] += 1
        self._reloads[index] = asyncio.get_running_loop().call_later(wait, self._reload, shard)
        log.error("shard_load_failed", topic=self._topic, partition=index, error=repr(error), retry_s=wait)

    def _reload(self, shard: S) -> None:
        index = shard.log.partition.index
        if self._shards.get(index) is shard and not self._closed:
            shard.close()
            self._look_at(index)

    async def replayed(self) -> None:
        """Until the logs of all shards are replayed (they serve when those records are committed, too)."""
        if self._loader is not None:
            await asyncio.wait([self._loader])

    async def close(self) -> None:
        """Give up everything: whoever waits is sent to look for another coordinator."""
        self._closed = True
        self._to_load.clear()
        for reload in self._reloads.values():
            reload.cancel()
        await stop_tasks(() if self._loader is None else (self._loader,))
        for shard in tuple(self._shards.values()):
            shard.close()
