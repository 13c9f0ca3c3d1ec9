"""CreateTopics, DeleteTopics, CreatePartitions, DescribeTopicPartitions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.client.admin.structs import NewPartitions
from ottla.client.errors import UnsupportedVersionError, error_for
from ottla.client.metadata import ClusterMetadata
from ottla.client.network import Network, Values
from ottla.client.structs import NewTopic, PartitionMetadata, TopicMetadata

CREATE_TOPICS: Final = 19
DELETE_TOPICS: Final = 20
CREATE_PARTITIONS: Final = 37
DESCRIBE_TOPIC_PARTITIONS: Final = 75
PAGE_PARTITIONS: Final = 2000
CHANGE_PATIENCE: Final = 5.0
"""Seconds that one broker may take over a change: it forwards it to the active controller, if it can reach that."""

AGAIN: Final = frozenset({ErrorCode.not_controller, ErrorCode.request_timed_out, ErrorCode.network_exception})


async def create(
    network: Network, new: list[NewTopic], timeout: float, validate_only: bool
) -> dict[str, TopicMetadata]:
    """CreateTopics (key 19), versions 2 to 7."""

    def values(seconds: float) -> Values:
        return {
            "topics": [
                {
                    "name": topic.name,
                    "num_partitions": -1 if topic.replica_assignments else topic.num_partitions,
                    "replication_factor": -1 if topic.replica_assignments else topic.replication_factor,
                    "assignments": [
                        {"partition_index": index, "broker_ids": tuple(brokers)}
                        for index, brokers in sorted(topic.replica_assignments.items())
                    ],
                    "configs": [{"name": name, "value": value} for name, value in topic.topic_configs.items()],
                }
                for topic in new
            ],
            "timeout": int(seconds * 1000),
            "validate_only": validate_only,
        }

    answer = await network.call_any(
        CREATE_TOPICS, (2, 7), values, timeout=timeout, patience=CHANGE_PATIENCE, retry_if=lambda a: to_retry(a.topics)
    )
    _raise_first(answer.topics, "topic")
    return {t.name: TopicMetadata(t.name, getattr(t, "topic_id", None), False, {}) for t in answer.topics}


async def delete(network: Network, names: list[str | UUID], timeout: float) -> None:
    """DeleteTopics (key 20), versions 1 to 6; ids need version 6."""
    by_id = any(isinstance(name, UUID) for name in names)

    def values(seconds: float) -> Values:
        return {
            "topics": [
                {"name": None, "topic_id": name} if isinstance(name, UUID) else {"name": name, "topic_id": None}
                for name in names
            ],
            "topic_names": [name for name in names if isinstance(name, str)],
            "timeout": int(seconds * 1000),
        }

    answer = await network.call_any(
        DELETE_TOPICS,
        (6 if by_id else 1, 6),
        values,
        timeout=timeout,
        patience=CHANGE_PATIENCE,
        retry_if=lambda a: to_retry(a.responses),
    )
    _raise_first(answer.responses, "topic")


async def add_partitions(
    network: Network, counts: Mapping[str, int | NewPartitions], timeout: float, validate_only: bool
) -> None:
    """CreatePartitions (key 37), versions 0 to 3."""

    def row(name: str, wanted: int | NewPartitions) -> dict[str, Any]:
        new = NewPartitions(wanted) if isinstance(wanted, int) else wanted
        assignments = None
        if new.new_assignments is not None:
            assignments = [{"broker_ids": tuple(brokers)} for brokers in new.new_assignments]
        return {"name": name, "count": new.total_count, "assignments": assignments}

    def values(seconds: float) -> Values:
        return {
            "topics": [row(name, wanted) for name, wanted in counts.items()],
            "timeout": int(seconds * 1000),
            "validate_only": validate_only,
        }

    answer = await network.call_any(
        CREATE_PARTITIONS,
        (0, 3),
        values,
        timeout=timeout,
        patience=CHANGE_PATIENCE,
        retry_if=lambda a: to_retry(a.results),
    )
    _raise_first(answer.results, "topic")


async def describe(network: Network, names: Collection[str] | None, timeout: float) -> dict[str, TopicMetadata]:
    """DescribeTopicPartitions (key 75), version 0, page by page; Metadata where brokers do not have it.

    As one broker sees it now. Raises what is wrong with one of `names`; of all topics those are left out.
    """
    try:
        found = await _describe_pages(network, names, timeout)
    except UnsupportedVersionError:
        view = ClusterMetadata()
        view.update((await network.fetch_metadata(names, timeout)).answer)
        found = view.topics
    for topic in found.values():
        if topic.error is not ErrorCode.none and names is not None:
            raise error_for(topic.error, f"topic {topic.name!r}")
    return {name: topic for name, topic in sorted(found.items()) if topic.error is ErrorCode.none}


async def _describe_pages(network: Network, names: Collection[str] | None, timeout: float) -> dict[str, TopicMetadata]:
    if names is not None and not names:
        return {}
    found: dict[str, TopicMetadata] = {}
    cursor: dict[str, Any] | None = None
    while True:
        values = {
            "topics": [{"name": name} for name in sorted(set(names or ()))],
            "response_partition_limit": PAGE_PARTITIONS,
            "cursor": cursor,
        }
        answer = await network.call_any(
            DESCRIBE_TOPIC_PARTITIONS, (0, 0), values, timeout=timeout, patience=CHANGE_PATIENCE
        )
        for raw in answer.topics:
            topic = _described(raw)
            # A page may end in the middle of a topic.
            before = found[topic.name].partitions if topic.name in found else {}
            found[topic.name] = replace(topic, partitions={**before, **topic.partitions})
        following = answer.next_cursor
        if following is None:
            return found
        after = {"topic_name": following.topic_name, "partition_index": following.partition_index}
        if after == cursor:
            raise error_for(ErrorCode.unknown_server_error, "a page of topics leads to itself")
        cursor = after


def _described(raw: Any) -> TopicMetadata:
    partitions = {
        row.partition_index: PartitionMetadata(
            raw.name,
            row.partition_index,
            row.leader_id,
            row.leader_epoch,
            tuple(row.replica_nodes),
            tuple(row.isr_nodes),
            tuple(row.offline_replicas),
            row.error_code,
            None if row.eligible_leader_replicas is None else tuple(row.eligible_leader_replicas),
            None if row.last_known_elr is None else tuple(row.last_known_elr),
        )
        for row in raw.partitions
    }
    return TopicMetadata(raw.name, raw.topic_id, raw.is_internal, partitions, raw.error_code)


def to_retry(results: Iterable[Any]) -> ErrorCode | None:
    """Only when all say it: otherwise some are done, and sending again would turn them into errors."""
    codes = {result.error_code for result in results}
    return codes.pop() if len(codes) == 1 and codes <= AGAIN else None


def _raise_first(results: Iterable[Any], what: str) -> None:
    for result in results:
        if result.error_code is not ErrorCode.none:
            message = getattr(result, "error_message", None)
            raise error_for(result.error_code, f"{what} {result.name!r}" + (f": {message}" if message else ""))
