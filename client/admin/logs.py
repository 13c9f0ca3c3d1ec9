"""DeleteRecords and DescribeLogDirs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Final

from kio.schema.errors import ErrorCode

from ottla.client.admin.structs import LogDirDescription, ReplicaInfo
from ottla.client.errors import error_for
from ottla.client.leaders import PATIENCE, Results, ask_leaders, by_topic, until_all_answer
from ottla.client.network import Network
from ottla.client.structs import TopicPartition

DELETE_RECORDS: Final = 21
DESCRIBE_LOG_DIRS: Final = 35
_GRACE_MS: Final = 500


async def delete_records(
    network: Network, offsets: Mapping[TopicPartition, int], timeout: float
) -> dict[TopicPartition, int]:
    """DeleteRecords (key 21), versions 0 to 2: each leader is asked until its partitions are done."""
    for topic in {tp.topic for tp in offsets}:
        await network.ensure_topic(topic, timeout)

    def values(leader: int, tps: list[TopicPartition]) -> dict[str, Any]:
        topics = by_topic(tps, lambda tp: {"partition_index": tp.partition, "offset": offsets[tp]})
        # Less than the connection's patience: a leader that waits for a follower says so, and is asked again.
        wait_ms = int(min(PATIENCE, network.options.request_timeout) * 1000) - _GRACE_MS
        return {
            "topics": [{"name": topic, "partitions": rows} for topic, rows in topics.items()],
            "timeout": max(wait_ms, 0),
        }

    def read(answer: Any) -> dict[TopicPartition, tuple[Any, Any]]:
        return {
            TopicPartition(topic.name, row.partition_index): (row, row.low_watermark)
            for topic in answer.topics
            for row in topic.partitions
        }

    def once(missing: list[TopicPartition]) -> Awaitable[Results]:
        return ask_leaders(network, missing, DELETE_RECORDS, (0, 2), values, read)

    return await until_all_answer(network, list(offsets), timeout, once)


async def describe_log_dirs(
    network: Network, brokers: Iterable[int] | None, timeout: float
) -> dict[int, dict[str, LogDirDescription]]:
    """DescribeLogDirs (key 35), versions 1 to 5. Raises the first error."""
    await network.refreshed()
    wanted = sorted(network.metadata.brokers if brokers is None else set(brokers))

    async def ask(broker: int) -> dict[str, LogDirDescription]:
        answer = await network.call(broker, DESCRIBE_LOG_DIRS, (1, 5), {"topics": None}, timeout=timeout)
        whole = getattr(answer, "error_code", ErrorCode.none)
        if whole is not ErrorCode.none:
            raise error_for(whole, broker=broker)
        return {each.log_dir: _description(broker, each) for each in answer.results}

    return dict(zip(wanted, await asyncio.gather(*map(ask, wanted)), strict=True))


def _description(broker: int, raw: Any) -> LogDirDescription:
    if raw.error_code is not ErrorCode.none:
        raise error_for(raw.error_code, f"log directory {raw.log_dir!r}", broker=broker)
    return LogDirDescription(
        getattr(raw, "total_bytes", -1),
        getattr(raw, "usable_bytes", -1),
        {
            TopicPartition(topic.name, row.partition_index): ReplicaInfo(
                row.partition_size, row.offset_lag, row.is_future_key
            )
            for topic in raw.topics
            for row in topic.partitions
        },
        getattr(raw, "is_cordoned", False),
    )
