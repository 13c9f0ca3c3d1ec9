"""The transaction coordinator of a broker: one shard for each partition of `__transaction_state` that it leads."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import NamedTuple

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.coordination import TRANSACTIONS_TOPIC, Deadlines, InternalTopic, Shards
from ottla.broker.peers import Peers
from ottla.broker.producer_ids import ProducerIds
from ottla.broker.replication import Partition, ReplicaManager
from ottla.broker.transactions.config import TransactionConfig
from ottla.broker.transactions.marker_sender import MarkerSender
from ottla.broker.transactions.markers import Pending
from ottla.broker.transactions.model import State
from ottla.broker.transactions.shard import Shard
from ottla.controller import Delta, MetadataImage, PartitionImage, RpcError
from ottla.tasks import start_task, stop_tasks

log = structlog.get_logger(__name__)


class TransactionSummary(NamedTuple):
    """For metrics: ids by their state, the age of the oldest transaction that is under way (s; 0 for none), and
    partitions that have not got their marker yet; how many partitions a coordinator did not say to be in one."""

    states: Mapping[str, int]
    oldest_s: float
    markers: int
    unverified: int = 0


MAX_WANTING_IDS = 10_000
EXPIRE_AT_ONCE = 1000
"""Ids of one shard that are given up before others get their turn."""


class TransactionCoordinator:
    """Call `apply` after the replica manager's, with every image; `close` at the end. All on the event loop.

    `max_bytes` is the largest batch that the internal topic takes, `version` the finalised level of
    `transaction.version`. What `shard_of` refuses with is what the client is to be told.
    """

    def __init__(
        self,
        config: TransactionConfig,
        replicas: ReplicaManager,
        *,
        topic: InternalTopic,
        image: Callable[[], MetadataImage],
        clock: Callable[[], int],
        max_bytes: Callable[[], int],
        version: Callable[[], int],
        producer_ids: ProducerIds,
        peers: Peers,
    ) -> None:
        self.config = config
        self.replicas = replicas
        self.topic = topic
        self.clock = clock
        self.max_bytes = max_bytes
        self.version = version
        self._producer_ids = producer_ids
        self._peers = peers
        self._shards = Shards(TRANSACTIONS_TOPIC, find=replicas.partition, image=image, make=self._make)
        self._deadlines = Deadlines(self._due)
        self._sender = MarkerSender(peers, image, self._marked)
        self._wanting_ids: deque[Callable[[int | None], None]] = deque()
        self._allocating: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False

    # For request handlers

    def home(self, transactional_id: str) -> tuple[int, PartitionImage] | None:
        """The partition that the id belongs to; None while the topic does not exist."""
        return self._shards.home(transactional_id)

    def shard_of(self, transactional_id: str) -> Shard | ErrorCode:
        """See `Shards.of`."""
        return self._shards.of(transactional_id)

    def shards(self) -> Iterable[Shard]:
        """Those that this broker leads, ready or not."""
        return self._shards.led()

    def summary(self) -> TransactionSummary:
        """What is served here."""
        states: Counter[str] = Counter()
        oldest_ms = now_ms = self.clock()
        for shard in self.shards():
            for _, found in shard.transactions if shard.log.ready else ():
                states[found.state.label] += 1
                if found.state is State.ONGOING:
                    oldest_ms = min(oldest_ms, found.started_at)
        return TransactionSummary(states, (now_ms - oldest_ms) / 1000, self._sender.missing)

    # For shards

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def wake(self, shard: Shard, transactional_id: str, at: float) -> None:
        self._deadlines.wake((shard, transactional_id), at)

    def _due(self, key: Hashable) -> None:
        assert isinstance(key, tuple)
        shard, transactional_id = key
        shard.tick(transactional_id)

    def shard_lost(self, shard: Shard) -> None:
        self._sender.drop(shard)
        self._shards.lost(shard)

    def send_markers(self, pending: Pending) -> None:
        self._sender.send(pending)

    def _marked(self, pending: Pending) -> None:
        self._sender.done(pending)
        shard = pending.owner
        assert isinstance(shard, Shard)
        shard.marked(pending)

    def fresh_id(self, then: Callable[[int | None], None]) -> None:
        """Call `then` with a producer id that nobody had, or None if there is none to be had now."""
        if len(self._wanting_ids) >= MAX_WANTING_IDS:
            then(None)
            return
        self._wanting_ids.append(then)
        if self._allocating is None or self._allocating.done():
            self._allocating = start_task(self._allocate(), "transactional-producer-ids")

    async def _allocate(self) -> None:
        while self._wanting_ids:
            producer_id: int | None
            try:
                producer_id = await self._producer_ids.next()
            except RpcError as error:
                log.warning("no_producer_ids", reason=str(error))
                refused, self._wanting_ids = self._wanting_ids, deque()
                for then in refused:
                    then(None)
                return
            self._wanting_ids.popleft()(producer_id)

    # Metadata

    def apply(self, image: MetadataImage, delta: Delta | None = None) -> None:
        """Take up what this broker came to lead, give up what it does not lead any more. `delta` None: everything."""
        if self._closed:
            return
        self._shards.apply(image, delta)
        if delta is None or delta.brokers or delta.partitions or delta.deleted:
            self._sender.metadata_changed()

    def _make(self, partition: Partition) -> Shard:
        if self._keeper is None:
            self._keeper = start_task(self._keep(), "transactional-id-expiration")
        return Shard(partition, self)

    async def replayed(self) -> None:
        """See `Shards.replayed`."""
        await self._shards.replayed()

    # Expiration

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self.config.transaction_remove_expired_transaction_cleanup_interval_ms / 1000)
            await self.expire()

    async def expire(self) -> None:
        """Give up the ids that nobody has used for `transactional.id.expiration.ms`."""
        for shard in self.shards():
            if not shard.log.ready:
                continue
            ids = [transactional_id for transactional_id, _ in shard.transactions]
            for at in range(0, len(ids), EXPIRE_AT_ONCE):
                asked = [
                    shard.expire(each, self.config.transactional_id_expiration_ms)
                    for each in ids[at : at + EXPIRE_AT_ONCE]
                ]
                await asyncio.gather(*asked)

    async def close(self) -> None:
        """Give up everything: whoever waits is sent to look for another coordinator."""
        self._closed = True
        await stop_tasks(task for task in (self._keeper, self._allocating) if task is not None)
        await self._sender.close()
        await self._shards.close()
        self._deadlines.close()
        self._peers.close()
        await self.topic.close()
