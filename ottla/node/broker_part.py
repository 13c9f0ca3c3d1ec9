"""The broker of a node: logs, replicas, Kafka listeners and registration, in the order in which each may begin."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import fields, replace

import structlog

from ottla.broker import (
    Broker,
    ClusterConnector,
    ClusterCredentials,
    GroupConfig,
    GroupSummary,
    Partition,
    ReplicaManager,
    ReplicationConfig,
    TopicSettings,
    TransactionConfig,
    TransactionSummary,
    load_schemas,
    topic_settings,
)
from ottla.controller import ClusterIdentity, Delta, ListenerModel, MetadataImage, resolve
from ottla.log import Disk, DiskError, GroupCommit, LogConfig, LogError, LogManager
from ottla.node.config import NodeConfig
from ottla.node.endpoints import parse_overrides
from ottla.node.errors import NodeError
from ottla.node.quorum import Quorum
from ottla.node.registration import Advertisement, Registration
from ottla.wire import KafkaServer, Limits

log = structlog.get_logger(__name__)

LATE_TRANSACTION_MS = 300_000
"""After the longest timeout, until a transaction counts as late (Kafka's)."""


class BrokerPart:
    """Made before the quorum, because a directory must be locked and its logs recovered before the node takes part."""

    def __init__(
        self,
        config: NodeConfig,
        identity: ClusterIdentity,
        disk: Disk,
        clock: Callable[[], int],
        timer: Callable[[], float],
        rng: random.Random,
        nonce: Callable[[], bytes],
        group: GroupCommit,
    ) -> None:
        self._config = config
        self._in_force = config
        self._identity = identity
        self._disk = disk
        self._clock = clock
        self._timer = timer
        self._rng = rng
        self._nonce = nonce
        self._group = group
        self._logs: LogManager | None = None
        self.replicas: ReplicaManager | None = None
        self.registration: Registration | None = None
        self.server: KafkaServer | None = None
        self._broker: Broker | None = None
        self._failed: asyncio.Future[None] | None = None
        self._caught_up = False

    async def open_logs(self) -> asyncio.Future[None]:
        """Recover what is in the data directory, which the node has locked. The future fails if the broker does.

        Raises DiskError.
        """
        self._failed = asyncio.get_running_loop().create_future()
        # Now, because from the quorum's start on a loop that stands still for an import looks like a dead node.
        load_schemas()
        # Which configuration a log has is known once there is metadata; until then the node's defaults do.
        self._logs = await LogManager.open(
            self._disk,
            self._config.log_dirs,
            lambda _topic: LogConfig(),
            clock=self._clock,
            rng=self._rng,
            commits=self._group,
            locked=True,
        )
        return self._failed

    async def start(self, quorum: Quorum) -> None:
        """Register, take over the replicas, open the listeners, be unfenced."""
        assert self._logs is not None
        loop = asyncio.get_running_loop()
        self.registration = registration = self._make_registration(quorum)
        self.replicas = replicas = self._make_replicas(quorum, registration, self._logs, loop)
        self._broker = Broker(
            self._config,
            view=quorum.view,
            controller=quorum.controller,
            replicas=replicas,
            credentials=self._credentials,
            quorum=quorum.status,
            broker_epoch=lambda: registration.epoch,
            clock=self._clock,
            timer=self._timer,
            rng=self._rng,
            nonce=self._nonce,
            open_connection=ClusterConnector(self._credentials, self._nonce),
            inter_broker_listener=self._config.inter_broker_listener,
            groups=group_config(self._config),
            transactions=transaction_config(self._config),
        )
        await registration.register(
            clean_shutdown=self._logs.kept_everything, previous_epoch=self._logs.last_broker_epoch
        )
        self._reconfigure(quorum.view.image)
        replicas.apply(quorum.view.image)
        replicas.clear_strays()
        self._broker.apply(quorum.view.image)
        quorum.view.subscribe(self._metadata_changed)
        replicas.start()
        self.server = KafkaServer(self._broker.registry, limits=limits(self._in_force))
        for endpoint in self._config.broker_listeners:
            await self.server.start(
                loop,
                endpoint.host or None,
                endpoint.port,
                endpoint.name,
                backlog=self._config.socket_listen_backlog_size,
            )
        beating = await registration.unfence()
        beating.add_done_callback(self._beating_ended)

    @property
    def _credentials(self) -> ClusterCredentials:
        return ClusterCredentials(self._identity.cluster_id, self._identity.node_id, self._identity.secret)

    def _make_registration(self, quorum: Quorum) -> Registration:
        config = self._config
        http = config.ottla_http_listener
        return Registration(
            quorum,
            Advertisement(
                node_id=config.node_id,
                incarnation=self._identity.incarnation,
                cluster_id=config.cluster_id,
                listeners=tuple(
                    ListenerModel(name=each.name, host=each.host, port=each.port) for each in config.advertised
                ),
                rack=config.broker_rack,
                http="" if http is None else f"{http[0]}:{http[1]}",
            ),
            heartbeat_interval=config.broker_heartbeat_interval_ms / 1000,
            session_timeout=config.broker_session_timeout_ms / 1000,
            on_registered=self._note_running,
            logs=lambda: () if self.replicas is None else self.replicas.unled_logs(),
        )

    async def _note_running(self, epoch: int) -> None:
        assert self._logs is not None
        try:
            await self._logs.note_running(epoch, synced=self._config.ottla_flush == "synced")
        except (DiskError, LogError) as error:
            # Then the death of this process counts as the loss of what it answered for.
            log.warning("registration_not_noted", epoch=epoch, error=str(error))

    def _make_replicas(
        self, quorum: Quorum, registration: Registration, logs: LogManager, loop: asyncio.AbstractEventLoop
    ) -> ReplicaManager:
        return ReplicaManager(
            replication_config(self._config),
            logs=logs,
            group=self._group,
            controller=quorum.controller,
            settings=self._settings,
            open_connection=ClusterConnector(self._credentials, self._nonce),
            broker_epoch=lambda: registration.epoch,
            clock=self._clock,
            loop=loop,
            on_storage_failure=self._storage_failed,
        )

    def _settings(self, image: MetadataImage, topic: str) -> TopicSettings:
        config = self._in_force
        resolved = resolve(image, config.kafka_values(), topic, config.node_id)
        settings = topic_settings({name: row.value for name, row in resolved.items()})
        held = replace(settings.log, producer_id_expiration_ms=config.producer_id_expiration_ms)
        if config.ottla_flush == "synced":
            held = replace(held, flush="synced")
        return replace(settings, log=held)

    def _metadata_changed(self, image: MetadataImage, delta: Delta) -> None:
        assert self.replicas is not None and self.registration is not None
        self.registration.metadata_changed(image)
        if any(kind == "broker" for kind, _ in delta.configs):
            self._reconfigure(image)
        self.replicas.apply(image, delta)
        self.registration.tell_logs()
        assert self._broker is not None
        self._broker.apply(image, delta)

    def _reconfigure(self, image: MetadataImage) -> None:
        """Let the dynamic settings that the metadata has for this broker hold from now on (KIP-226)."""
        before, self._in_force = self._in_force, self._config.in_force(image)
        if self._in_force == before:
            return
        assert self.replicas is not None
        self.replicas.reconfigure(replication_config(self._in_force))
        if self.server is not None:
            self.server.limits = limits(self._in_force)

    def replicas_behind(self, image: MetadataImage) -> int:
        """Replicas here that have not been in sync since the start, though somebody leads them; 0 once all were.

        A replica that falls behind later is no reason to take the node for unready: it serves all others. Nor is one
        that is only being added: that may take long, and is nothing that a restart interrupts.
        """
        if self._caught_up:
            return 0
        own = self._config.node_id
        behind = sum(
            own in partition.original and partition.leader >= 0 and own not in partition.isr
            for _, _, partition in image.all_partitions()
        )
        self._caught_up = behind == 0
        return behind

    def groups(self) -> Iterable[GroupSummary]:
        """The groups that this broker coordinates."""
        return () if self._broker is None else self._broker.groups.summaries()

    def transactions(self) -> TransactionSummary | None:
        """The transactional ids that this broker coordinates."""
        if self._broker is None:
            return None
        found = self._broker.transactions.summary()
        return found._replace(unverified=self._broker.context.verifier.failures)

    @property
    def late_before_ms(self) -> int:
        """A transaction that nobody has written to since then should have been aborted by its coordinator."""
        return self._clock() - self._config.transaction_max_timeout_ms - LATE_TRANSACTION_MS

    def _storage_failed(self, partition: Partition, error: Exception) -> None:
        """The node has one data directory; as in Kafka, a broker without any cannot go on."""
        log.error("storage_failed", topic=partition.topic, partition=partition.index, error=str(error))
        self._fail(NodeError(f"storage failed at {partition.topic}-{partition.index}: {error}"))

    def _beating_ended(self, beating: asyncio.Task[None]) -> None:
        if not beating.cancelled() and (error := beating.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def stop(self, *, leave_within: float) -> None:
        """Hand over, close the listeners, stop replicating, close the logs (which marks the directory clean)."""
        epoch = -1
        if self.registration is not None:
            epoch = self.registration.epoch
            await self.registration.leave(within=leave_within)
        if self.server is not None:
            await self.server.stop()
        if self._broker is not None:
            await self._broker.close()
        if self.replicas is not None:
            await self.replicas.stop()
        if self._logs is not None:
            await self._logs.close(epoch)


def replication_config(config: NodeConfig) -> ReplicationConfig:
    """The node's settings as replication wants them."""
    return ReplicationConfig(
        node_id=config.node_id,
        inter_broker_listener_name=config.inter_broker_listener,
        replica_lag_time_max_ms=config.replica_lag_time_max_ms,
        replica_fetch_wait_max_ms=config.replica_fetch_wait_max_ms,
        replica_fetch_min_bytes=config.replica_fetch_min_bytes,
        replica_fetch_max_bytes=config.replica_fetch_max_bytes,
        replica_fetch_response_max_bytes=config.replica_fetch_response_max_bytes,
        leader_replication_throttled_rate=config.leader_replication_throttled_rate,
        follower_replication_throttled_rate=config.follower_replication_throttled_rate,
        ottla_repair_throttled_rate=config.ottla_repair_throttled_rate,
        replica_high_watermark_checkpoint_interval_ms=config.replica_high_watermark_checkpoint_interval_ms,
        log_retention_check_interval_ms=config.log_retention_check_interval_ms,
        replica_socket_timeout_ms=config.replica_socket_timeout_ms,
        log_cleaner_enable=config.log_cleaner_enable,
        log_cleaner_backoff_ms=config.log_cleaner_backoff_ms,
        log_cleaner_dedupe_buffer_size=config.log_cleaner_dedupe_buffer_size,
        log_flush_offset_checkpoint_interval_ms=config.log_flush_offset_checkpoint_interval_ms,
    )


def group_config(config: NodeConfig) -> GroupConfig:
    """The node's settings as the group coordinator wants them."""
    return GroupConfig(**{field.name: getattr(config, field.name) for field in fields(GroupConfig)})


def transaction_config(config: NodeConfig) -> TransactionConfig:
    """The node's settings as the transaction coordinator wants them."""
    return TransactionConfig(**{field.name: getattr(config, field.name) for field in fields(TransactionConfig)})


def limits(config: NodeConfig) -> Limits:
    """The node's settings as the Kafka listeners want them."""
    default = Limits()
    return Limits(
        max_request_bytes=config.socket_request_max_bytes,
        max_small_request_bytes=min(default.max_small_request_bytes, config.socket_request_max_bytes),
        max_connections=config.max_connections,
        max_connections_per_ip=config.max_connections_per_ip,
        per_ip=parse_overrides(config.max_connections_per_ip_overrides),
        max_connection_rate=config.max_connection_creation_rate,
        unhurried=config.inter_broker_listener if len(config.broker_listeners) > 1 else "",
        max_buffered_bytes=config.queued_max_request_bytes,
        idle_s=config.connections_max_idle_ms / 1000,
    )
