"""DescribeTransactions, ListTransactions, DescribeProducers, and markers by hand (KIP-664, KIP-994)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from kio.schema.errors import ErrorCode

from ottla.client.admin.everybody import ask_everybody
from ottla.client.coordinator import GONE, TRANSACTION_KEY, Coordinator, at_coordinator
from ottla.client.errors import KafkaError, TransactionalIdNotFoundError, error_for
from ottla.client.leaders import PATIENCE, Results, ask_leaders, by_topic, until_all_answer
from ottla.client.network import Network
from ottla.client.structs import (
    OpenTransaction,
    ProducerState,
    TopicPartition,
    TransactionDescription,
    TransactionListing,
)

INIT_PRODUCER_ID: Final = 22
WRITE_TXN_MARKERS: Final = 27
DESCRIBE_PRODUCERS: Final = 61
DESCRIBE_TRANSACTIONS: Final = 65
LIST_TRANSACTIONS: Final = 66

_AT_ONCE: Final = 500
"""Most partitions that are asked about at a time when all of them are."""


async def list_all(
    network: Network,
    timeout: float,
    *,
    states: Collection[str],
    producer_ids: Collection[int],
    duration_ms: int,
    pattern: str | None,
) -> list[TransactionListing]:
    """ListTransactions (key 66), versions 0 to 2, of every broker: each knows those that it coordinates."""
    # A broker that does not know a filter would list everything.
    least = 2 if pattern is not None else 1 if duration_ms >= 0 else 0
    values = {
        "state_filters": tuple(states),
        "producer_id_filters": tuple(producer_ids),
        "duration_filter": duration_ms,
        "transactional_id_pattern": pattern,
    }
    found = {}
    for node, answer in (await ask_everybody(network, LIST_TRANSACTIONS, (least, 2), values, timeout)).items():
        if answer.unknown_state_filters:
            raise ValueError(f"there are no such states: {', '.join(answer.unknown_state_filters)}")
        for row in answer.transaction_states:
            name = row.transactional_id
            found[name] = TransactionListing(name, node, row.producer_id, row.transaction_state)
    return [found[name] for name in sorted(found)]


async def describe(network: Network, transactional_id: str, timeout: float) -> TransactionDescription:
    """DescribeTransactions (key 65). Raises TransactionalIdNotFoundError."""

    async def ask(coordinator: Coordinator) -> TransactionDescription:
        values = {"transactional_ids": (transactional_id,)}
        answer, node = await coordinator.call(DESCRIBE_TRANSACTIONS, (0, 0), values, timeout=PATIENCE)
        row = answer.transaction_states[0]
        _check(coordinator, row.error_code, transactional_id, node)
        return TransactionDescription(
            transactional_id,
            node,
            row.transaction_state,
            row.producer_id,
            row.producer_epoch,
            round(row.transaction_timeout.total_seconds() * 1000),
            _since_the_epoch(row.transaction_start_time),
            tuple(sorted(TopicPartition(topic.topic, index) for topic in row.topics for index in topic.partitions)),
        )

    return await at_coordinator(network, transactional_id, timeout, ask, key_type=TRANSACTION_KEY)


async def fence(network: Network, transactional_id: str, timeout: float) -> tuple[int, int]:
    """InitProducerId (key 22), as a new producer of that id would: its producer id and epoch."""

    async def ask(coordinator: Coordinator) -> tuple[int, int]:
        values = {
            "transactional_id": transactional_id,
            "transaction_timeout": 1,
            "producer_id": -1,
            "producer_epoch": -1,
        }
        answer, node = await coordinator.call(INIT_PRODUCER_ID, (0, 5), values, timeout=PATIENCE)
        _check(coordinator, answer.error_code, transactional_id, node)
        return answer.producer_id, answer.producer_epoch

    return await at_coordinator(network, transactional_id, timeout, ask, key_type=TRANSACTION_KEY)


async def describe_producers(
    network: Network, partitions: Iterable[TopicPartition], timeout: float, broker_id: int | None = None
) -> dict[TopicPartition, list[ProducerState]]:
    """DescribeProducers (key 61) of the leaders, or of one replica."""
    wanted = [TopicPartition(*tp) for tp in partitions]
    for topic in {tp.topic for tp in wanted}:
        await network.ensure_topic(topic, timeout)

    async def once(missing: list[TopicPartition]) -> Results:
        if broker_id is None:
            return await ask_leaders(
                network, missing, DESCRIBE_PRODUCERS, (0, 0), lambda _, tps: _question(tps), _producers
            )
        answer = await network.call(broker_id, DESCRIBE_PRODUCERS, (0, 0), _question(missing), timeout=PATIENCE)
        told = _producers(answer)
        errors: dict[TopicPartition, KafkaError] = {
            tp: error_for(row.error_code, row.error_message, broker=broker_id, partition=tp)
            for tp, (row, _) in told.items()
            if row.error_code is not ErrorCode.none
        }
        return {tp: producers for tp, (_, producers) in told.items() if tp not in errors}, errors

    return await until_all_answer(network, wanted, timeout, once)


async def abort(
    network: Network,
    partition: TopicPartition,
    *,
    producer_id: int,
    producer_epoch: int,
    coordinator_epoch: int,
    timeout: float,
) -> None:
    """WriteTxnMarkers (key 27), version 1, with an abort, to the partition's leader."""
    await network.ensure_topic(partition.topic, timeout)
    marker = {
        "producer_id": producer_id,
        "producer_epoch": producer_epoch,
        "transaction_result": False,
        "topics": [{"name": partition.topic, "partition_indexes": (partition.partition,)}],
        "coordinator_epoch": coordinator_epoch,
    }

    def read(answer: Any) -> dict[TopicPartition, tuple[Any, Any]]:
        return {
            TopicPartition(topic.name, row.partition_index): (row, None)
            for written in answer.markers
            for topic in written.topics
            for row in topic.partitions
        }

    async def once(missing: list[TopicPartition]) -> Results:
        return await ask_leaders(network, missing, WRITE_TXN_MARKERS, (1, 1), lambda *_: {"markers": [marker]}, read)

    await until_all_answer(network, [partition], timeout, once)


async def find_hanging(
    network: Network,
    partitions: Iterable[TopicPartition],
    timeout: float,
    *,
    broker_id: int | None,
    older_than_ms: int,
    now_ms: int,
) -> list[OpenTransaction]:
    """Open transactions without a record for so long, which nobody is going to end any more: no coordinator knows of
    the producer, or the partition is no part of its transaction (KIP-664)."""
    candidates = await _open_for_long(network, list(partitions), timeout, broker_id, now_ms - older_than_ms)
    if not candidates:
        return []
    owners = await list_all(
        network,
        timeout,
        states=(),
        producer_ids=sorted({each.producer.producer_id for each in candidates}),
        duration_ms=-1,
        pattern=None,
    )
    expected: dict[int, frozenset[TopicPartition]] = {}
    for owner in owners:
        try:
            described = await describe(network, owner.transactional_id, timeout)
        except TransactionalIdNotFoundError:
            continue
        expected[owner.producer_id] = frozenset(described.partitions)
    return [each for each in candidates if each.partition not in expected.get(each.producer.producer_id, ())]


async def _open_for_long(
    network: Network, partitions: list[TopicPartition], timeout: float, broker_id: int | None, before_ms: int
) -> list[OpenTransaction]:
    found = []
    for begin in range(0, len(partitions), _AT_ONCE):
        told = await describe_producers(network, partitions[begin : begin + _AT_ONCE], timeout, broker_id)
        found += [
            OpenTransaction(tp, producer)
            for tp, producers in told.items()
            for producer in producers
            if producer.transaction_start_offset is not None and producer.last_timestamp < before_ms
        ]
    return found


def _question(tps: list[TopicPartition]) -> Mapping[str, Any]:
    topics = by_topic(tps, lambda tp: tp.partition)
    return {"topics": [{"name": name, "partition_indexes": tuple(indexes)} for name, indexes in topics.items()]}


def _producers(answer: Any) -> dict[TopicPartition, tuple[Any, list[ProducerState]]]:
    return {
        TopicPartition(topic.name, row.partition_index): (row, [_state(each) for each in row.active_producers])
        for topic in answer.topics
        for row in topic.partitions
    }


def _state(row: Any) -> ProducerState:
    return ProducerState(
        row.producer_id,
        row.producer_epoch,
        row.last_sequence,
        row.last_timestamp,
        row.coordinator_epoch if row.coordinator_epoch >= 0 else None,
        row.current_txn_start_offset if row.current_txn_start_offset >= 0 else None,
    )


def _since_the_epoch(moment: datetime) -> int | None:
    """None where there is no transaction; a time before 1970 is read as 1970 (see `ottla.wire.walk`)."""
    return round(moment.timestamp() * 1000) or None


def _check(coordinator: Coordinator, code: ErrorCode, transactional_id: str, node: int) -> None:
    if code in GONE:
        coordinator.lost(node)
    if code is not ErrorCode.none:
        raise error_for(code, f"transactional id {transactional_id!r}", broker=node)
