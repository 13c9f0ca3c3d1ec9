"""By aiokafka.

It commits offsets by the name of the group alone (before KIP-447), so the transactional id is all that protects it.
Partitions belong to an id for ever, by assignment: with a subscription, after a rebalance, it would begin at what was
committed before the transaction that is under way. And the producer, which settles what its predecessor has left, is
there before anybody asks where to begin.

It is not asked itself where the group is: to aiokafka 0.14 any error of OffsetFetch v2 and later (such as
NOT_COORDINATOR) is an answer without offsets, and it would begin at the beginning. It may also wait for ever for a
coordinator that has died (aiokafka #1145): then the copier ends, and the next one goes on.
"""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced  # type: ignore[import-untyped]

from ottla.client import Admin
from tests.failover.copier.job import TRANSACTION_MS, GivenUp, Job

FENCED = (ProducerFenced, InvalidProducerEpoch)
PATIENCE_S = 8


async def copy(job: Job) -> None:
    """Until the job is stopping. Raises what the library does, at the first thing that goes wrong."""
    producer = AIOKafkaProducer(
        bootstrap_servers=job.bootstrap, transactional_id=job.name, transaction_timeout_ms=TRANSACTION_MS
    )
    consumer = AIOKafkaConsumer(
        bootstrap_servers=job.bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        metadata_max_age_ms=2000,
    )
    await producer.start()
    await consumer.start()
    async with Admin(bootstrap_servers=job.bootstrap) as admin:
        places = await admin.list_consumer_group_offsets(job.group, require_stable=True)
    begin = {TopicPartition(job.source, partition): 0 for partition in range(job.partitions)}
    begin |= {TopicPartition(*tp): place.offset for tp, place in places.items()}
    consumer.assign(list(begin))
    for tp, offset in begin.items():
        consumer.seek(tp, offset)
    job.say("ready")
    while not job.stopping:
        await _copy_some(job, consumer, producer)
    # What it leaves open is nothing; its `stop` waits for nodes that are gone.


async def _copy_some(job: Job, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
    taken = await consumer.getmany(timeout_ms=300, max_records=job.most())
    if not taken:
        return
    job.begin()
    await producer.begin_transaction()
    job.wait("before the records")
    count = 0
    for tp, records in taken.items():
        for record in records:
            partition, value = job.copy(tp.partition, record.offset, record.value)
            await producer.send(job.target, value, partition=partition)
            count += 1
    job.wait("before the offsets")
    await producer.send_offsets_to_transaction({tp: records[-1].offset + 1 for tp, records in taken.items()}, job.group)
    try:
        job.end(count)
    except GivenUp:
        await producer.abort_transaction()
        job.say("aborted")
        for tp, records in taken.items():
            consumer.seek(tp, records[0].offset)
        return
    await producer.commit_transaction()
    job.say("committed")
