"""DeleteRecords, AlterReplicaLogDirs and DescribeLogDirs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from kio.schema.errors import ErrorCode

from ottla.client.admin.structs import LogDirDescription, ReplicaInfo, ReplicaLogDirInfo, TopicPartitionReplica
from ottla.client.errors import error_for
from ottla.client.leaders import PATIENCE, Results, ask_leaders, by_topic, until_all_answer
from ottla.client.network import Network
from ottla.client.structs import TopicPartition

DELETE_RECORDS: Final = 21
ALTER_REPLICA_LOG_DIRS: Final = 34
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
        return await _log_dirs(network, broker, None, timeout)

    return dict(zip(wanted, await asyncio.gather(*map(ask, wanted)), strict=True))


async def describe_replica_log_dirs(
    network: Network, replicas: Iterable[TopicPartitionReplica], timeout: float
) -> dict[TopicPartitionReplica, ReplicaLogDirInfo]:
    """DescribeLogDirs for these alone. Raises the first error."""
    by_broker = _by_broker(replicas)

    async def ask(broker: int) -> Mapping[str, LogDirDescription]:
        return await _log_dirs(network, broker, [TopicPartition(*each[:2]) for each in by_broker[broker]], timeout)

    answers = await asyncio.gather(*map(ask, by_broker))
    return {
        replica: _replica_log_dir(TopicPartition(*replica[:2]), directories)
        for directories, asked in zip(answers, by_broker.values(), strict=True)
        for replica in asked
    }


def _by_broker(replicas: Iterable[TopicPartitionReplica]) -> dict[int, list[TopicPartitionReplica]]:
    found: dict[int, list[TopicPartitionReplica]] = {}
    for replica in dict.fromkeys(replicas):
        found.setdefault(replica[2], []).append(TopicPartitionReplica(*replica))
    return found


def _replica_log_dir(tp: TopicPartition, directories: Mapping[str, LogDirDescription]) -> ReplicaLogDirInfo:
    info = ReplicaLogDirInfo()
    for path, directory in directories.items():
        found = directory.replica_infos.get(tp)
        if found is None:
            continue
        if found.is_future:
            info = replace(info, future_replica_log_dir=path, future_replica_offset_lag=found.offset_lag)
        else:
            info = replace(info, current_replica_log_dir=path, current_replica_offset_lag=found.offset_lag)
    return info


async def _log_dirs(
    network: Network, broker: int, tps: list[TopicPartition] | None, timeout: float
) -> dict[str, LogDirDescription]:
    rows = None if tps is None else by_topic(tps, lambda tp: tp.partition)
    topics = None if rows is None else [{"topic": topic, "partitions": each} for topic, each in rows.items()]
    answer = await network.call(broker, DESCRIBE_LOG_DIRS, (1, 5), {"topics": topics}, timeout=timeout)
    whole = getattr(answer, "error_code", ErrorCode.none)
    if whole is not ErrorCode.none:
        raise error_for(whole, broker=broker)
    return {each.log_dir: _description(broker, each) for each in answer.results}


async def alter_replica_log_dirs(network: Network, places: Mapping[TopicPartitionReplica, str], timeout: float) -> None:
    """AlterReplicaLogDirs (key 34), versions 1 and 2, of every broker that is named. Raises the first error."""
    by_broker = _by_broker(places)
    await network.refreshed()

    async def ask(broker: int) -> None:
        dirs: dict[str, list[TopicPartition]] = {}
        for replica in by_broker[broker]:
            dirs.setdefault(places[replica], []).append(TopicPartition(*replica[:2]))
        values = {
            "dirs": [
                {
                    "path": path,
                    "topics": [
                        {"name": topic, "partitions": indexes}
                        for topic, indexes in by_topic(tps, lambda tp: tp.partition).items()
                    ],
                }
                for path, tps in dirs.items()
            ]
        }
        answer = await network.call(broker, ALTER_REPLICA_LOG_DIRS, (1, 2), values, timeout=timeout)
        for topic in answer.results:
            for row in topic.partitions:
                if row.error_code is not ErrorCode.none:
                    tp = TopicPartition(topic.topic_name, row.partition_index)
                    raise error_for(row.error_code, broker=broker, partition=tp)

    await asyncio.gather(*map(ask, by_broker))


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
