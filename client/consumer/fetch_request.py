"""What a consumer asks one leader for."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from ottla.client.consumer.fetch_options import FetchOptions
from ottla.client.consumer.position import PartitionState
from ottla.client.metadata import ClusterMetadata
from ottla.client.network import pick
from ottla.wire import FetchPartition, FetchRequest, KafkaConnection, Raw, encode_fetch_request

FETCH: Final = 1
FETCH_VERSIONS: Final = (4, 17)
LAST_VERSION_WITH_NAMES: Final = 12

Asked = list[tuple[PartitionState, int]]
"""What one Fetch is about, with the generations of the states at that time."""


def fetch_request(
    connection: KafkaConnection,
    metadata: ClusterMetadata,
    options: FetchOptions,
    asked: Asked,
    now: float,
) -> tuple[int, Raw]:
    """(version, body) of a Fetch without a session at `now` (loop time). Raises UnsupportedVersionError."""
    rack = options.rack
    topics: dict[str, list[FetchPartition]] = {}
    for state, _ in asked:
        name, index = state.tp
        entry = FetchPartition(
            index,
            state.fetch_offset,
            options.max_partition_bytes,
            state.leader_epoch,
            state.fetch_epoch,
        )
        if name in topics:
            topics[name].append(entry)
        else:
            topics[name] = [entry]
        if state.leader_until > now:
            rack = ""
    low, high = FETCH_VERSIONS
    by_id: list[tuple[str | UUID, list[FetchPartition]]] = []
    for name, entries in topics.items():
        topic_id = metadata.topics[name].topic_id
        if not topic_id:
            high = LAST_VERSION_WITH_NAMES
            break
        by_id.append((topic_id, entries))
    version = pick(connection, FETCH, (low, high))
    request = FetchRequest(
        int(options.max_wait * 1000),
        options.min_bytes,
        options.max_bytes,
        options.isolation_level,
        topics=by_id if version > LAST_VERSION_WITH_NAMES else list(topics.items()),
        rack_id=rack,
    )
    return version, encode_fetch_request(version, request)
