"""By confluent-kafka.

Not as a static member: librdkafka 2.16 may stand still, and say nothing, when such a one finds its session over and is
fenced by another of its name. And its calls may wait for ever for a coordinator that has died (librdkafka #5511): then
the copier ends, and the next one goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tests.failover.copier.job import HEARTBEAT_MS, SESSION_MS, TRANSACTION_MS, GivenUp, Job

T = TypeVar("T")

PATIENCE_S = 8


class Fenced(Exception):
    """By a newer producer of the same transactional id."""


FENCED = (Fenced,)


async def copy(job: Job) -> None:
    """Until the job is stopping. Raises Fenced, KafkaException."""
    await asyncio.to_thread(_copy, job)


def _copy(job: Job) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": job.bootstrap,
            "group.id": job.group,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": HEARTBEAT_MS,
        }
    )
    consumer.subscribe([job.source])
    producer = Producer(
        {"bootstrap.servers": job.bootstrap, "transactional.id": job.name, "transaction.timeout.ms": TRANSACTION_MS}
    )
    _until_done(lambda: producer.init_transactions(PATIENCE_S))
    job.say("ready")
    while not job.stopping:
        messages = [each for each in consumer.consume(job.most(), 0.3) if each.error() is None]
        if messages:
            _copy_some(job, consumer, producer, messages)
    # Only in good order: it waits for its coordinator, too.
    consumer.close()


def _copy_some(job: Job, consumer: Consumer, producer: Producer, messages: list[Message]) -> None:
    group = consumer.consumer_group_metadata()
    job.begin()
    _until_done(producer.begin_transaction)
    committing = False
    try:
        job.wait("before the records")
        ends: dict[int, int] = {}
        for message in messages:
            source, offset = message.partition(), message.offset()
            assert source is not None and offset is not None
            partition, value = job.copy(source, offset, message.value())
            producer.produce(job.target, value, partition=partition)
            ends[source] = offset + 1
        job.wait("before the offsets")
        places = [TopicPartition(job.source, source, end) for source, end in ends.items()]
        _until_done(lambda: producer.send_offsets_to_transaction(places, group, PATIENCE_S))
        job.end(len(messages))
        committing = True
        _until_done(lambda: producer.commit_transaction(PATIENCE_S))
    except GivenUp:
        pass
    except KafkaException as error:
        if not error.args[0].txn_requires_abort():
            raise
        if committing:
            job.say("unclear", error=repr(error))
    else:
        job.say("committed")
        return
    _until_done(lambda: producer.abort_transaction(PATIENCE_S))
    if not committing:
        job.say("aborted")
    _rewind(job, consumer)


def _rewind(job: Job, consumer: Consumer) -> None:
    """To where the group is."""
    for place in consumer.committed(consumer.assignment(), PATIENCE_S):
        if place.error is not None:
            raise KafkaException(place.error)
        place.offset = max(place.offset, 0)
        consumer.seek(place)


def _until_done(call: Callable[[], T]) -> T:
    """Again and again while the library says that this is the thing to do. Raises Fenced, KafkaException."""
    while True:
        try:
            return call()
        except KafkaException as error:
            found = error.args[0]
            if found.code() == KafkaError._FENCED:
                raise Fenced(str(found)) from error
            if not found.retriable():
                raise
