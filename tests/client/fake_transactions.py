"""The transaction and group coordinators of the fake brokers, whose answers a test loses or replaces."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kio.schema.errors import ErrorCode

from ottla.client import TopicPartition
from ottla.client.producer.batch import ProducerIdentity
from ottla.records import Record, decode_batch, encode_batch, iter_headers, read_header
from ottla.wire import CLOSE, Feature
from tests.client.txn_model import ModelCoordinator, TxnState

if TYPE_CHECKING:
    from tests.client.fake import FakeCluster, FakePartition

_MARKER = struct.Struct(">hh")

COORDINATED = {"init_producer_id", "add_partitions_to_txn", "add_offsets_to_txn", "end_txn", "txn_offset_commit"}
"""What only the coordinator takes."""

Fault = ErrorCode | str | None


class FakeTransactions:
    """`leader` is the node that coordinates everything. `fault` is asked about each request by its name: an error code
    that is given instead of an answer, "close" before it is looked at, "close after", or None."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.model = ModelCoordinator()
        self.leader = 1
        self.level: int | None = 2
        self.fault: Callable[[str], Fault] = lambda name: None
        self._marked = 0

    def features(self) -> tuple[list[Feature], int]:
        return [Feature("transaction.version", 0, 2, self.level)], 1

    def apis(self) -> list[tuple[int, str, int, int, Any]]:
        served = [
            (10, "find_coordinator", 0, 5, self._find),
            (22, "init_producer_id", 0, 5, self._init),
            (24, "add_partitions_to_txn", 0, 3, self._add_partitions),
            (25, "add_offsets_to_txn", 0, 4, self._add_offsets),
            (26, "end_txn", 0, 5, self._end),
            (28, "txn_offset_commit", 0, 5, self._commit_offsets),
            (65, "describe_transactions", 0, 0, self._describe),
            (66, "list_transactions", 0, 2, self._list),
            (27, "write_txn_markers", 1, 1, self._write_markers),
            (61, "describe_producers", 0, 0, self._describe_producers),
        ]
        return [(key, name, low, high, self._faulty(name, handler)) for key, name, low, high, handler in served]

    def mark(self) -> None:
        """Write the markers of what has ended since."""
        ended = self.model.ended
        while self._marked < len(ended):
            end = ended[self._marked]
            self._marked += 1
            for tp in sorted(end.partitions):
                self._partition(tp).append(marker(end.identity, commit=end.commit))

    def refuse(self, version: int, transactional_id: str, tp: TopicPartition, batch: bytes) -> ErrorCode:
        """What the leader of a partition says of a transactional batch (KIP-890)."""
        header = read_header(batch)
        who = ProducerIdentity(header.producer_id, header.producer_epoch)
        if version >= 12:
            return self.model.add(transactional_id, who, {tp})
        return self.model.verify(transactional_id, who, tp)

    def _faulty(self, name: str, handler: Callable[[int, Any], tuple[dict[str, Any], Any]]) -> Any:
        async def handle(node: int, body: Any) -> Any:
            fault = self.fault(name)
            if fault == "close":
                return CLOSE
            if name in COORDINATED and node != self.leader and getattr(body, "transactional_id", "") is not None:
                fault = ErrorCode.not_coordinator
            if isinstance(fault, ErrorCode):
                return handler(node, body, fault)
            answer = handler(node, body, None)
            self.mark()
            return CLOSE if fault == "close after" else answer

        return handle

    def _find(self, node: int, body: Any, fault: ErrorCode | None) -> Any:
        keys = getattr(body, "coordinator_keys", None) or (body.key,)
        row = {"error_code": fault or ErrorCode.none, "node_id": self.leader, "host": "127.0.0.1"}
        row["port"] = self.cluster.ports[self.leader]
        return {**row, "coordinators": [{"key": key, **row} for key in keys]}

    def _init(self, node: int, body: Any, fault: ErrorCode | None) -> Any:
        if body.transactional_id is None:
            return {"producer_id": 4711, "producer_epoch": 0}
        if fault is not None:
            return {"error_code": fault, "producer_id": -1, "producer_epoch": -1}
        producer_id = getattr(body, "producer_id", -1)
        given = ProducerIdentity(producer_id, body.producer_epoch) if producer_id >= 0 else None
        code, who = self.model.init(body.transactional_id, given)
        producer_id, epoch = who or (-1, -1)
        return {"error_code": code, "producer_id": producer_id, "producer_epoch": epoch}

    def _add_partitions(self, node: int, body: Any, fault: ErrorCode | None) -> Any:
        asked = [TopicPartition(topic.name, index) for topic in body.v3_and_below_topics for index in topic.partitions]
        who = ProducerIdentity(body.v3_and_below_producer_id, body.v3_and_below_producer_epoch)
        code = fault or self.model.add(body.v3_and_below_transactional_id, who, set(asked))
        rows = [
            {
                "name": tp.topic,
                "results_by_partition": [{"partition_index": tp.partition, "partition_error_code": code}],
            }
            for tp in asked
        ]
        return {"results_by_topic_v3_and_below": rows}

    def _add_offsets(self, node: int, body: Any, fault: ErrorCode | None) -> Any:
        return {"error_code": fault or self.model.add_group(body.transactional_id, _who(body), body.group_id)}

    def _commit_offsets(self, node: int, body: Any, fault: ErrorCode | None) -> Any:
        offsets = {
            TopicPartition(topic.name, row.partition_index): row.committed_offset
            for topic in body.topics
            for row in topic.partitions
        }
        second = body.__version__ >= 5
        code = fault or self.model.commit_offsets(
            body.transactional_id, _who(body), body.group_id, offsets, second=second
        )
        rows = [
            {"name": tp.topic, "partitions": [{"partition_index": tp.partition, "error_code": code}]} for tp in offsets
        ]
        return {"topics": rows}

    def _end(self, node: int, body: Any, fault: ErrorCode | None) -> Any:
        if fault is not None:
            return {"error_code": fault, "producer_id": -1, "producer_epoch": -1}
        second = body.__version__ >= 5
        code, who = self.model.end(body.transactional_id, _who(body), commit=body.committed, second=second)
        producer_id, epoch = who or (-1, -1)
        return {"error_code": code, "producer_id": producer_id, "producer_epoch": epoch}

    def _describe(self, node: int, body: Any, fault: ErrorCode | None) -> Any:
        rows = []
        for name in body.transactional_ids:
            txn = self.model.txns.get(name)
            if txn is None or node != self.leader:
                code = ErrorCode.transactional_id_not_found if node == self.leader else ErrorCode.not_coordinator
                rows.append({"error_code": code, "transactional_id": name})
                continue
            topics = [{"topic": tp.topic, "partitions": (tp.partition,)} for tp in sorted(txn.partitions)]
            row = {
                "transactional_id": name,
                "transaction_state": txn.state.value,
                "transaction_timeout": 60000,
                "transaction_start_time": 1_700_000_000_000 if topics else -1,
                "producer_id": txn.identity.producer_id,
                "producer_epoch": txn.identity.epoch,
                "topics": topics,
            }
            rows.append(row)
        return {"transaction_states": rows}

    def _list(self, node: int, body: Any, fault: ErrorCode | None) -> Any:
        unknown = [state for state in body.state_filters if state not in {state.value for state in TxnState}]
        rows = [
            {
                "transactional_id": name,
                "producer_id": txn.identity.producer_id,
                "transaction_state": txn.state.value,
            }
            for name, txn in self.model.txns.items()
            if node == self.leader
            and (not body.state_filters or txn.state.value in body.state_filters)
            and (not body.producer_id_filters or txn.identity.producer_id in body.producer_id_filters)
        ]
        return {"error_code": fault or ErrorCode.none, "unknown_state_filters": unknown, "transaction_states": rows}

    def _write_markers(self, node: int, body: Any, fault: ErrorCode | None) -> Any:
        answers = []
        for row in body.markers:
            topics = []
            for topic in row.topics:
                for index in topic.partition_indexes:
                    partition = self._partition(TopicPartition(topic.name, index))
                    code = ErrorCode.none if partition.leader == node else ErrorCode.not_leader_or_follower
                    if code is ErrorCode.none:
                        who = ProducerIdentity(row.producer_id, row.producer_epoch)
                        partition.append(marker(who, commit=row.transaction_result))
                    topics.append({"name": topic.name, "partitions": [{"partition_index": index, "error_code": code}]})
            answers.append({"producer_id": row.producer_id, "topics": topics})
        return {"markers": answers}

    def _describe_producers(self, node: int, body: Any, fault: ErrorCode | None) -> Any:
        topics = []
        for topic in body.topics:
            for index in topic.partition_indexes:
                partition = self._partition(TopicPartition(topic.name, index))
                code = ErrorCode.none if partition.leader == node else ErrorCode.not_leader_or_follower
                row = {"partition_index": index, "error_code": code, "active_producers": producers(partition.batches)}
                topics.append({"name": topic.name, "partitions": [row]})
        return {"topics": topics}

    def _partition(self, tp: TopicPartition) -> FakePartition:
        return self.cluster.topics[tp.topic][1][tp.partition]


def _who(body: Any) -> ProducerIdentity:
    return ProducerIdentity(body.producer_id, body.producer_epoch)


def marker(who: ProducerIdentity, *, commit: bool) -> bytes:
    """A control batch that ends a transaction."""
    record = Record(0, 1000, _MARKER.pack(0, int(commit)), struct.pack(">hi", 0, 0))
    return encode_batch(
        [record], producer_id=who.producer_id, producer_epoch=who.epoch, transactional=True, control=True
    )


def stable_end(data: bytes) -> int | None:
    """Where the first transaction begins that is still open, None if there is none."""
    began: dict[int, int] = {}
    for _, header in iter_headers(data):
        if header.is_control:
            began.pop(header.producer_id, None)
        elif header.is_transactional:
            began.setdefault(header.producer_id, header.base_offset)
    return min(began.values(), default=None)


def aborted(data: bytes) -> list[dict[str, int]]:
    """The aborted transactions among these batches, as a Fetch answer has them."""
    began: dict[int, int] = {}
    found = []
    for pos, header in iter_headers(data):
        if not header.is_control:
            if header.is_transactional:
                began.setdefault(header.producer_id, header.base_offset)
            continue
        first = began.pop(header.producer_id, None)
        commit = _MARKER.unpack(decode_batch(data, pos)[0].key or b"")[1]
        if first is not None and not commit:
            found.append({"producer_id": header.producer_id, "first_offset": first})
    return found


def producers(batches: list[bytes]) -> list[dict[str, int]]:
    """What a partition knows of its producers, as DescribeProducers has it."""
    known: dict[int, dict[str, int]] = {}
    for header in map(read_header, batches):
        row = known.setdefault(
            header.producer_id,
            {"producer_id": header.producer_id, "coordinator_epoch": -1, "current_txn_start_offset": -1},
        )
        row.update(producer_epoch=header.producer_epoch, last_timestamp=header.max_timestamp)
        if header.is_control:
            row.update(coordinator_epoch=0, current_txn_start_offset=-1)
        elif row["current_txn_start_offset"] < 0:
            row.update(last_sequence=header.base_sequence, current_txn_start_offset=header.base_offset)
    return list(known.values())
