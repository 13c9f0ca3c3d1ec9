"""Looking up offsets and epochs at the leaders of partitions."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Final

from ottla.client.leaders import Results, ask_leaders, by_topic, until_all_answer
from ottla.client.network import Network
from ottla.client.structs import OffsetAndTimestamp, TopicPartition

LIST_OFFSETS: Final = 2
LIST_OFFSETS_VERSIONS: Final = (1, 11)
_SINCE: Final = {-3: 7, -4: 8, -5: 9, -6: 11}
"""The version from which on a special timestamp may be asked for."""
OFFSET_FOR_LEADER_EPOCH: Final = 23
OFFSET_FOR_LEADER_EPOCH_VERSIONS: Final = (2, 4)
LATEST: Final = -1
EARLIEST: Final = -2


async def list_offsets_once(network: Network, times: Mapping[TopicPartition, int], isolation_level: int = 0) -> Results:
    """Ask each leader once. `times` gives ms since the epoch, `LATEST` or `EARLIEST`.

    Answers the partitions of `OffsetAndTimestamp` and those of errors. Offset -1: no record is that late.
    """

    def values(leader: int, tps: list[TopicPartition]) -> dict[str, Any]:
        topics = by_topic(
            tps,
            lambda tp: {
                "partition_index": tp.partition,
                "current_leader_epoch": network.metadata.leader_epoch(tp),
                "timestamp": times[tp],
            },
        )
        return {
            "replica_id": -1,
            "isolation_level": isolation_level,
            "timeout": int(network.options.request_timeout * 1000),
            "topics": [{"name": topic, "partitions": entries} for topic, entries in topics.items()],
        }

    def read(answer: Any) -> dict[TopicPartition, tuple[Any, Any]]:
        return {
            TopicPartition(t.name, p.partition_index): (
                p,
                OffsetAndTimestamp(p.offset, p.timestamp, getattr(p, "leader_epoch", -1)),
            )
            for t in answer.topics
            for p in t.partitions
        }

    least = max((_SINCE.get(time, 1) for time in times.values()), default=1)
    versions = (max(LIST_OFFSETS_VERSIONS[0], least), LIST_OFFSETS_VERSIONS[1])
    return await ask_leaders(network, list(times), LIST_OFFSETS, versions, values, read)


async def epoch_ends_once(network: Network, epochs: Mapping[TopicPartition, int]) -> Results:
    """Ask each leader once where an epoch ends (KIP-320); answers are (largest epoch not above it, end offset)."""

    def values(leader: int, tps: list[TopicPartition]) -> dict[str, Any]:
        topics = by_topic(
            tps,
            lambda tp: {
                "partition": tp.partition,
                "current_leader_epoch": network.metadata.leader_epoch(tp),
                "leader_epoch": epochs[tp],
            },
        )
        return {
            "replica_id": -1,
            "topics": [{"topic": topic, "partitions": entries} for topic, entries in topics.items()],
        }

    def read(answer: Any) -> dict[TopicPartition, tuple[Any, Any]]:
        return {
            TopicPartition(t.topic, p.partition): (p, (p.leader_epoch, p.end_offset))
            for t in answer.topics
            for p in t.partitions
        }

    versions = OFFSET_FOR_LEADER_EPOCH_VERSIONS
    return await ask_leaders(network, list(epochs), OFFSET_FOR_LEADER_EPOCH, versions, values, read)


async def list_offsets(
    network: Network, times: Mapping[TopicPartition, int], timeout: float, isolation_level: int = 0
) -> dict[TopicPartition, OffsetAndTimestamp]:
    """`list_offsets_once` until every partition has its answer.

    Raises the last error of a partition when `timeout` seconds are over or the error is not one to retry.
    """
    for topic in {tp.topic for tp in times}:
        await network.ensure_topic(topic, timeout)

    def once(missing: list[TopicPartition]) -> Awaitable[Results]:
        return list_offsets_once(network, {tp: times[tp] for tp in missing}, isolation_level)

    return await until_all_answer(network, list(times), timeout, once)
