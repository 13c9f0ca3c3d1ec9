"""One node: puts the parts together, starts them in order, and takes them down in the opposite order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from ottla.controller import (
    Address,
    ClusterIdentity,
    ControllerSettings,
    Limits,
    LogStorage,
    Policy,
    RaftConfig,
    RaftInvariantError,
    RepairSettings,
)
from ottla.log import Disk, GroupCommit, Lock
from ottla.node.broker_part import BrokerPart
from ottla.node.config import NodeConfig
from ottla.node.errors import NodeError
from ottla.node.identity import claim_directory, lock_directory
from ottla.node.quorum import Quorum

log = structlog.get_logger(__name__)

LEAVE_S = 10.0
LEAVE_FAILED_S = 1.0
"""For how long leaderships may move away, in seconds: clients are served meanwhile. A node that has failed may not hear
that it was replaced long ago."""


@dataclass(frozen=True, slots=True)
class Seams:
    """What a node takes from the world besides its event loop. ``clock`` is wall time in ms, ``timer`` measures what
    code takes, in seconds from any beginning, ``nonce`` is unguessable."""

    disk: Disk
    clock: Callable[[], int]
    timer: Callable[[], float]
    rng: random.Random
    nonce: Callable[[], bytes]


class Node:
    """A broker, a controller, or both, in this event loop.

    ``failed`` is done, with an exception, when the node can no longer be trusted; whoever runs it has to end it then.
    """

    def __init__(self, config: NodeConfig, seams: Seams, group: GroupCommit) -> None:
        self.config = config
        self._seams = seams
        self._group = group
        self.quorum: Quorum | None = None
        self.broker: BrokerPart | None = None
        self.failed: asyncio.Future[None] | None = None
        self._lock: Lock | None = None
        self._metadata_listeners: list[Callable[[], None]] = []

    def on_metadata(self, listener: Callable[[], None]) -> None:
        """``listener`` is called once, when ``quorum.view`` exists and before anything changes it."""
        self._metadata_listeners.append(listener)

    async def start(self) -> None:
        """Start everything and return when the node is ready: registered, unfenced, and caught up.

        Raises NodeError, OSError (an address is taken), DiskError, DiskLocked.
        """
        self.failed = asyncio.get_running_loop().create_future()
        config, seams = self.config, self._seams
        self._lock = lock_directory(seams.disk, config.log_dirs)
        meta = claim_directory(
            seams.disk, config.log_dirs, cluster_id=config.cluster_id, node_id=config.node_id, rng=seams.rng
        )
        identity = self._identity()
        if config.is_broker:
            self.broker = BrokerPart(
                config, identity, seams.disk, seams.clock, seams.timer, seams.rng, seams.nonce, self._group
            )
            self._watch_over(await self.broker.open_logs())
        self.quorum = self._make_quorum(identity, meta.directory_id)
        for listener in self._metadata_listeners:
            listener()
        try:
            await self.quorum.start()
        except RaftInvariantError as error:
            # Damage that was found on disk: a matter for the person who runs this node, not a bug to be traced.
            raise NodeError(f"cannot start: {error}") from error
        self._watch_over(self.quorum.driver.failed)
        if self.broker is not None:
            await self._unless_failed(self.broker.start(self.quorum))
        log.info("node_ready", node=config.node_id, roles=list(config.process_roles))

    async def _unless_failed(self, work: Coroutine[Any, Any, None]) -> None:
        """A broker whose disk fails while it starts would wait for its own metadata for ever."""
        assert self.failed is not None
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self.failed), return_when=asyncio.FIRST_COMPLETED)
            await (task if task.done() else self.failed)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))

    def _identity(self) -> ClusterIdentity:
        config, rng = self.config, self._seams.rng
        incarnation = str(UUID(int=rng.getrandbits(128), version=4))
        secret = config.secret if config.secret is not None else self._seams.nonce()
        try:
            return ClusterIdentity(config.cluster_id, config.node_id, incarnation, secret)
        except ValueError as error:
            raise NodeError(str(error)) from error

    def _make_quorum(self, identity: ClusterIdentity, directory_id: str) -> Quorum:
        config = self.config
        listener, advertised = config.controller_listener, config.advertised_controller
        voters: dict[int, Address] = {voter.id: (voter.host, voter.port) for voter in config.voters.values()}
        election_s = config.controller_quorum_election_timeout_ms / 1000
        raft = RaftConfig(
            node_id=config.node_id,
            voters=frozenset(voters),
            addresses=voters,
            eligible=config.is_controller,
            directory_id=directory_id,
            founds=bool(voters),
            election_timeout=election_s,
            heartbeat_interval=0.15 * election_s,
        )
        storage = LogStorage(
            self._seams.disk,
            config.log_dirs,
            self._seams.clock,
            cluster_id=config.cluster_id,
            node_id=config.node_id,
            replaceable=raft.is_replaceable,
        )
        return Quorum(
            raft,
            storage,
            identity,
            voters=voters,
            bootstrap_servers=config.controller_quorum_bootstrap_servers,
            listen=(listener.host, listener.port),
            advertised=(advertised.host, advertised.port),
            settings=controller_settings(config) if config.is_controller else None,
            group=self._group,
            rng=self._seams.rng,
            snapshot_bytes=config.metadata_log_max_record_bytes_between_snapshots,
        )

    def _watch_over(self, part: asyncio.Future[None] | None) -> None:
        """The failure of a part is the failure of the node."""
        if part is not None:
            part.add_done_callback(self._part_ended)

    def _part_ended(self, part: asyncio.Future[None]) -> None:
        error = None if part.cancelled() else part.exception()
        if error is not None:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """The node can no longer be trusted; the first reason stands."""
        if self.failed is not None and not self.failed.done():
            self.failed.set_exception(error)

    @property
    def reasons_not_ready(self) -> Mapping[str, str]:
        """What is missing for readiness, by topic; empty when the node is ready."""
        if self.quorum is None:
            return {"node": "starting"}
        reasons: dict[str, str] = {}
        driver = self.quorum.driver
        if not self.quorum.started:
            finding = "asking at controller.quorum.bootstrap.servers who votes"
            reasons["quorum"] = finding if self.quorum.finding else "starting"
        elif self.quorum.missing:
            missing = ", ".join(map(str, self.quorum.missing))
            reasons["quorum"] = f"no cluster is known, and a new one needs all its voters once; not there: {missing}"
        elif driver.leader_id is None:
            reasons["quorum"] = "no active controller is known"
        elif driver.applied_index < driver.commit_index:
            reasons["metadata"] = f"applied {driver.applied_index} of {driver.commit_index}"
        if self.config.is_broker:
            registration = None if self.broker is None else self.broker.registration
            if registration is None or registration.epoch < 0:
                reasons["broker"] = "not registered"
            elif registration.fenced:
                reasons["broker"] = "fenced"
            elif self.broker is not None and (behind := self.broker.replicas_behind(self.quorum.view.image)):
                reasons["replicas"] = f"{behind} not in sync since the start"
        return reasons

    def _leave_within(self) -> float:
        if not self.config.controlled_shutdown_enable:
            return 0.0
        return LEAVE_FAILED_S if self.failed is not None and self.failed.done() else LEAVE_S

    async def stop(self) -> None:
        """Leave in good order: leaderships first, then listeners, logs, Raft. Safe after half a start."""
        if self.broker is not None:
            await self.broker.stop(leave_within=self._leave_within())
        if self.quorum is not None:
            await self.quorum.stop()
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        log.info("node_stopped", node=self.config.node_id)


def controller_settings(config: NodeConfig) -> ControllerSettings:
    """What the configuration means to the active controller."""
    interval = float(config.leader_imbalance_check_interval_seconds)
    return ControllerSettings(
        policy=Policy(
            default_partitions=config.num_partitions,
            default_replication_factor=config.default_replication_factor,
            session_timeout_ms=config.broker_session_timeout_ms,
            limits=Limits(
                config.ottla_policy_max_partitions_per_request,
                config.ottla_policy_max_partitions_per_topic,
                config.ottla_policy_min_replication_factor,
                config.ottla_policy_max_replication_factor,
            ),
            broker_defaults=config.kafka_values(),
            broker_configs=config.definitions,
        ),
        rebalance_interval_s=interval if config.auto_leader_rebalance_enable else None,
        repair=RepairSettings(config.ottla_repair_after_ms / 1000, config.ottla_repair_partitions)
        if config.ottla_repair_after_ms >= 0
        else None,
    )
