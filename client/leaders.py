"""Asking the leaders of partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from kio.schema.errors import ErrorCode

from ottla.client.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    LeaderNotAvailableError,
    UnsupportedVersionError,
    error_for,
)
from ottla.client.network import Network, Values
from ottla.client.structs import TopicPartition

PATIENCE: Final = 5.0
"""Seconds that one broker may take; the question is asked again after that."""

T = TypeVar("T")
Results = tuple[dict[TopicPartition, Any], dict[TopicPartition, KafkaError]]


def by_topic(tps: list[TopicPartition], entry: Callable[[TopicPartition], T]) -> dict[str, list[T]]:
    """An entry for each partition, by topic."""
    topics: dict[str, list[T]] = {}
    for tp in tps:
        topics.setdefault(tp.topic, []).append(entry(tp))
    return topics


async def ask_leaders(
    network: Network,
    tps: Iterable[TopicPartition],
    api_key: int,
    versions: tuple[int, int],
    values: Callable[[int, list[TopicPartition]], Values],
    read: Callable[[Any], Mapping[TopicPartition, tuple[Any, Any]]],
) -> Results:
    """Ask each leader once about its partitions: the values of those that have one, and the errors of the rest.

    `values` makes the request to a leader; `read` gives of an answer, by partition, what has the error code, and the
    value.
    """
    found: dict[TopicPartition, Any] = {}
    errors: dict[TopicPartition, KafkaError] = {}
    leaders: dict[int, list[TopicPartition]] = {}
    for tp in tps:
        leader = network.metadata.leader(tp)
        if leader is None:
            epoch = network.metadata.leader_epoch(tp)
            errors[tp] = LeaderNotAvailableError(ErrorCode.leader_not_available, partition=tp, leader_epoch=epoch)
        else:
            leaders.setdefault(leader, []).append(tp)

    async def ask(leader: int, mine: list[TopicPartition]) -> None:
        try:
            timeout = min(PATIENCE, network.options.request_timeout)
            answer = await network.call(leader, api_key, versions, values(leader, mine), timeout=timeout)
        except (KafkaConnectionError, KafkaTimeoutError, UnsupportedVersionError) as error:
            for tp in mine:
                errors[tp] = error.about(broker=leader, partition=tp, leader_epoch=network.metadata.leader_epoch(tp))
            return
        results = read(answer)
        for tp in mine:
            raw, value = results.get(tp, (None, None))
            code = ErrorCode.unknown_server_error if raw is None else raw.error_code
            if code is ErrorCode.none:
                found[tp] = value
            else:
                text = "not in the answer" if raw is None else None
                epoch = network.metadata.leader_epoch(tp)
                errors[tp] = error_for(code, text, broker=leader, partition=tp, leader_epoch=epoch)

    await asyncio.gather(*(ask(leader, mine) for leader, mine in leaders.items()))
    return found, errors


async def until_all_answer(
    network: Network,
    tps: Iterable[TopicPartition],
    timeout: float,
    once: Callable[[list[TopicPartition]], Awaitable[Results]],
) -> dict[TopicPartition, Any]:
    """Ask about what is missing until there is a value for every partition.

    Raises the last error of a partition when `timeout` seconds are over or the error is not one to retry.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    wanted = list(tps)
    found: dict[TopicPartition, Any] = {}
    attempts = 0
    while True:
        attempts += 1
        got, errors = await once([tp for tp in wanted if tp not in found])
        found.update(got)
        if not errors:
            return found
        wait = network.options.backoff.delay(attempts, network.options.rng)
        for error in errors.values():
            if not error.retriable or loop.time() + wait > deadline:
                raise error.about(attempts=attempts)
        network.request_refresh()
        await asyncio.sleep(wait)
