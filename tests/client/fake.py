"""A small cluster of fake brokers on real sockets, whose leaders, answers and faults a test sets by hand."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from kio.schema.errors import ErrorCode

from ottla.client import TopicPartition
from ottla.records import Record, encode_batch, iter_headers, read_header, stamped_prefix
from ottla.wire import CLOSE, NO_RESPONSE, Api, KafkaServer, Registry, Request
from tests.client import fake_groups
from tests.client.fake_transactions import FakeTransactions, aborted, stable_end


class FakePartition:
    """A log that all fake brokers share; only the leader serves it."""

    def __init__(self, leader: int) -> None:
        self.leader = leader
        self.epoch = 0
        self.batches: list[bytes] = []
        self.changed = asyncio.Event()

    @property
    def end(self) -> int:
        return read_header(self.batches[-1]).next_offset if self.batches else 0

    def append(self, batch: bytes) -> tuple[ErrorCode, int]:
        header = read_header(batch)
        if header.producer_id >= 0 and not header.is_control:
            for old in map(read_header, self.batches):
                mine = (old.producer_id, old.producer_epoch, old.base_sequence)
                if mine == (header.producer_id, header.producer_epoch, header.base_sequence):
                    return ErrorCode.none, old.base_offset
        offset = self.end
        prefix = stamped_prefix(header, offset, self.epoch)
        self.batches.append(prefix + bytes(batch[len(prefix) :]))
        self.changed.set()
        self.changed = asyncio.Event()
        return ErrorCode.none, offset

    def write(self, *values: bytes) -> None:
        """Records that some other producer wrote, each in a batch of its own."""
        for value in values:
            self.append(encode_batch([Record(0, 1000 + self.end, None, value)]))

    def epoch_end(self, epoch: int) -> tuple[int, int]:
        """The largest epoch not above `epoch`, and its end offset."""
        found, end = -1, -1
        for header in map(read_header, self.batches):
            if header.leader_epoch <= epoch:
                found, end = header.leader_epoch, header.next_offset
        return found, end


class FakeCluster:
    """Brokers 1 to n. `faults` is asked before each Produce: an error code, "close" or "close after" or None."""

    def __init__(self, nodes: int = 2) -> None:
        self.requests: Counter[tuple[int, str]] = Counter()
        self.topics: dict[str, tuple[uuid.UUID, dict[int, FakePartition]]] = {}
        self.ports: dict[int, int] = {}
        self.paused: dict[int, asyncio.Event] = {}
        self.hints = True
        self.preferred: dict[str, int] = {}
        """Which node the leader names to consumers of a rack (KIP-392); that one serves them too."""
        self.produce_fault: Callable[[int], ErrorCode | str | None] = lambda node: None
        self.quorum: Callable[[int], dict[str, Any]] = quorum_led_by_2
        self.transactions = FakeTransactions(self)
        self.refusals: dict[str, ErrorCode] = {}
        """By the name of an API, the error code that everything in its answers gets."""
        self._servers: dict[int, KafkaServer] = {}
        self._nodes = nodes

    async def start(self) -> None:
        for node in range(1, self._nodes + 1):
            await self.start_node(node)

    async def start_node(self, node: int) -> None:
        registry = Registry(self.transactions.features)
        for key, name, low, high, handler in (
            (0, "produce", 3, 12, self._produce),
            (1, "fetch", 4, 17, self._fetch),
            (2, "list_offsets", 1, 9, self._list_offsets),
            (3, "metadata", 1, 13, self._metadata),
            (55, "describe_quorum", 0, 2, self._describe_quorum),
            (23, "offset_for_leader_epoch", 2, 4, self._epochs),
            *self.transactions.apis(),
            *fake_groups.APIS,
        ):
            registry.add(Api(key, name, low, high, self._bind(node, key, name, handler)))
        server = KafkaServer(registry)
        loop = asyncio.get_running_loop()
        self.ports[node] = await server.start(loop, "127.0.0.1", self.ports.get(node, 0), "PLAINTEXT")
        self._servers[node] = server

    async def kill(self, node: int) -> None:
        await self._servers.pop(node).stop(grace_s=0)

    async def stop(self) -> None:
        for event in self.paused.values():
            event.set()
        for node in list(self._servers):
            await self.kill(node)

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports.values())

    def create(self, topic: str, partitions: int = 1, leader: int = 1) -> dict[int, FakePartition]:
        made = {index: FakePartition(leader) for index in range(partitions)}
        self.topics[topic] = (uuid.uuid4(), made)
        return made

    def elect(self, tp: TopicPartition, leader: int) -> None:
        partition = self.topics[tp.topic][1][tp.partition]
        partition.leader, partition.epoch = leader, partition.epoch + 1
        partition.changed.set()
        partition.changed = asyncio.Event()

    def pause(self, node: int) -> None:
        """The node takes requests and answers none, like a stopped process."""
        self.paused[node] = asyncio.Event()

    def _bind(self, node: int, key: int, name: str, handler: Any) -> Callable[[Request], Awaitable[Any]]:
        async def bound(request: Request) -> Any:
            self.requests[node, name] += 1
            if node in self.paused:
                await self.paused[node].wait()
                return CLOSE
            answer = await (
                handler(node, request.body, request.api_version) if key == 0 else handler(node, request.body)
            )
            return refused(answer, self.refusals[name]) if name in self.refusals else answer

        return bound

    async def _metadata(self, node: int, body: Any) -> Any:
        names = list(self.topics) if body.topics is None else [topic.name for topic in body.topics]
        return {
            "brokers": [
                {"node_id": n, "host": "127.0.0.1", "port": port}
                for n, port in self.ports.items()
                if n in self._servers
            ],
            "cluster_id": "fake",
            "controller_id": 1,
            "topics": [self._describe(name) for name in names],
        }

    def _describe(self, name: str) -> dict[str, Any]:
        if name not in self.topics:
            code = ErrorCode.unknown_topic_or_partition
            return {"error_code": code, "name": name, "topic_id": None, "partitions": []}
        topic_id, partitions = self.topics[name]
        described = [
            {"partition_index": i, "leader_id": p.leader, "leader_epoch": p.epoch, "replica_nodes": (1, 2)}
            for i, p in partitions.items()
        ]
        return {"error_code": ErrorCode.none, "name": name, "topic_id": topic_id, "partitions": described}

    async def _describe_quorum(self, node: int, body: Any) -> Any:
        partition = {"partition_index": 0, **self.quorum(node)}
        return {"topics": [{"topic_name": "__cluster_metadata", "partitions": [partition]}]}

    async def _produce(self, node: int, body: Any, version: int) -> Any:
        fault = self.produce_fault(node)
        if fault == "close":
            return CLOSE
        topics = []
        for topic in body.topic_data:
            partitions = self.topics[topic.name][1]
            answers = []
            for entry in topic.partition_data:
                partition = partitions[entry.index]
                code, offset = ErrorCode.not_leader_or_follower, -1
                if isinstance(fault, ErrorCode):
                    code = fault
                elif partition.leader == node:
                    code = ErrorCode.none
                    if body.transactional_id is not None:
                        tp = TopicPartition(topic.name, entry.index)
                        code = self.transactions.refuse(version, body.transactional_id, tp, entry.records)
                    if code is ErrorCode.none:
                        code, offset = partition.append(entry.records)
                hint = self._hint(partition) if code is ErrorCode.not_leader_or_follower else {}
                answers.append({"index": entry.index, "error_code": code, "base_offset": offset, **hint})
            topics.append({"name": topic.name, "partition_responses": answers})
        if fault == "close after":
            return CLOSE
        if body.acks == 0:
            return NO_RESPONSE
        return {"responses": topics, "node_endpoints": self._endpoints()}

    def _hint(self, partition: FakePartition) -> dict[str, Any]:
        if not self.hints:
            return {}
        return {"current_leader": {"leader_id": partition.leader, "leader_epoch": partition.epoch}}

    def _endpoints(self) -> list[dict[str, Any]]:
        return [{"node_id": n, "host": "127.0.0.1", "port": p} for n, p in self.ports.items()] if self.hints else []

    async def _fetch(self, node: int, body: Any) -> Any:
        names = {topic_id: name for name, (topic_id, _) in self.topics.items()}
        asked = [(names[t.topic_id], p) for t in body.topics for p in t.partitions]
        preferred = self.preferred.get(body.rack_id)
        committed = bool(body.isolation_level)
        answers = [(name, self._read(node, name, p, preferred, committed)) for name, p in asked]
        named = any(a.get("preferred_read_replica", -1) >= 0 for _, a in answers)
        if not named and not any(a["records"] or a["error_code"] or "diverging_epoch" in a for _, a in answers):
            waits = [asyncio.ensure_future(self.topics[n][1][p.partition].changed.wait()) for n, p in asked]
            await asyncio.wait(waits, timeout=body.max_wait.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            answers = [(name, self._read(node, name, p, preferred, committed)) for name, p in asked]
        responses = [{"topic_id": self.topics[name][0], "partitions": [answer]} for name, answer in answers]
        return {"responses": responses, "node_endpoints": self._endpoints()}

    def _read(
        self, node: int, name: str, asked: Any, preferred: int | None = None, committed: bool = False
    ) -> dict[str, Any]:
        partition = self.topics[name][1][asked.partition]
        answer: dict[str, Any] = {
            "partition_index": asked.partition,
            "error_code": ErrorCode.none,
            "high_watermark": partition.end,
            "log_start_offset": 0,
            "records": b"",
            "aborted_transactions": None,
        }
        if partition.leader != node != preferred:
            return {**answer, "error_code": ErrorCode.not_leader_or_follower, **self._hint(partition)}
        if preferred in self._servers and preferred != node:
            return {**answer, "preferred_read_replica": preferred}
        if asked.current_leader_epoch not in (-1, partition.epoch):
            older = asked.current_leader_epoch < partition.epoch
            code = ErrorCode.fenced_leader_epoch if older else ErrorCode.unknown_leader_epoch
            return {**answer, "error_code": code}
        if asked.last_fetched_epoch >= 0:
            epoch, end = partition.epoch_end(asked.last_fetched_epoch)
            if end < asked.fetch_offset:
                return {**answer, "diverging_epoch": {"epoch": epoch, "end_offset": end}}
        if not 0 <= asked.fetch_offset <= partition.end:
            return {**answer, "error_code": ErrorCode.offset_out_of_range}
        whole = b"".join(partition.batches)
        first_open = stable_end(whole)
        stable = partition.end if first_open is None else first_open
        data = b"".join(
            whole[pos : pos + header.size]
            for pos, header in iter_headers(whole)
            if header.last_offset >= asked.fetch_offset and (not committed or header.base_offset < stable)
        )
        aborts = aborted(whole) if committed else None
        return {**answer, "records": data, "last_stable_offset": stable, "aborted_transactions": aborts}

    async def _list_offsets(self, node: int, body: Any) -> Any:
        return {
            "topics": [
                {"name": t.name, "partitions": [self._offset(node, t.name, p) for p in t.partitions]}
                for t in body.topics
            ]
        }

    def _offset(self, node: int, name: str, asked: Any) -> dict[str, Any]:
        partition = self.topics[name][1][asked.partition_index]
        answer = {"partition_index": asked.partition_index, "error_code": ErrorCode.none, "timestamp": -1}
        if partition.leader != node:
            return {**answer, "error_code": ErrorCode.not_leader_or_follower, "offset": -1}
        if asked.timestamp < 0:
            return {**answer, "offset": partition.end if asked.timestamp == -1 else 0}
        for header in map(read_header, partition.batches):
            if header.max_timestamp >= asked.timestamp:
                return {**answer, "offset": header.base_offset, "timestamp": header.max_timestamp}
        return {**answer, "offset": -1}

    async def _epochs(self, node: int, body: Any) -> Any:
        topics = []
        for topic in body.topics:
            answers = []
            for asked in topic.partitions:
                epoch, end = self.topics[topic.topic][1][asked.partition].epoch_end(asked.leader_epoch)
                row = {"partition": asked.partition, "leader_epoch": epoch, "end_offset": end}
                answers.append({"error_code": ErrorCode.none, **row})
            topics.append({"topic": topic.topic, "partitions": answers})
        return {"topics": topics}


def refused(answer: Any, code: ErrorCode) -> Any:
    """The same answer with this code wherever it has one."""
    if isinstance(answer, dict):
        return {key: code if key == "error_code" else refused(value, code) for key, value in answer.items()}
    return [refused(each, code) for each in answer] if isinstance(answer, list) else answer


def quorum_led_by_2(node: int) -> dict[str, Any]:
    """How the brokers of this project answer DescribeQuorum: only the leader knows how far the voters are."""
    leads = node == 2
    return {
        "error_code": ErrorCode.none if leads else ErrorCode.not_leader_or_follower,
        "leader_id": 2,
        "leader_epoch": 5,
        "high_watermark": 10 if leads else 9,
        "current_voters": [{"replica_id": voter, "log_end_offset": 10 if leads else -1} for voter in (1, 2)],
        "observers": [],
    }
