"""OffsetCommit and OffsetFetch: the requests and what their answers say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kio.schema.errors import ErrorCode

from ottla.client.coordinator import GONE, Coordinator
from ottla.client.errors import error_for
from ottla.client.group.model import Identity
from ottla.client.structs import OffsetAndMetadata, TopicPartition

OFFSET_COMMIT: Final = 8
OFFSET_COMMIT_VERSIONS: Final = (2, 9)
OFFSET_FETCH: Final = 9
OFFSET_FETCH_VERSIONS: Final = (1, 9)

Committed = dict[TopicPartition, OffsetAndMetadata]


async def commit_once(
    coordinator: Coordinator,
    group_id: str,
    identity: Identity,
    offsets: Mapping[TopicPartition, OffsetAndMetadata],
    timeout: float,
) -> tuple[dict[TopicPartition, ErrorCode], int]:
    """Ask once: the outcome of every partition, and who told it. Raises what `Coordinator.call` raises."""
    topics: dict[str, list[dict[str, Any]]] = {}
    for tp, place in offsets.items():
        row = {
            "partition_index": tp.partition,
            "committed_offset": place.offset,
            "committed_leader_epoch": place.leader_epoch,
            "committed_metadata": place.metadata,
        }
        topics.setdefault(tp.topic, []).append(row)
    values = {
        "group_id": group_id,
        "generation_id": identity.generation,
        "generation_id_or_member_epoch": identity.generation,
        "member_id": identity.member_id,
        "group_instance_id": identity.instance_id,
        "retention_time": -1,
        "topics": [{"name": name, "partitions": rows} for name, rows in topics.items()],
    }
    answer, node = await coordinator.call(OFFSET_COMMIT, OFFSET_COMMIT_VERSIONS, values, timeout=timeout)
    codes = {
        TopicPartition(topic.name, row.partition_index): row.error_code
        for topic in answer.topics
        for row in topic.partitions
    }
    told = {tp: codes.get(tp, ErrorCode.unknown_server_error) for tp in offsets}
    if GONE & set(told.values()):
        coordinator.lost(node)
    return told, node


async def fetch_once(
    coordinator: Coordinator,
    group_id: str,
    partitions: Iterable[TopicPartition] | None,
    timeout: float,
    *,
    require_stable: bool = False,
) -> tuple[Committed, dict[TopicPartition, ErrorCode], int]:
    """Ask once for the offsets of some partitions, or of all that have one: what there is, what failed, who told it.

    Raises a BrokerResponseError that is about the whole group, and what `Coordinator.call` raises.
    """
    topics: list[dict[str, Any]] | None = None
    if partitions is not None:
        by_topic: dict[str, list[int]] = {}
        for tp in partitions:
            by_topic.setdefault(tp.topic, []).append(tp.partition)
        topics = [{"name": name, "partition_indexes": indexes} for name, indexes in by_topic.items()]
    group = {"group_id": group_id, "member_id": None, "member_epoch": -1, "topics": topics}
    values = {"group_id": group_id, "topics": topics, "groups": [group], "require_stable": require_stable}
    versions = OFFSET_FETCH_VERSIONS if partitions is not None else (2, OFFSET_FETCH_VERSIONS[1])
    answer, node = await coordinator.call(OFFSET_FETCH, versions, values, timeout=timeout)
    groups = getattr(answer, "groups", None)
    told = answer if groups is None else next(each for each in groups if each.group_id == group_id)
    code = getattr(told, "error_code", ErrorCode.none)
    rows = [(TopicPartition(topic.name, row.partition_index), row) for topic in told.topics for row in topic.partitions]
    # In version 1 what is wrong with the group is told of every partition.
    codes = {code, *(row.error_code for _, row in rows)}
    if GONE & codes:
        coordinator.lost(node)
    if code is not ErrorCode.none:
        raise error_for(code, "offsets", group_id=group_id, broker=node)
    found: Committed = {}
    errors: dict[TopicPartition, ErrorCode] = {}
    for tp, row in rows:
        if row.error_code is not ErrorCode.none:
            errors[tp] = row.error_code
        elif row.committed_offset >= 0:
            epoch = getattr(row, "committed_leader_epoch", -1)
            found[tp] = OffsetAndMetadata(row.committed_offset, row.metadata or "", epoch)
    return found, errors, node
