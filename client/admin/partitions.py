"""ElectLeaders, AlterPartitionReassignments, ListPartitionReassignments, UnregisterBroker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from kio.schema.errors import ErrorCode

from ottla.client.admin.topics import AGAIN, CHANGE_PATIENCE
from ottla.client.errors import KafkaError, error_for
from ottla.client.network import Network, Values
from ottla.client.structs import PartitionReassignment, TopicPartition

ELECT_LEADERS: Final = 43
ALTER_PARTITION_REASSIGNMENTS: Final = 45
LIST_PARTITION_REASSIGNMENTS: Final = 46
UNREGISTER_BROKER: Final = 64

ElectionType = Literal["preferred", "unclean"]
Outcomes = dict[TopicPartition, KafkaError | None]
_ELECTIONS: Final = {"preferred": 0, "unclean": 1}


async def elect(
    network: Network, kind: ElectionType, partitions: Iterable[TopicPartition] | None, timeout: float
) -> Outcomes:
    """ElectLeaders (key 43), versions 0 to 2; "unclean" needs version 1."""
    if kind not in _ELECTIONS:
        raise ValueError(f'an election is "preferred" or "unclean", not {kind!r}')
    wanted = None if partitions is None else [TopicPartition(*tp) for tp in partitions]

    def values(seconds: float) -> Values:
        return {
            "election_type": _ELECTIONS[kind],
            "topic_partitions": None
            if wanted is None
            else [{"topic": topic, "partitions": tuple(indexes)} for topic, indexes in _by_topic(wanted).items()],
            "timeout": int(seconds * 1000),
        }

    answer = await network.call_any(
        ELECT_LEADERS,
        (0 if kind == "preferred" else 1, 2),
        values,
        timeout=timeout,
        patience=CHANGE_PATIENCE,
        retry_if=lambda a: _to_retry(getattr(a, "error_code", ErrorCode.none), _elected(a)),
    )
    rows = _elected(answer)
    error = getattr(answer, "error_code", ErrorCode.none)
    if error is not ErrorCode.none and not rows:
        raise error_for(error)
    return {tp: _error(tp, row) for tp, row in rows.items()}


def _elected(answer: Any) -> dict[TopicPartition, Any]:
    return {
        TopicPartition(topic.topic, row.partition_id): row
        for topic in answer.replica_election_results
        for row in topic.partition_result
    }


async def reassign(
    network: Network,
    wanted: Mapping[TopicPartition, Sequence[int] | None],
    timeout: float,
    *,
    allow_replication_factor_change: bool,
) -> Outcomes:
    """AlterPartitionReassignments (key 45), versions 0 and 1; the latter to refuse another number of replicas."""
    topics: dict[str, list[dict[str, Any]]] = {}
    for (topic, index), replicas in wanted.items():
        row = {"partition_index": index, "replicas": None if replicas is None else tuple(replicas)}
        topics.setdefault(topic, []).append(row)

    def values(seconds: float) -> Values:
        return {
            "topics": [{"name": name, "partitions": rows} for name, rows in topics.items()],
            "allow_replication_factor_change": allow_replication_factor_change,
            "timeout": int(seconds * 1000),
        }

    answer = await network.call_any(
        ALTER_PARTITION_REASSIGNMENTS,
        (0 if allow_replication_factor_change else 1, 1),
        values,
        timeout=timeout,
        patience=CHANGE_PATIENCE,
        retry_if=lambda a: _to_retry(a.error_code, _altered(a)),
    )
    rows = _altered(answer)
    if answer.error_code is not ErrorCode.none and not rows:
        raise error_for(answer.error_code, answer.error_message)
    return {tp: _error(tp, row) for tp, row in rows.items()}


def _altered(answer: Any) -> dict[TopicPartition, Any]:
    return {
        TopicPartition(topic.name, row.partition_index): row for topic in answer.responses for row in topic.partitions
    }


async def list_reassignments(
    network: Network, partitions: Iterable[TopicPartition] | None, timeout: float
) -> dict[TopicPartition, PartitionReassignment]:
    """ListPartitionReassignments (key 46), version 0."""
    wanted = None if partitions is None else [TopicPartition(*tp) for tp in partitions]
    topics = (
        None
        if wanted is None
        else [{"name": topic, "partition_indexes": tuple(indexes)} for topic, indexes in _by_topic(wanted).items()]
    )
    answer = await network.call_any(
        LIST_PARTITION_REASSIGNMENTS,
        (0, 0),
        lambda seconds: {"topics": topics, "timeout": int(seconds * 1000)},
        timeout=timeout,
        patience=CHANGE_PATIENCE,
        retry_if=lambda a: a.error_code if a.error_code in AGAIN else None,
    )
    if answer.error_code is not ErrorCode.none:
        raise error_for(answer.error_code, answer.error_message)
    return {
        TopicPartition(topic.name, row.partition_index): PartitionReassignment(
            tuple(row.replicas), tuple(row.adding_replicas), tuple(row.removing_replicas)
        )
        for topic in answer.topics
        for row in topic.partitions
    }


async def unregister(network: Network, broker_id: int, timeout: float) -> None:
    """UnregisterBroker (key 64), version 0."""
    answer = await network.call_any(
        UNREGISTER_BROKER,
        (0, 0),
        {"broker_id": broker_id},
        timeout=timeout,
        patience=CHANGE_PATIENCE,
        retry_if=lambda a: a.error_code if a.error_code in AGAIN else None,
    )
    if answer.error_code is not ErrorCode.none:
        raise error_for(answer.error_code, answer.error_message)


def _by_topic(partitions: Iterable[TopicPartition]) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = {}
    for topic, index in dict.fromkeys(partitions):
        topics.setdefault(topic, []).append(index)
    return topics


def _to_retry(whole: ErrorCode, rows: Mapping[TopicPartition, Any]) -> ErrorCode | None:
    """Only when nothing was done for any of them: a change that is repeated may find itself already made."""
    codes = {row.error_code for row in rows.values()} or {whole}
    return codes.pop() if len(codes) == 1 and codes <= AGAIN else None


def _error(tp: TopicPartition, row: Any) -> KafkaError | None:
    return None if row.error_code is ErrorCode.none else error_for(row.error_code, row.error_message, partition=tp)
