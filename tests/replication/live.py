"""Brokers in one process: real replica managers, handlers, servers and connections over loopback, real files.

The controller takes the real decisions and tells every node at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kio.schema.errors import ErrorCode

from ottla.broker import Broker, QuorumStatus
from ottla.broker.replication import (
    ClusterConnector,
    ClusterCredentials,
    Partition,
    ProduceWait,
    ReplicaManager,
    ReplicationConfig,
    topic_settings,
)
from ottla.controller import (
    ConfigDef,
    CreateTopics,
    DeleteTopics,
    Delta,
    ListenerModel,
    MetadataImage,
    Policy,
    RegisterBroker,
    RpcRequest,
    TopicRef,
    resolve,
)
from ottla.controller.metadata import apply, decide, fence
from ottla.controller.rpc import Heartbeat, NewTopic
from ottla.log import GroupCommit, LogConfig, LogManager, OsDisk
from ottla.records import Record, encode_batch, verify_batch
from ottla.wire import KafkaServer
from tests.metadata.cluster import alone
from tests.replication.waiting import errors_of

CLUSTER = "cluster"
LONG_POLL_MS = 60_000
WAIT_S = 10.0


async def until(what: Callable[[], bool]) -> None:
    """Wait for `what` to hold; TimeoutError after WAIT_S."""
    async with asyncio.timeout(WAIT_S):
        while not what():  # noqa: ASYNC110 - the parts waited for have no event to offer
            await asyncio.sleep(0.002)


class Metadata:
    """The controller and the metadata that all nodes see."""

    def __init__(self) -> None:
        self.image = MetadataImage(cluster_id=CLUSTER)
        self.rng = random.Random(1)
        self.subscribers: dict[int, Callable[[MetadataImage, Delta], None]] = {}

    async def call(self, request: RpcRequest[Any], *, timeout: float = 30.0) -> Any:
        await asyncio.sleep(0)
        return self.decide(request)

    def decide(self, request: Any) -> Any:
        decision = decide(self.image, Policy(), request, self.rng, reports=alone(self.image, request))
        self.commit(decision.records)
        return decision.response

    def commit(self, records: Any) -> None:
        if records:
            self.image, delta = apply(self.image, records, self.image.offset + 1)
            for tell in tuple(self.subscribers.values()):
                tell(self.image, delta)

    async def wait_for(self, offset: int, timeout: float) -> None:
        assert self.image.offset >= offset

    def fence(self, id: int) -> None:
        self.commit(fence(self.image, Policy(), [id]))

    def create(self, name: str, *replicas: int, partitions: int = 1, **configs: str) -> None:
        assignments = dict.fromkeys(range(partitions), replicas)
        configs = {key.replace("_", "."): value for key, value in configs.items()}
        (result,) = self.decide(
            CreateTopics(topics=(NewTopic(name=name, assignments=assignments, configs=configs),))
        ).topics
        assert result.error == 0, result

    def delete(self, name: str) -> None:
        self.decide(DeleteTopics(topics=(TopicRef(name=name),)))

    def leader(self, topic: str = "t") -> int:
        return self.image.topics[topic].partitions[0].leader

    def isr(self, topic: str = "t") -> set[int]:
        return set(self.image.topics[topic].partitions[0].isr)


class NodeConfig:
    auto_create_topics_enable = False
    fetch_max_bytes = 55 * 1024 * 1024
    max_incremental_fetch_session_cache_slots = 100
    max_request_partition_size_limit = 2000
    definitions: dict[str, ConfigDef] = {}
    replica_selector_class = ""

    def __init__(self, node_id: int) -> None:
        self.node_id = node_id

    def kafka_values(self) -> dict[str, str]:
        return {}


class LiveNode:
    def __init__(self, id: int, metadata: Metadata, directory: Path, secret: bytes = b"s" * 32) -> None:
        self.id = id
        self.metadata = metadata
        self.directory = str(directory / f"node-{id}")
        self.rng = random.Random(id)
        self.secret = secret
        self.broker_epoch = -1
        self.lives = 0
        self.alive = False
        self.failures: list[Exception] = []
        self.group = GroupCommit()
        self.logs: LogManager
        self.replicas: ReplicaManager
        self.server: KafkaServer

    async def start(self, **settings: Any) -> None:
        loop = asyncio.get_running_loop()
        self.logs = await LogManager.open(
            OsDisk(), self.directory, lambda _: LogConfig(), clock=lambda: 0, rng=self.rng, commits=self.group
        )
        credentials = ClusterCredentials(CLUSTER, self.id, self.secret)
        config = ReplicationConfig(self.id, replica_fetch_wait_max_ms=LONG_POLL_MS, **settings)
        self.replicas = ReplicaManager(
            config,
            logs=self.logs,
            group=self.group,
            controller=self.metadata,
            settings=lambda image, topic: topic_settings(
                {name: found.value for name, found in resolve(image, {}, topic).items()}
            ),
            open_connection=ClusterConnector(credentials, lambda: self.rng.randbytes(32)),
            broker_epoch=lambda: self.broker_epoch,
            clock=lambda: 0,
            loop=loop,
            on_storage_failure=lambda _, error: self.failures.append(error),
        )
        broker = Broker(
            NodeConfig(self.id),
            view=self.metadata,
            controller=self.metadata,
            replicas=self.replicas,
            credentials=credentials,
            quorum=lambda: QuorumStatus(1, 1, 1, 1, (1,)),
            broker_epoch=lambda: self.broker_epoch,
            clock=lambda: 0,
            timer=lambda: 0.0,
            rng=self.rng,
            nonce=lambda: self.rng.randbytes(32),
            open_connection=ClusterConnector(credentials, lambda: self.rng.randbytes(32)),
            inter_broker_listener="PLAINTEXT",
        )
        self.server = KafkaServer(broker.registry)
        port = await self.server.start(loop, "127.0.0.1", 0, "PLAINTEXT")
        self._register(port)
        self.replicas.apply(self.metadata.image)
        self.replicas.clear_strays()
        self.metadata.subscribers[self.id] = self.replicas.apply
        self.replicas.start()
        self.alive = True
        self.metadata.decide(
            Heartbeat(node_id=self.id, epoch=self.broker_epoch, applied_offset=self.metadata.image.offset)
        )

    def _register(self, port: int) -> None:
        self.lives += 1
        answer = self.metadata.decide(
            RegisterBroker(
                node_id=self.id,
                incarnation=f"{self.id}.{self.lives}",
                cluster_id=CLUSTER,
                listeners=(ListenerModel(name="PLAINTEXT", host="127.0.0.1", port=port),),
            )
        )
        self.broker_epoch = answer.epoch

    async def stop(self) -> None:
        """Abruptly as far as the others can tell: no goodbye, and the logs are just let go of."""
        if self.alive:
            self.alive = False
            self.metadata.subscribers.pop(self.id, None)
            await self.server.stop(grace_s=0)
            await self.replicas.stop()
            self.logs.abandon()

    def partition(self, topic: str = "t", index: int = 0) -> Partition:
        found = self.replicas.partition(topic, index)
        assert isinstance(found, Partition), found
        return found

    def send(self, value: bytes, topic: str = "t", index: int = 0, *, acks: Any = -1) -> tuple[int, ProduceWait]:
        """Append to the partition led here; (offset, what to wait for)."""
        batch = encode_batch([Record(0, 1, None, value, ())])
        partition = self.partition(topic, index)
        appended = self.replicas.append(partition, batch, verify_batch(batch), acks=acks)
        assert not isinstance(appended, ErrorCode), appended
        wait = self.replicas.produce_wait()
        partition.acknowledge(appended.last_offset + 1, acks, wait, 0)
        return appended.base_offset, wait

    async def produce(self, value: bytes, topic: str = "t", index: int = 0, *, acks: Any = -1) -> int:
        """Append and wait for the acknowledgement."""
        offset, wait = self.send(value, topic, index, acks=acks)
        errors = await errors_of(wait, WAIT_S)
        assert not errors, errors
        return offset

    def bytes_of(self, topic: str = "t", index: int = 0) -> bytes:
        held = self.partition(topic, index).log
        assert held is not None
        return held.read(held.log_start_offset, 1 << 30, up_to=held.log_end_offset)


@asynccontextmanager
async def cluster(
    directory: Path, count: int = 3, **settings: Any
) -> AsyncIterator[tuple[Metadata, dict[int, LiveNode]]]:
    metadata = Metadata()
    nodes = {id: LiveNode(id, metadata, directory) for id in range(1, count + 1)}
    try:
        for node in nodes.values():
            await node.start(**settings)
        yield metadata, nodes
    finally:
        for node in nodes.values():
            await node.stop()
