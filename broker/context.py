"""What request handlers may see of the node: one object, handed to every handler."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import structlog

from ottla.broker.fetch_sessions import SessionCache
from ottla.broker.groups import GroupCoordinator
from ottla.broker.producer_ids import ProducerIds
from ottla.broker.quotas import ClientQuotas
from ottla.broker.recompression import Recompression
from ottla.broker.replication import ClusterCredentials, ReplicaManager
from ottla.broker.topic_limits import TopicLimits
from ottla.broker.transactions import TransactionCoordinator, Verifier
from ottla.controller import ConfigDef, MetadataImage, RpcRequest, RpcResponse

log = structlog.get_logger(__name__)

Clock = Callable[[], int]
"""Wall-clock time in milliseconds since the epoch."""

MAX_BACKGROUND = 64

R = TypeVar("R", bound=RpcResponse)


class BrokerConfig(Protocol):
    """The node's settings that handlers read, under Kafka's names with underscores."""

    @property
    def node_id(self) -> int: ...
    @property
    def auto_create_topics_enable(self) -> bool: ...
    @property
    def delete_topic_enable(self) -> bool: ...
    @property
    def fetch_max_bytes(self) -> int:
        """Most record bytes in one Fetch answer (an oversize first batch is still returned)."""

    @property
    def max_request_partition_size_limit(self) -> int: ...
    @property
    def max_incremental_fetch_session_cache_slots(self) -> int: ...
    @property
    def replica_selector_class(self) -> str:
        """The Java name of the class that picks the replica for a consumer to read from; empty: the leader."""

    @property
    def definitions(self) -> Mapping[str, ConfigDef]:
        """What settings a broker has, by Kafka's names."""

    def kafka_values(self) -> Mapping[str, str]:
        """The settings given by file or environment, by Kafka's own names, for DescribeConfigs (no secrets)."""


class MetadataSource(Protocol):
    """The committed metadata as this node has applied it (`ottla.controller.MetadataView`)."""

    @property
    def image(self) -> MetadataImage: ...

    async def wait_for(self, offset: int, timeout: float) -> object:
        """Until the image includes the Raft entry `offset`; TimeoutError after `timeout` seconds."""


class Controller(Protocol):
    """The way to the active controller (`ottla.controller.ControllerClient`)."""

    async def call(self, request: RpcRequest[R], *, timeout: float = ...) -> R: ...


@dataclass(frozen=True, slots=True)
class QuorumMember:
    """A member of the Raft quorum as the leader sees it.

    `last_contact_ms` is how long ago the last request was sent that it has answered, `last_caught_up_ms` how long ago
    the leader's log had nothing that it has not got now; -1 stands for unknown, as does an empty directory id.
    """

    id: int
    log_end_offset: int
    voter: bool
    last_contact_ms: int = -1
    last_caught_up_ms: int = -1
    directory_id: str = ""


@dataclass(frozen=True, slots=True)
class QuorumStatus:
    """This node's view of the quorum. `leader_id` is -1 when it knows none; `members` is only known to the leader."""

    node_id: int
    leader_id: int
    term: int
    high_watermark: int
    voters: tuple[int, ...]
    members: tuple[QuorumMember, ...] = ()


@dataclass(slots=True)
class Background:
    """Work that no request waits for. It is bounded, held on to, and its failures are logged; `close` ends it."""

    _tasks: dict[asyncio.Task[None], None] = field(default_factory=dict)

    def start(self, name: str, work: Coroutine[None, None, None]) -> bool:
        """Start `work`, or close it and return False when too much is under way."""
        if len(self._tasks) >= MAX_BACKGROUND:
            work.close()
            return False
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("background_work_failed", work=task.get_name(), exc_info=task.exception())

    async def close(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(slots=True)
class BrokerContext:
    """Everything that a handler may use.

    `clock`, `rng` and `nonce` (32 bytes that nobody can predict) are the node's own, so that a simulation can repeat a
    run.
    """

    node_id: int
    config: BrokerConfig
    view: MetadataSource
    controller: Controller
    replicas: ReplicaManager
    groups: GroupCoordinator
    transactions: TransactionCoordinator
    verifier: Verifier
    credentials: ClusterCredentials
    nonce: Callable[[], bytes]
    limits: TopicLimits
    quotas: ClientQuotas
    producer_ids: ProducerIds
    recompression: Recompression
    quorum: Callable[[], QuorumStatus]
    clock: Clock
    rng: random.Random
    sessions: SessionCache
    background: Background = field(default_factory=Background)
    creating_topics: set[str] = field(default_factory=set)


Answer = Mapping[str, object]
Reply = Answer | Awaitable[Answer]
