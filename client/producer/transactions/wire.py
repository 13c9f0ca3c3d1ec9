"""The requests of a transaction as they go over the wire, and what their answers say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from kio.schema.errors import ErrorCode

from ottla.client.producer.batch import ProducerIdentity
from ottla.client.producer.transactions.model import (
    AddOffsets,
    AddPartitions,
    Answer,
    CommitOffsets,
    EndTxn,
    InitProducerId,
    Request,
)
from ottla.client.structs import ConsumerGroupMetadata, TopicPartition

INIT_PRODUCER_ID: Final = 22
ADD_PARTITIONS: Final = 24
ADD_OFFSETS: Final = 25
END_TXN: Final = 26
TXN_OFFSET_COMMIT: Final = 28

_NOBODY: Final = ("", -1, None)


class Message(NamedTuple):
    """`group` is whose coordinator is asked, None for that of the transactional id."""

    api_key: int
    versions: tuple[int, int]
    values: Mapping[str, Any]
    group: str | None = None


def message(request: Request, transactional_id: str, timeout_ms: int) -> Message:
    """How a request is written down; `timeout_ms` is the transaction's own timeout."""
    match request:
        case InitProducerId():
            producer_id, epoch = request.identity or (-1, -1)
            values: dict[str, Any] = {
                "transactional_id": transactional_id,
                "transaction_timeout": timeout_ms,
                "producer_id": producer_id,
                "producer_epoch": epoch,
            }
            # Before version 3 an epoch cannot be raised (KIP-360).
            return Message(INIT_PRODUCER_ID, (0 if request.identity is None else 3, 5), values)
        case AddPartitions():
            # From version 4 on it is a request between brokers.
            who = _who("v3_and_below_", transactional_id, request.identity)
            return Message(ADD_PARTITIONS, (0, 3), {**who, "v3_and_below_topics": _topics(request.partitions)})
        case AddOffsets():
            values = {**_who("", transactional_id, request.identity), "group_id": request.group_id}
            return Message(ADD_OFFSETS, (0, 4), values)
        case EndTxn():
            values = {**_who("", transactional_id, request.identity), "committed": request.commit}
            return Message(END_TXN, (5, 5) if request.second else (0, 4), values)
        case CommitOffsets():
            values = {**_who("", transactional_id, request.identity), **_offsets(request)}
            least = 0 if _member(request.group) == _NOBODY else 3
            return Message(TXN_OFFSET_COMMIT, (5, 5) if request.second else (least, 4), values, request.group.group_id)


def answer(request: Request, response: Any, broker: int) -> Answer:
    """What a response says. A partition that it leaves out has an UNKNOWN_SERVER_ERROR."""
    match request:
        case AddPartitions():
            told = {
                TopicPartition(topic.name, row.partition_index): row.partition_error_code
                for topic in response.results_by_topic_v3_and_below
                for row in topic.results_by_partition
            }
            return Answer(_complete(request.partitions, told), broker)
        case CommitOffsets():
            told = {
                TopicPartition(topic.name, row.partition_index): row.error_code
                for topic in response.topics
                for row in topic.partitions
            }
            return Answer(_complete(request.offsets, told), broker)
        case InitProducerId() | EndTxn() | AddOffsets():
            producer_id = getattr(response, "producer_id", -1)
            identity = ProducerIdentity(producer_id, response.producer_epoch) if producer_id >= 0 else None
            return Answer({None: response.error_code}, broker, identity)


def _who(prefix: str, transactional_id: str, identity: ProducerIdentity) -> dict[str, Any]:
    return {
        f"{prefix}transactional_id": transactional_id,
        f"{prefix}producer_id": identity.producer_id,
        f"{prefix}producer_epoch": identity.epoch,
    }


def _topics(partitions: Iterable[TopicPartition]) -> list[dict[str, Any]]:
    by_name: dict[str, list[int]] = {}
    for tp in partitions:
        by_name.setdefault(tp.topic, []).append(tp.partition)
    return [{"name": name, "partitions": tuple(indexes)} for name, indexes in by_name.items()]


def _offsets(request: CommitOffsets) -> dict[str, Any]:
    topics: dict[str, list[dict[str, Any]]] = {}
    for tp, place in request.offsets.items():
        row = {
            "partition_index": tp.partition,
            "committed_offset": place.offset,
            "committed_leader_epoch": place.leader_epoch,
            "committed_metadata": place.metadata,
        }
        topics.setdefault(tp.topic, []).append(row)
    member_id, generation, instance_id = _member(request.group)
    return {
        "group_id": request.group.group_id,
        "generation_id": generation,
        "member_id": member_id,
        "group_instance_id": instance_id,
        "topics": [{"name": name, "partitions": rows} for name, rows in topics.items()],
    }


def _member(group: ConsumerGroupMetadata) -> tuple[str, int, str | None]:
    return group.member_id, group.generation_id, group.group_instance_id


def _complete(
    asked: Iterable[TopicPartition], told: Mapping[TopicPartition, ErrorCode]
) -> dict[TopicPartition | None, ErrorCode]:
    return {tp: told.get(tp, ErrorCode.unknown_server_error) for tp in asked}
