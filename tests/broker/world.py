"""A broker for tests: real handlers, real partitions on a real log, a controller and a view that a test can steer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.broker import Broker, GroupConfig, QuorumMember, QuorumStatus, TransactionConfig
from ottla.broker.replication import ClusterCredentials, FetchWait, Partition, ProduceWait, leading, nearby
from ottla.broker.replication.fetch_wait import NEWS_WITHIN_S
from ottla.broker.replication.host import PartitionHost
from ottla.controller import (
    BrokerImage,
    ConfigDef,
    Listener,
    MetadataImage,
    PartitionImage,
    RpcRequest,
    RpcResponse,
    TopicImage,
)
from ottla.log import Disk, GroupCommit, LogConfig, PartitionLog, Volume
from ottla.node.definitions import BROKER_CONFIGS
from ottla.records import Compression, Record, encode_batch
from ottla.wire import Connection, Later, Raw, Request, build, decode, encode, request_type, response_type

NODE = 1
NOW_MS = 1_700_000_000_000
LISTENER = "PLAINTEXT"


def topic_id(name: str) -> UUID:
    return UUID(int=int.from_bytes(name.encode().ljust(16, b"\1")[:16], "big"))


def batch(
    count: int = 1,
    *,
    value: bytes = b"v",
    timestamp: int = NOW_MS,
    compression: int = Compression.NONE,
    **kwargs: Any,
) -> bytes:
    records = [Record(index, timestamp, b"k%d" % index, value, ()) for index in range(count)]
    return encode_batch(records, compression=compression, **kwargs)


def broker_image(broker_id: int, *, fenced: bool = False, listeners: tuple[str, ...] = (LISTENER,)) -> BrokerImage:
    addresses = tuple(Listener(name, f"{name.lower()}-{broker_id}", 9000 + broker_id) for name in listeners)
    return BrokerImage(
        id=broker_id, epoch=10 + broker_id, incarnation=f"i{broker_id}", listeners=addresses, rack="r", fenced=fenced
    )


@dataclass
class FakeConfig:
    node_id: int = NODE
    auto_create_topics_enable: bool = True
    delete_topic_enable: bool = True
    fetch_max_bytes: int = 55 * 1024 * 1024
    max_incremental_fetch_session_cache_slots: int = 10
    max_request_partition_size_limit: int = 2000
    replica_selector_class: str = ""
    values: dict[str, str] = field(default_factory=dict)

    @property
    def definitions(self) -> Mapping[str, ConfigDef]:
        return BROKER_CONFIGS

    def kafka_values(self) -> Mapping[str, str]:
        return self.values


class FakeView:
    def __init__(self) -> None:
        self.image = MetadataImage(cluster_id="cluster", brokers={id: broker_image(id) for id in (1, 2, 3)}, offset=1)
        self.waited_for: list[int] = []

    async def wait_for(self, offset: int, timeout: float) -> None:
        self.waited_for.append(offset)


class FakeController:
    """Answers with what `answers` gives for the request's type; an exception there is raised."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.answers: dict[type, Callable[[Any], RpcResponse]] = {}

    async def call(self, request: RpcRequest[Any], *, timeout: float = 30.0) -> Any:
        self.calls.append(request)
        await asyncio.sleep(0)
        return self.answers[type(request)](request)


class FakeReplicas:
    def __init__(self, view: FakeView, disk: Disk) -> None:
        self._view = view
        self.disk = disk
        self.run_blocking = GroupCommit().run_blocking
        self.partitions: dict[tuple[str, int], Partition] = {}

    def partition(self, topic: str, index: int) -> Partition | ErrorCode:
        found = self.partitions.get((topic, index))
        if found is not None:
            return found
        known = self._view.image.partition(topic, index) is not None
        return ErrorCode.not_leader_or_follower if known else ErrorCode.unknown_topic_or_partition

    def partition_by_id(self, topic_id: UUID, index: int) -> Partition | ErrorCode:
        topic = self._view.image.topic_by_id(topic_id)
        if topic is None:
            return ErrorCode.unknown_topic_id
        found = self.partition(topic.name, index)
        if isinstance(found, Partition) and found.topic_id != topic_id:
            return ErrorCode.inconsistent_topic_id
        return found

    log_directory = "data"

    async def volume(self) -> Volume:
        return self.disk.volume(self.log_directory)

    def append(self, partition: Partition, batch: Any, header: Any, *, acks: Any, **more: Any) -> Any:
        return leading.append(partition, batch, header, acks=acks, now_ms=NOW_MS, **more)

    def produce_wait(self) -> ProduceWait:
        return ProduceWait(asyncio.get_running_loop())

    read = staticmethod(leading.read)
    read_for_follower = staticmethod(leading.read_for_follower)
    read_as_follower = staticmethod(nearby.read_as_follower)

    def fetch_wait(self, min_bytes: int, deadline: float, *, news_within: float = NEWS_WITHIN_S) -> FetchWait:
        return FetchWait(asyncio.get_running_loop(), min_bytes, deadline, news_within)


def verifications(request: Any, error: ErrorCode = ErrorCode.none) -> Mapping[str, Any]:
    """An AddPartitionsToTxn response in which every partition gets the error."""
    return {
        "results_by_transaction": [
            {
                "transactional_id": transaction.transactional_id,
                "topic_results": [
                    {
                        "name": topic.name,
                        "results_by_partition": [
                            {"partition_index": index, "partition_error_code": error} for index in topic.partitions
                        ],
                    }
                    for topic in transaction.topics
                ],
            }
            for transaction in request.transactions
        ]
    }


def _future(later: Later) -> asyncio.Future[Any]:
    """What the wire makes of it; cancelling it stands for a client that goes away."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def receive(answer: Any, error: Exception | None) -> None:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(answer)

    later.receive = receive
    future.add_done_callback(lambda done: later.unwanted() if done.cancelled() else None)
    return future


class FakePeer:
    """The other end of a connection to a broker."""

    def __init__(self, peers: FakePeers, node_id: int) -> None:
        self._peers = peers
        self.node_id = node_id
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def call(self, key: int, version: int, values: Mapping[str, Any], *, timeout: float) -> Any:
        built = build(request_type(key, version), values)
        request = decode(request_type(key, version), encode(request_type(key, version), built))
        self._peers.calls.append((self.node_id, key, request))
        answer = await self._peers.answer(self.node_id, key, request)
        return build(response_type(key, version), answer)

    def abort(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


class FakePeers:
    """Other brokers, as far as this one asks them. By default they write every transaction marker."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, Any]] = []
        self.answer: Callable[[int, int, Any], Awaitable[Mapping[str, Any]]] = self.write_markers

    async def __call__(self, endpoint: Any) -> Any:
        await asyncio.sleep(0)
        return FakePeer(self, endpoint.node_id)

    async def write_markers(self, node_id: int, key: int, request: Any) -> Mapping[str, Any]:
        await asyncio.sleep(0)
        return marker_answers(request, lambda marker, topic, index: ErrorCode.none)


def marker_answers(request: Any, error: Callable[[Any, str, int], ErrorCode]) -> Mapping[str, Any]:
    """A WriteTxnMarkers response in which every partition gets the error that is given for it."""
    return {
        "markers": [
            {
                "producer_id": marker.producer_id,
                "topics": [
                    {
                        "name": topic.name,
                        "partitions": [
                            {"partition_index": index, "error_code": error(marker, topic.name, index)}
                            for index in topic.partition_indexes
                        ],
                    }
                    for topic in marker.topics
                ],
            }
            for marker in request.markers
        ]
    }


class World:
    """Node 1 of three, with the partitions that `add_topic` makes it lead or follow."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.config = FakeConfig()
        self.view = FakeView()
        self.controller = FakeController()
        self.replicas = FakeReplicas(self.view, disk)
        self.now_ms = NOW_MS
        self.timer_s = 0.0
        self.tick_s = 0.0
        self.quorum = QuorumStatus(
            NODE, NODE, 7, 40, (1, 2, 3), (QuorumMember(1, 41, True), QuorumMember(2, 40, True, 250, 700))
        )
        self.peers = FakePeers()
        self.proposals: list[Any] = []
        loop = asyncio.get_running_loop()
        self.host = PartitionHost(
            node_id=NODE,
            max_lag_s=30.0,
            now=loop.time,
            eligible=lambda: {broker.id: broker.epoch for broker in self.view.image.brokers.values()},
            propose=lambda partition, proposal: self.proposals.append(proposal),
            storage_failed=lambda partition, error: None,
            group=GroupCommit(),
        )
        self.broker = Broker(
            self.config,
            view=self.view,
            controller=self.controller,
            replicas=self.replicas,  # type: ignore[arg-type]
            credentials=ClusterCredentials("cluster", NODE, b"secret"),
            quorum=lambda: self.quorum,
            broker_epoch=lambda: 11,
            clock=lambda: self.now_ms,
            timer=self._timer,
            rng=random.Random(1),
            nonce=lambda: b"n" * 32,
            open_connection=self.peers,
            inter_broker_listener=LISTENER,
            groups=GroupConfig(group_initial_rebalance_delay_ms=0),
            transactions=TransactionConfig(),
        )

    def _timer(self) -> float:
        """What code takes: `tick_s` from one look to the next."""
        self.timer_s += self.tick_s
        return self.timer_s

    # The cluster

    def update(self, **changes: Any) -> None:
        self.view.image = replace(self.view.image, **changes)

    async def close(self) -> None:
        """The logs keep no files open: there are thousands of them in all tests."""
        await self.broker.close()
        for partition in self.replicas.partitions.values():
            if partition.log is not None:
                partition.log.abandon()

    def add_topic(
        self,
        name: str,
        partitions: int = 1,
        *,
        replicas: tuple[int, ...] = (1,),
        isr: tuple[int, ...] | None = None,
        leader: int = NODE,
        leader_epoch: int = 5,
        min_insync: int = 1,
        log_config: LogConfig | None = None,
    ) -> list[Partition]:
        image = PartitionImage(replicas, replicas if isr is None else isr, leader, leader_epoch, 0)
        topic = TopicImage(topic_id(name), name, dict.fromkeys(range(partitions), image))
        self.update(
            topics={**self.view.image.topics, name: topic},
            topic_names={**self.view.image.topic_names, topic.id: name},
            offset=self.view.image.offset + 1,
        )
        made = []
        for index in range(partitions) if NODE in replicas else ():
            log = PartitionLog.open(
                self.disk, f"data/{name}-{index}", log_config or LogConfig(), clean=True, now_ms=NOW_MS
            )
            partition = Partition(self.host, name, topic.id, index, log, min_insync=min_insync)
            (partition.become_leader if leader == NODE else partition.become_follower)(image)
            self.replicas.partitions[name, index] = partition
            made.append(partition)
        return made

    def forget_topic(self, name: str) -> None:
        """It is no topic any more, as far as the metadata goes."""
        image = self.view.image
        self.update(
            topics={each: topic for each, topic in image.topics.items() if each != name},
            topic_names={topic: each for topic, each in image.topic_names.items() if each != name},
            offset=image.offset + 1,
        )

    async def coordinate(self, partitions: int = 1, **more: Any) -> list[Partition]:
        """Lead the partitions of `__consumer_offsets`, and serve their groups when this returns."""
        made = self.add_topic("__consumer_offsets", partitions, **more)
        self.broker.apply(self.view.image)
        await self.broker.groups.replayed()
        return made

    async def coordinate_transactions(self, partitions: int = 1, **more: Any) -> list[Partition]:
        """Lead the partitions of `__transaction_state`, and serve their ids when this returns."""
        made = self.add_topic("__transaction_state", partitions, **more)
        self.broker.apply(self.view.image)
        await self.broker.transactions.replayed()
        return made

    def set_config(self, kind: str, name: str, **values: str) -> None:
        given = {key.replace("_", "."): value for key, value in values.items()}
        self.update(configs={**self.view.image.configs, (kind, name): given})

    def set_levels(self, epoch: int = 30, **levels: int) -> None:
        """The finalised levels of features, given as `transaction_version=1`."""
        named = {name.replace("_", "."): level for name, level in levels.items()}
        self.update(features=named, features_epoch=epoch)

    # A client

    def start(
        self, key: int, version: int, values: Mapping[str, Any], *, connection: Connection | None = None
    ) -> tuple[Any, Any]:
        """(the handler's answer as it is, the route)."""
        route = self.broker.registry.route(key, version)
        assert route is not None, f"no route for key {key} v{version}"
        body = route.parse(encode(request_type(key, version), build(request_type(key, version), values)), 0)
        request = Request(
            key,
            version,
            1,
            "client",
            body,
            connection or Connection(LISTENER, "peer"),
            asyncio.get_running_loop().time(),
        )
        answer = route.api.handler(request)
        return (_future(answer) if isinstance(answer, Later) else answer), route

    async def call(
        self, key: int, version: int, values: Mapping[str, Any], *, connection: Connection | None = None
    ) -> Any:
        """The decoded response, or NO_RESPONSE or CLOSE."""
        answer, route = self.start(key, version, values, connection=connection)
        if isinstance(answer, Awaitable):
            async with asyncio.timeout(10):
                answer = await answer
        return self.decoded(key, version, answer, route)

    def decoded(self, key: int, version: int, answer: Any, route: Any) -> Any:
        if isinstance(answer, Raw):
            body = b"".join(bytes(chunk) for chunk in answer.chunks)
        elif isinstance(answer, Mapping):
            body = route.encode(answer)
        else:
            return answer
        return decode(response_type(key, version), body)

    # Produce and fetch in short

    def produce_values(
        self, topic: str, batches: Mapping[int, bytes | None], *, acks: int = 1, timeout: int = 1000, **more: Any
    ) -> dict[str, Any]:
        rows = [{"index": index, "records": records} for index, records in batches.items()]
        return {
            "acks": acks,
            "timeout": timeout,
            "topic_data": [{"name": topic, "topic_id": topic_id(topic), "partition_data": rows}],
            **more,
        }

    async def produce(
        self, topic: str, records: bytes | None, *, index: int = 0, version: int = 12, **kwargs: Any
    ) -> Any:
        """The one partition's response, or NO_RESPONSE or CLOSE."""
        response = await self.call(0, version, self.produce_values(topic, {index: records}, **kwargs))
        if not hasattr(response, "responses"):
            return response
        return response.responses[0].partition_responses[0]

    def fetch_values(
        self, version: int, wanted: Mapping[str, Sequence[Mapping[str, Any]]], **more: Any
    ) -> dict[str, Any]:
        key = "topic_id" if version >= 13 else "topic"
        values = {"max_wait": 0, "min_bytes": 1, "max_bytes": 1 << 20, "session_epoch": -1, **more}
        values["topics"] = [
            {
                key: topic_id(name) if version >= 13 else name,
                "partitions": [{"partition_max_bytes": 1 << 20, **row} for row in rows],
            }
            for name, rows in wanted.items()
        ]
        return values

    async def fetch(self, topic: str, offset: int = 0, *, index: int = 0, version: int = 17, **more: Any) -> Any:
        """The one partition's response."""
        row = {"partition": index, "fetch_offset": offset}
        for name in ("partition_max_bytes", "current_leader_epoch", "last_fetched_epoch"):
            if name in more:
                row[name] = more.pop(name)
        connection = more.pop("connection", None)
        values = self.fetch_values(version, {topic: [row]}, **more)
        response = await self.call(1, version, values, connection=connection)
        return response.responses[0].partitions[0]
