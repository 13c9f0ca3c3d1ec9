"""Refusals of brokers as errors of the program."""

from __future__ import annotations

from typing import Final

from kio.schema.errors import ErrorCode

from ottla.client.errors import (
    BrokerResponseError,
    CommitFailedError,
    FatalTransactionError,
    KafkaError,
    ProducerFenced,
    error_for,
)
from ottla.client.producer.transactions.model import CommitOffsets, Meaning, Request
from ottla.client.structs import TopicPartition

_NOT_OWNED: Final = frozenset({ErrorCode.unknown_member_id, ErrorCode.illegal_generation, ErrorCode.stale_member_epoch})

_FATAL_IN_PRODUCE: Final = frozenset(
    {
        ErrorCode.cluster_authorization_failed,
        ErrorCode.transactional_id_authorization_failed,
        ErrorCode.producer_fenced,
        ErrorCode.unsupported_version,
        ErrorCode.invalid_producer_id_mapping,
    }
)
"""Errors of a batch after which aborting does not help (as in KafkaProducer)."""


def is_fatal_for_producer(cause: KafkaError) -> bool:
    """Whether the producer of a record that was given up for this reason can do no more."""
    if isinstance(cause, BrokerResponseError) and cause.code in _FATAL_IN_PRODUCE:
        return True
    return isinstance(cause, FatalTransactionError)


def error_of(
    request: Request,
    transactional_id: str,
    code: ErrorCode,
    means: Meaning,
    broker: int,
    partition: TopicPartition | None,
    attempts: int,
) -> KafkaError:
    """What a coordinator's refusal of a request is to the program."""
    text = f"{type(request).__name__} of transactional id {transactional_id!r}"
    if means is Meaning.FENCED:
        return ProducerFenced(code, text, broker=broker, partition=partition, attempts=attempts)
    if isinstance(request, CommitOffsets) and code in _NOT_OWNED:
        return CommitFailedError(code, text, broker=broker, partition=partition, attempts=attempts)
    return error_for(code, text, broker=broker, partition=partition, attempts=attempts)
