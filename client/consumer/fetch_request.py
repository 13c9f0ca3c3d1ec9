"""What a consumer asks one leader for."""

from __future__ import annotations

from collections.abc import Iterable
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


def fetch_request(
    connection: KafkaConnection,
    metadata: ClusterMetadata,
    options: FetchOptions,
    states: Iterable[PartitionState],
    now: float,
) -> tuple[int, Raw]:
    """(version, body) of a Fetch without a session at `now` (loop time). Raises UnsupportedVersionError."""
    rack = options.rack
    topics: dict[str, list[FetchPartition]] = {}
    for state in states:
        entry = FetchPartition(
            state.tp.partition,
            state.fetch_offset,
            options.max_partition_bytes,
            state.leader_epoch,
            state.fetch_epoch,
        )
        topics.setdefault(state.tp.topic, []).append(entry)
        if state.leader_until > now:
            rack = ""
    ids = {name: metadata.topics[name].topic_id for name in topics}
    version = pick(
        connection, FETCH, (FETCH_VERSIONS[0], FETCH_VERSIONS[1] if all(ids.values()) else LAST_VERSION_WITH_NAMES)
    )
    asked: list[tuple[str | UUID, list[FetchPartition]]] = []
    for name, entries in topics.items():
        topic_id = ids[name] if version > LAST_VERSION_WITH_NAMES else None
        asked.append((topic_id or name, entries))
    request = FetchRequest(
        int(options.max_wait * 1000),
        options.min_bytes,
        options.max_bytes,
        options.isolation_level,
        topics=asked,
        rack_id=rack,
    )
    return version, encode_fetch_request(version, request)
