"""A cluster's metadata without a cluster: decisions applied as soon as they are taken, and a Raft that obeys."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from kio.schema.errors import ErrorCode

from ottla.controller.active import LogReports
from ottla.controller.metadata import (
    NO_LEADER,
    Delta,
    MetadataImage,
    Policy,
    Record,
    ReplicaLog,
    Reported,
    Reports,
    apply,
    decide,
    fence,
)
from ottla.controller.metadata.records import decode_records, encode_records
from ottla.controller.raft import NotLeader, OutcomeUnknown, Overloaded
from ottla.controller.rpc import (
    AlterPartition,
    AlterPartitionReassignments,
    AlterPartitionResponse,
    CreateTopics,
    CreateTopicsResponse,
    Heartbeat,
    HeartbeatResponse,
    IsrMember,
    ListenerModel,
    NewTopic,
    PartitionIsr,
    Reassignment,
    RegisterBroker,
    RegisterBrokerResponse,
    ReplicaLogModel,
    RpcRequest,
    RpcResponse,
)

CLUSTER_ID = "cluster-of-the-tests"

R = TypeVar("R", bound=RpcResponse)


def told_by(
    image: MetadataImage, node_id: int, logs: Mapping[tuple[str, int, int], tuple[int, int]] | None = None
) -> tuple[ReplicaLogModel, ...]:
    """What a broker says with a heartbeat of the partitions that wait for it. `logs`: (topic, partition, broker) ->
    epoch of the last record, and the offset after it; (0, 0) if nothing is said."""
    found = []
    for topic, partition, state in image.all_partitions():
        if node_id in state.replicas and state.last_known_leader != NO_LEADER:
            epoch, end = (logs or {}).get((topic.name, partition, node_id), (0, 0))
            found.append(
                ReplicaLogModel(
                    topic_id=topic.id,
                    partition=partition,
                    leader_epoch=state.leader_epoch,
                    last_epoch=epoch,
                    end=end,
                )
            )
    return tuple(found)


def alone(image: MetadataImage, request: object) -> Reports:
    """That with this heartbeat the last known leader has waited long enough for others to tell of their logs."""
    if not isinstance(request, Heartbeat):
        return {}
    return {
        (topic.id, partition): Reported({request.node_id: ReplicaLog(request.epoch, state.leader_epoch, 0, 0)}, True)
        for topic, partition, state in image.all_partitions()
    }


def registration(node_id: int, incarnation: str = "first", *, rack: str | None = None, port: int = 0) -> RegisterBroker:
    return RegisterBroker(
        node_id=node_id,
        incarnation=incarnation,
        cluster_id=CLUSTER_ID,
        listeners=(ListenerModel(name="PLAINTEXT", host="127.0.0.1", port=port or 9092 + node_id),),
        rack=rack,
        http="127.0.0.1:8080",
    )


class Cluster:
    """An image, and decisions about it. Every entry goes through its bytes, as it would through the log."""

    def __init__(self, policy: Policy | None = None, seed: int = 0) -> None:
        self.image = MetadataImage(cluster_id=CLUSTER_ID)
        self.policy = policy or Policy()
        self.rng = random.Random(seed)
        self.entries: list[bytes] = []
        self.delta = Delta()
        self.now = 0.0
        self.reports = LogReports(self.policy.session_timeout_ms / 1000)
        self.logs: dict[tuple[str, int, int], tuple[int, int]] = {}

    def commit(self, records: Sequence[Record]) -> None:
        if records:
            self.entries.append(encode_records(records))
            self.image, self.delta = apply(self.image, decode_records(self.entries[-1]), self.image.offset + 1)

    def ask(self, request: RpcRequest[R], *, session_live: bool = False) -> R:
        if isinstance(request, Heartbeat):
            self.reports.note(request, self.image, self.now)
        reports = self.reports.by(self.now)
        decision = decide(self.image, self.policy, request, self.rng, session_live=session_live, reports=reports)
        self.commit(decision.records)
        return cast(R, decision.response)

    def register(self, node_id: int, incarnation: str = "first", *, rack: str | None = None) -> RegisterBrokerResponse:
        return self.ask(registration(node_id, incarnation, rack=rack))

    def beat(self, node_id: int, *, want_shutdown: bool = False, applied: int | None = None) -> HeartbeatResponse:
        return self.ask(
            Heartbeat(
                node_id=node_id,
                epoch=self.image.brokers[node_id].epoch,
                applied_offset=self.image.offset if applied is None else applied,
                want_shutdown=want_shutdown,
                logs=told_by(self.image, node_id, self.logs),
            )
        )

    def up(self, *node_ids: int, racks: Sequence[str] = ()) -> "Cluster":
        for position, node_id in enumerate(node_ids):
            rack = racks[position % len(racks)] if racks else None
            assert not self.register(node_id, rack=rack).error
            assert not self.beat(node_id).fenced
        return self

    def fence(self, *node_ids: int) -> None:
        self.commit(fence(self.image, self.policy, node_ids))

    def create(self, name: str, *assignments: tuple[int, ...], **configs: str) -> CreateTopicsResponse:
        """A topic with these replicas; keys of configs with "_" for "."."""
        topic = NewTopic(
            name=name,
            assignments=dict(enumerate(assignments)),
            configs={key.replace("_", "."): value for key, value in configs.items()},
        )
        answer = self.ask(CreateTopics(topics=(topic,)))
        assert not answer.topics[0].error, answer
        return answer

    def reassign(
        self, topic: str, replicas: Sequence[int] | None, partition: int = 0, *, same_factor: bool = False
    ) -> ErrorCode:
        """Ask for these replicas, or (None) to end what is under way."""
        wish = Reassignment(topic=topic, partition=partition, replicas=None if replicas is None else tuple(replicas))
        answer = self.ask(
            AlterPartitionReassignments(partitions=(wish,), allow_replication_factor_change=not same_factor)
        )
        return ErrorCode(answer.error or answer.partitions[0].error)

    def state(self, topic: str, partition: int = 0) -> tuple[int, tuple[int, ...], int, int]:
        """(leader, ISR, leader epoch, partition epoch)"""
        state = self.image.topics[topic].partitions[partition]
        return state.leader, state.isr, state.leader_epoch, state.partition_epoch

    def wish(self, topic: str, *members: int, partition: int = 0, **changes: int) -> PartitionIsr:
        """What the leader of a partition would ask for, to have these members."""
        state = self.image.topics[topic].partitions[partition]
        return PartitionIsr(
            topic_id=self.image.topics[topic].id,
            partition=partition,
            leader_epoch=changes.get("leader_epoch", state.leader_epoch),
            partition_epoch=changes.get("partition_epoch", state.partition_epoch),
            new_isr=tuple(IsrMember(id=member, broker_epoch=self.epoch(member)) for member in members),
        )

    def epoch(self, node_id: int) -> int:
        broker = self.image.brokers.get(node_id)
        return -1 if broker is None else broker.epoch

    def alter(self, node_id: int, *wishes: PartitionIsr, broker_epoch: int | None = None) -> AlterPartitionResponse:
        epoch = self.epoch(node_id) if broker_epoch is None else broker_epoch
        return self.ask(AlterPartition(node_id=node_id, broker_epoch=epoch, partitions=wishes))


def check_invariants(image: MetadataImage) -> None:
    """What must hold in every image, whatever has happened."""
    assert image.topic_names == {topic.id: name for name, topic in image.topics.items()}
    for topic, partition, state in image.all_partitions():
        where = (topic.name, partition, state)
        assert bool(state.isr) != (state.last_known_leader in state.replicas), where
        assert state.isr or not state.elr, where
        assert len(set(state.isr)) == len(state.isr), where
        assert set(state.isr) <= set(state.replicas), where
        assert len(set(state.replicas)) == len(state.replicas), where
        assert set(state.elr) <= set(state.replicas) - set(state.isr), where
        assert set(state.replicas) >= {*state.adding, *state.removing}, where
        assert state.target and state.original, where
        assert state.reassigning or not state.automatic, where
        # Every step completes what it can.
        assert not (state.reassigning and set(state.target) <= set(state.isr)), where
        if state.leader == -1:
            assert not any(image.eligible(member) for member in state.elr), where
        if state.leader != -1:
            assert state.leader in state.isr, where
            assert image.eligible(state.leader), where
        else:
            assert not any(image.eligible(member) for member in state.isr), where
        if len(state.isr) > 1:
            assert all(image.eligible(member) for member in state.isr), where
    for kind, name in image.configs:
        assert kind == "broker" or name in image.topics


@dataclass(frozen=True)
class FakeEntry:
    index: int
    data: bytes


class FakeRaft:
    """Commits when told to (`commit`), or at once when `at_once`; loses leadership when told to."""

    def __init__(self, on_apply: Callable[[Sequence[FakeEntry]], None]) -> None:
        self.leader_id: int | None = 1
        self.at_once = True
        self.overloaded = False
        self.waiting: list[tuple[FakeEntry, asyncio.Future[int]]] = []
        self.committed: list[FakeEntry] = []
        self._on_apply = on_apply
        self._index = 0

    def submit(self, data: bytes) -> asyncio.Future[int]:
        if self.leader_id != 1:
            raise NotLeader(self.leader_id)
        if self.overloaded:
            raise Overloaded("told so")
        self._index += 1
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.waiting.append((FakeEntry(self._index, data), future))
        if self.at_once:
            self.commit()
        return future

    def commit(self, entries: int | None = None) -> None:
        count = len(self.waiting) if entries is None else entries
        ready, self.waiting = self.waiting[:count], self.waiting[count:]
        for entry, future in ready:
            self.committed.append(entry)
            self._on_apply([entry])
            future.set_result(entry.index)

    def lose(self, leader: int | None = 2) -> None:
        self.leader_id = leader
        lost, self.waiting = self.waiting, []
        self._index = self.committed[-1].index if self.committed else 0
        for _, future in lost:
            future.set_exception(OutcomeUnknown(leader))
