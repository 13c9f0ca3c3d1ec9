"""Produce within transactions: what is verified with the coordinator before anything of the request is appended.

Once for each transaction and partition (KIP-890): with transactions v1 the leader asks whether the producer has added
the partition, with v2 it has it added. What was asked for is noted in the state of the producer, so that the append
finds out whether a marker has come in between; a batch that nobody asked about is never appended (CVE-2018-17196).

While an answer is awaited nothing else of the connection is looked at: what follows may belong behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from kio.schema.errors import ErrorCode

from ottla.broker.batch_checks import BadBatch
from ottla.broker.context import BrokerContext
from ottla.broker.leadership import led_partition
from ottla.broker.transactions import Producer
from ottla.log import Verification
from ottla.records import HEADER_SIZE, BatchHeader, read_header
from ottla.wire import ProduceRequest

ABORTABLE_SINCE: Final = 11
TRANSACTIONS_V2_SINCE: Final = 12
_MAGIC: Final = 2

_Place = tuple[int, str, int, BatchHeader]

_FINAL: Final = frozenset(
    {
        ErrorCode.invalid_txn_state,
        ErrorCode.invalid_producer_epoch,
        ErrorCode.invalid_producer_id_mapping,
        ErrorCode.transaction_abortable,
        ErrorCode.unknown_topic_or_partition,
    }
)


@dataclass(slots=True)
class Verifying:
    """By slot, the n-th partition of the request: `verifications` go with the appends, `refused` are not appended,
    `answers` are what the coordinator owes."""

    verifications: dict[int, Verification] = field(default_factory=dict)
    refused: dict[int, BadBatch] = field(default_factory=dict)
    answers: dict[int, asyncio.Future[ErrorCode]] = field(default_factory=dict)
    _given_up: bool = False

    def give_up(self) -> None:
        """The client has gone: nothing is appended any more. It may say the same again, to whom it likes."""
        self._given_up = True

    def then(self, version: int, ready: Callable[[], None]) -> None:
        """Call `ready` when all answers have come, from a callback of its own; `version` is the request's."""
        left = set(self.answers)

        def answered(slot: int, future: asyncio.Future[ErrorCode]) -> None:
            error = ErrorCode.network_exception if future.cancelled() else future.result()
            if error is not ErrorCode.none:
                self.refused[slot] = told(error, version)
            left.remove(slot)
            if not left and not self._given_up:
                ready()

        for slot, future in self.answers.items():
            future.add_done_callback(partial(answered, slot))


def verify(context: BrokerContext, version: int, body: ProduceRequest, transactional_id: str) -> Verifying | ErrorCode:
    """Ask about what has to be asked about. INVALID_PRODUCER_ID_MAPPING for a request of more than one producer."""
    places = _transactional(body)
    if len({(header.producer_id, header.producer_epoch) for *_, header in places}) > 1:
        return ErrorCode.invalid_producer_id_mapping
    verifying = Verifying()
    bumps_epoch = version >= TRANSACTIONS_V2_SINCE
    for slot, topic, index, header in places:
        partition = led_partition(context, topic, index)
        if isinstance(partition, ErrorCode):
            continue  # as the append will find
        assert partition.log is not None, "what leads has a log"
        producer, producers = Producer(header.producer_id, header.producer_epoch), partition.log.producers
        question = producers.ask(producer.id, producer.epoch, header.base_sequence, strict=bumps_epoch)
        if isinstance(question, ErrorCode):
            verifying.refused[slot] = BadBatch(question, "The producer is fenced by a later one.")
        elif question is not None:
            verifying.verifications[slot] = question
            verifying.answers[slot] = context.verifier.ask(
                transactional_id,
                producer,
                (topic, index),
                add=bumps_epoch,
                known_epoch=producers.coordinator_epoch(producer.id),
            )
    return verifying


def _transactional(body: ProduceRequest) -> list[_Place]:
    """The batches that are part of a transaction, as far as that can be told before they are checked."""
    found: list[_Place] = []
    slot = 0
    for topic, partitions in body.topics:
        for index, records in partitions:
            if records is not None and len(records) >= HEADER_SIZE:
                header = read_header(records)
                if header.magic == _MAGIC and header.is_transactional and header.producer_id >= 0:
                    found.append((slot, topic, index, header))
            slot += 1
    return found


def told(error: ErrorCode, version: int) -> BadBatch:
    """What a producer makes the right thing of, where the coordinator has said `error` (Kafka's mapping).

    Older clients do not retry what passes by as they should; after NOT_ENOUGH_REPLICAS they all do, without asking for
    new metadata. To one of transactions v2 it is no news that the last transaction is not over yet.
    """
    if error is ErrorCode.transaction_abortable and version < ABORTABLE_SINCE:
        error = ErrorCode.invalid_txn_state
    if error in _FINAL or (error is ErrorCode.concurrent_transactions and version >= TRANSACTIONS_V2_SINCE):
        return BadBatch(error, f"The coordinator of the transaction does not have it so: {error.name}.")
    return BadBatch(
        ErrorCode.not_enough_replicas,
        f"Whether the partition is part of the transaction could not be verified: {error.name}.",
    )
