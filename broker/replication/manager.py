"""All replicas on this broker: what the metadata says they are, and the way in for request handlers."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping
from uuid import UUID

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.replication import leading, nearby
from ottla.broker.replication.config import ReplicationConfig, TopicSettings
from ottla.broker.replication.connecting import OpenConnection
from ottla.broker.replication.fetch_wait import NEWS_WITHIN_S, FetchWait
from ottla.broker.replication.fetchers import Fetchers
from ottla.broker.replication.host import PartitionHost
from ottla.broker.replication.housekeeping import Housekeeping
from ottla.broker.replication.isr_sender import Controller, IsrSender
from ottla.broker.replication.lag_clock import LagClock
from ottla.broker.replication.on_disk import clear_strays, find_log
from ottla.broker.replication.partition import Acks, Partition
from ottla.broker.replication.produce_wait import ProduceWait
from ottla.broker.replication.throttle import Throttle
from ottla.controller import (
    MAX_REPLICA_LOGS,
    NO_LEADER,
    Delta,
    MetadataImage,
    PartitionImage,
    ReplicaLogModel,
    TopicImage,
)
from ottla.log import (
    Appended,
    CleanerStatus,
    CorruptFile,
    DiskError,
    GroupCommit,
    LogError,
    LogManager,
    PartitionLog,
    Verification,
    Volume,
)
from ottla.records import BatchHeader

log = structlog.get_logger(__name__)

Settings = Callable[[MetadataImage, str], TopicSettings]
"""The settings of a topic, by name, in an image."""


class ReplicaManager:
    """Call `apply` first with an image that is caught up (it decides which logs on disk are of old topics), then with
    every change in order; all on the event loop. `start` and `stop` bracket the fetchers and the periodic work."""

    def __init__(
        self,
        config: ReplicationConfig,
        *,
        logs: LogManager,
        group: GroupCommit,
        controller: Controller,
        settings: Settings,
        open_connection: OpenConnection,
        broker_epoch: Callable[[], int],
        clock: Callable[[], int],
        loop: asyncio.AbstractEventLoop,
        on_storage_failure: Callable[[Partition, Exception], None],
    ) -> None:
        self.config = config
        self._logs = logs
        self.run_blocking = group.run_blocking
        self._settings = settings
        self._clock = clock
        self._loop = loop
        self._image = MetadataImage(cluster_id="")
        self._eligible: Mapping[int, int] = {}
        self._partitions: dict[tuple[str, int], Partition] = {}
        self._unled: set[tuple[str, int]] = set()
        self._on_storage_failure = on_storage_failure
        lag_s = config.replica_lag_time_max_ms / 1000
        self._lag_clock = LagClock(loop, min(1.0, lag_s / 10))
        self._isr_sender = IsrSender(config.node_id, controller, broker_epoch)
        self._fetchers = Fetchers(config, open_connection, group, broker_epoch)
        self._housekeeping = Housekeeping(config, logs, group, self.partitions)
        self._host = PartitionHost(
            node_id=config.node_id,
            max_lag_s=lag_s,
            now=self._lag_clock.now,
            eligible=lambda: self._eligible,
            propose=self._isr_sender.submit,
            storage_failed=self._storage_failed,
            group=group,
            leader_throttle=Throttle(config.leader_replication_throttled_rate),
            follower_throttle=Throttle(config.follower_replication_throttled_rate),
            repair_throttle=Throttle(config.ottla_repair_throttled_rate),
        )
        self._checkpointed = dict(logs.high_watermarks)

    # For request handlers

    def partition(self, topic: str, index: int) -> Partition | ErrorCode:
        """The replica here, or why there is none: UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER."""
        found = self._partitions.get((topic, index))
        if found is not None:
            return found if found.failure is None else ErrorCode.kafka_storage_error
        if self._image.partition(topic, index) is not None:
            return ErrorCode.not_leader_or_follower
        return ErrorCode.unknown_topic_or_partition

    def partition_by_id(self, topic_id: UUID, index: int) -> Partition | ErrorCode:
        """The same by topic id; UNKNOWN_TOPIC_ID for an id that the metadata does not know (KIP-516)."""
        topic = self._image.topic_by_id(topic_id)
        if topic is None:
            return ErrorCode.unknown_topic_id
        found = self.partition(topic.name, index)
        if isinstance(found, Partition) and found.topic_id.int != topic_id.int:
            return ErrorCode.inconsistent_topic_id
        return found

    @property
    def log_directory(self) -> str:
        return self._logs.directory

    async def volume(self) -> Volume:
        """What the data directory is on. Raises DiskError."""
        return await self.run_blocking(functools.partial(self._logs.disk.volume, self._logs.directory))

    def partitions(self) -> Iterable[Partition]:
        """All replicas here, also those that failed."""
        return self._partitions.values()

    def append(
        self,
        partition: Partition,
        batch: bytes | memoryview,
        header: BatchHeader,
        *,
        acks: Acks,
        verification: Verification | None = None,
        sequenced: bool = True,
    ) -> Appended | ErrorCode:
        """Append one verified batch; see `leading.append`. `partition.acknowledge` comes after it, in the same step."""
        return leading.append(
            partition,
            batch,
            header,
            acks=acks,
            now_ms=self._clock(),
            verification=verification,
            sequenced=sequenced,
        )

    def produce_wait(self) -> ProduceWait:
        """For one produce request: `partition.acknowledge(appended.last_offset + 1, acks, wait, slot)` for each
        partition, then answer at once if `wait.done`, or else in what `wait.start(timeout_s, then)` calls."""
        return ProduceWait(self._loop)

    # Without counting it as a follower's progress: for consumers, and for a second look after a wait.
    read = staticmethod(leading.read)
    # For a consumer, where this broker does not lead (KIP-392).
    read_as_follower = staticmethod(nearby.read_as_follower)
    # For a broker, already authenticated as that (`want.replica_id` >= 0), when its fetch arrives.
    read_for_follower = staticmethod(leading.read_for_follower)

    def fetch_wait(self, min_bytes: int, deadline: float, *, news_within: float = NEWS_WITHIN_S) -> FetchWait:
        """A long poll until `deadline` (loop time): `wait.hold(partition.watch(wait.gained, ...))` for each. A follower
        hears of a move of the high watermark within `news_within` seconds."""
        return FetchWait(self._loop, min_bytes, deadline, news_within)

    def unled_logs(self) -> tuple[ReplicaLogModel, ...]:
        """What is here of partitions whose ISR and ELR are empty: nobody may lead them before their replicas tell."""
        found = []
        for key in sorted(self._unled)[:MAX_REPLICA_LOGS]:
            partition = self._partitions[key]
            if partition.log is not None and partition.failure is None:
                found.append(
                    ReplicaLogModel(
                        topic_id=partition.topic_id,
                        partition=partition.index,
                        leader_epoch=partition.leader_epoch,
                        last_epoch=partition.log.last_epoch,
                        end=partition.log_end_offset,
                    )
                )
        return tuple(found)

    # Metadata

    def apply(self, image: MetadataImage, delta: Delta | None = None) -> None:
        """Become what the metadata says. `delta` None stands for everything."""
        self._image = image
        changes = delta if delta is not None else _everything(image)
        for topic in changes.deleted:
            for index in topic.partitions:
                self._remove_if(topic, index)
        if changes.brokers:
            self._eligible = {broker.id: broker.epoch for broker in image.brokers.values() if broker.eligible}
            self._fetchers.apply_brokers(image)
        if changes.configs:
            self._apply_configs(changes)
        settings: dict[str, TopicSettings] = {}
        for name, index in sorted(changes.partitions):
            topic = image.topics[name]
            if name not in settings:
                settings[name] = self._settings(image, name)
            self._apply_partition(topic, index, settings[name])
        if changes.brokers:
            # Who was waited for because it might join may now be out of the question, and who was out of it may join.
            for partition in self._partitions.values():
                partition.advance()
                partition.release_starts()
                partition.expand_isr()

    def _apply_partition(self, topic: TopicImage, index: int, settings: TopicSettings) -> None:
        state = topic.partitions[index]
        key = (topic.name, index)
        found = self._partitions.get(key)
        if found is not None and found.topic_id != topic.id:
            self._remove(key)
            found = None
        if self.config.node_id not in state.replicas:
            if found is not None:
                self._remove(key)
            return
        partition = found if found is not None else self._open(topic, index, settings)
        if state.last_known_leader == NO_LEADER:
            self._unled.discard(key)
        else:
            self._unled.add(key)
        if partition.failure is not None:
            return
        try:
            self._take_role(partition, state)
        except (DiskError, LogError) as error:
            partition.fail(error)

    def _take_role(self, partition: Partition, state: PartitionImage) -> None:
        role, held = partition.role, partition.log
        leads = state.leader == self.config.node_id
        if held is not None and held.last_epoch > state.leader_epoch:
            # A registered broker's metadata is newer than its log. No checksum covers the epoch of a batch.
            held.condemn(f"its last epoch, {held.last_epoch}, is beyond the leader's, {state.leader_epoch}")
            raise CorruptFile(f"{held.directory}: {held.failure}")
        if role.leader_epoch == state.leader_epoch and partition.is_leader == leads:
            partition.update_isr(state)
        elif leads:
            self._fetchers.remove(partition)
            partition.become_leader(state)
        else:
            partition.become_follower(state)
            self._fetchers.assign(partition)

    def _open(self, topic: TopicImage, index: int, settings: TopicSettings) -> Partition:
        key = (topic.name, index)
        held: PartitionLog | None = None
        failure: Exception | None = None
        try:
            held = find_log(self._logs, topic, index, settings, own=self.config.node_id)
        except (DiskError, LogError) as error:
            failure = error
        partition = self._partitions[key] = Partition(
            self._host,
            topic.name,
            topic.id,
            index,
            held,
            high_watermark=self._checkpointed.pop(key, 0),
            min_insync=settings.min_insync_replicas,
        )
        if failure is not None:
            partition.fail(failure)
        else:
            partition.configure(settings)
        return partition

    def clear_strays(self) -> None:
        """Put the logs on disk that no partition here has out of the way; see `on_disk.clear_strays`.

        To be called once, after `apply` with an image that is known to be caught up.
        """
        clear_strays(self._logs, self._image, self._partitions)

    def _remove_if(self, topic: TopicImage, index: int) -> None:
        found = self._partitions.get((topic.name, index))
        if found is not None and found.topic_id == topic.id:
            self._remove((topic.name, index))

    def _remove(self, key: tuple[str, int]) -> None:
        """This broker is no replica any more: its log goes, and whoever waits is told to look elsewhere."""
        partition = self._partitions.pop(key)
        self._unled.discard(key)
        self._fetchers.remove(partition)
        partition.retire()
        log.info("replica_removed", topic=partition.topic, partition=partition.index, topic_id=str(partition.topic_id))
        if partition.log is not None or key in self._logs.offline:
            try:
                self._logs.delete_log(partition.topic, partition.index)
            except DiskError as error:
                self._storage_failed(partition, error)

    def _apply_configs(self, changes: Delta) -> None:
        names = {name for kind, name in changes.configs if kind == "topic"}
        everyone = any(kind == "broker" for kind, _ in changes.configs)
        settings: dict[str, TopicSettings] = {}
        for partition in self._partitions.values():
            topic = partition.topic
            if partition.log is None or not (everyone or topic in names) or topic not in self._image.topics:
                continue
            if topic not in settings:
                settings[topic] = self._settings(self._image, topic)
            partition.configure(settings[topic])

    @property
    def cleaner(self) -> CleanerStatus:
        """How the log cleaner fares."""
        return self._housekeeping.cleaner

    def reconfigure(self, config: ReplicationConfig) -> None:
        """Go by these settings from now on: those of the housekeeping, and the rates of the throttles. The others are
        read once, when this is made."""
        self.config = config
        self._housekeeping.reconfigure(config)
        host, now = self._host, self._host.now()
        host.leader_throttle.set_rate(config.leader_replication_throttled_rate, now)
        host.follower_throttle.set_rate(config.follower_replication_throttled_rate, now)
        host.repair_throttle.set_rate(config.ottla_repair_throttled_rate, now)

    # Life

    def start(self) -> None:
        """Begin to follow, and to look after the ISRs and logs."""
        self._lag_clock.start()
        self._fetchers.start()
        self._housekeeping.start()

    async def stop(self) -> None:
        """Stop fetching, end every wait, write the high watermarks. The logs stay open (they are LogManager's)."""
        self._lag_clock.stop()
        await self._fetchers.stop()
        await self._isr_sender.close()
        for partition in self._partitions.values():
            partition.end_waits(ErrorCode.not_leader_or_follower)
        await self._housekeeping.stop()

    def _storage_failed(self, partition: Partition, error: Exception) -> None:
        self._fetchers.remove(partition)
        self._on_storage_failure(partition, error)


def _everything(image: MetadataImage) -> Delta:
    return Delta(
        brokers=frozenset(image.brokers),
        partitions=frozenset((topic.name, index) for topic, index, _ in image.all_partitions()),
        created=tuple(image.topics.values()),
        configs=frozenset(image.configs),
    )
