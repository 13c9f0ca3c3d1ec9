"""What replicas have told of their logs, of partitions that nobody may lead before the logs are compared. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from ottla.controller.metadata import NO_LEADER, MetadataImage, PartitionImage, ReplicaLog, Reported, Reports
from ottla.controller.rpc.models.brokers import Heartbeat


@dataclass(slots=True)
class _Waiting:
    """`since`: when the last known leader told of its log first."""

    leader_epoch: int
    since: float | None = None
    logs: dict[int, ReplicaLog] = field(default_factory=dict)


class LogReports:
    """Those of one reign; there is an entry only for partitions that wait. Times are seconds of one clock: after
    `patience` the last known leader waits no longer for others."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._waiting: dict[tuple[UUID, int], _Waiting] = {}

    def note(self, request: Heartbeat, image: MetadataImage, now: float) -> None:
        """Take in what comes with a heartbeat. What is not of a partition that waits, in its epoch, is passed over."""
        if not request.logs and not self._waiting:
            return
        self._waiting = {
            key: waiting
            for key, waiting in self._waiting.items()
            if (state := _state(image, *key)) is not None and _waits(state, waiting.leader_epoch)
        }
        for each in request.logs:
            key = each.topic_id, each.partition
            state = _state(image, *key)
            if state is None or not _waits(state, each.leader_epoch) or request.node_id not in state.replicas:
                continue
            waiting = self._waiting.setdefault(key, _Waiting(each.leader_epoch))
            waiting.logs[request.node_id] = ReplicaLog(request.epoch, each.leader_epoch, each.last_epoch, each.end)
            if request.node_id == state.last_known_leader and waiting.since is None:
                waiting.since = now

    def by(self, now: float) -> Reports:
        return {
            key: Reported(waiting.logs, waiting.since is not None and now - waiting.since >= self._patience)
            for key, waiting in self._waiting.items()
        }


def _state(image: MetadataImage, topic_id: UUID, partition: int) -> PartitionImage | None:
    topic = image.topic_by_id(topic_id)
    return None if topic is None else topic.partitions.get(partition)


def _waits(state: PartitionImage, leader_epoch: int) -> bool:
    return state.last_known_leader != NO_LEADER and state.leader_epoch == leader_epoch
