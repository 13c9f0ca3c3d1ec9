"""Looking up offsets and epochs at the leaders of partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from kio.schema.errors import ErrorCode

from ottla.client.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    LeaderNotAvailableError,
    UnsupportedVersionError,
    error_for,
)
from ottla.client.network import Network
from ottla.client.structs import OffsetAndTimestamp, TopicPartition

LIST_OFFSETS: Final = 2
LIST_OFFSETS_VERSIONS: Final = (1, 9)
OFFSET_FOR_LEADER_EPOCH: Final = 23
OFFSET_FOR_LEADER_EPOCH_VERSIONS: Final = (2, 4)
LATEST: Final = -1
EARLIEST: Final = -2
PATIENCE: Final = 5.0
"""Seconds that one broker may take; the question is asked again after that."""

Results = tuple[dict[TopicPartition, Any], dict[TopicPartition, KafkaError]]


async def list_offsets_once(network: Network, times: Mapping[TopicPartition, int], isolation_level: int = 0) -> Results:
    """Ask each leader once. `times` gives ms since the epoch, `LATEST` or `EARLIEST`.

    Answers the partitions of `OffsetAndTimestamp` and those of errors. Offset -1: no record is that late.
    """

    def values(leader: int, tps: list[TopicPartition]) -> dict[str, Any]:
        topics = _by_topic(
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

    return await _ask_leaders(network, list(times), LIST_OFFSETS, LIST_OFFSETS_VERSIONS, values, read)


async def epoch_ends_once(network: Network, epochs: Mapping[TopicPartition, int]) -> Results:
    """Ask each leader once where an epoch ends (KIP-320); answers are (largest epoch not above it, end offset)."""

    def values(leader: int, tps: list[TopicPartition]) -> dict[str, Any]:
        topics = _by_topic(
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
    return await _ask_leaders(network, list(epochs), OFFSET_FOR_LEADER_EPOCH, versions, values, read)


async def list_offsets(
    network: Network, times: Mapping[TopicPartition, int], timeout: float, isolation_level: int = 0
) -> dict[TopicPartition, OffsetAndTimestamp]:
    """`list_offsets_once` until every partition has its answer.

    Raises the last error of a partition when `timeout` seconds are over or the error is not one to retry.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    for topic in {tp.topic for tp in times}:
        await network.ensure_topic(topic, timeout)
    found: dict[TopicPartition, OffsetAndTimestamp] = {}
    attempts = 0
    while True:
        attempts += 1
        missing = {tp: time for tp, time in times.items() if tp not in found}
        got, errors = await list_offsets_once(network, missing, isolation_level)
        found.update(got)
        if not errors:
            return found
        wait = network.options.backoff.delay(attempts, network.options.rng)
        for error in errors.values():
            if not error.retriable or loop.time() + wait > deadline:
                raise error
        network.request_refresh()
        await asyncio.sleep(wait)


def _by_topic(tps: list[TopicPartition], entry: Any) -> dict[str, list[dict[str, Any]]]:
    topics: dict[str, list[dict[str, Any]]] = {}
    for tp in tps:
        topics.setdefault(tp.topic, []).append(entry(tp))
    return topics


async def _ask_leaders(
    network: Network, tps: list[TopicPartition], api_key: int, versions: tuple[int, int], values: Any, read: Any
) -> Results:
    found: dict[TopicPartition, Any] = {}
    errors: dict[TopicPartition, KafkaError] = {}
    leaders: dict[int, list[TopicPartition]] = {}
    for tp in tps:
        leader = network.metadata.leader(tp)
        if leader is None:
            errors[tp] = LeaderNotAvailableError(ErrorCode.leader_not_available, partition=tp)
        else:
            leaders.setdefault(leader, []).append(tp)

    async def ask(leader: int, mine: list[TopicPartition]) -> None:
        try:
            timeout = min(PATIENCE, network.options.request_timeout)
            answer = await network.call(leader, api_key, versions, values(leader, mine), timeout=timeout)
        except (KafkaConnectionError, KafkaTimeoutError, UnsupportedVersionError) as error:
            errors.update(dict.fromkeys(mine, error))
            return
        results = read(answer)
        for tp in mine:
            if tp not in results:
                errors[tp] = error_for(ErrorCode.unknown_server_error, "not in the answer", broker=leader, partition=tp)
                continue
            raw, value = results[tp]
            if raw.error_code is ErrorCode.none:
                found[tp] = value
            else:
                epoch = network.metadata.leader_epoch(tp)
                errors[tp] = error_for(raw.error_code, broker=leader, partition=tp, leader_epoch=epoch)

    await asyncio.gather(*(ask(leader, mine) for leader, mine in leaders.items()))
    return found, errors
