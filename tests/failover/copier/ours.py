"""By this library."""

from __future__ import annotations

from typing import Any

from ottla.client import AbortableTransactionError, Consumer, Producer, ProducerFenced
from tests.failover.copier.job import BLOCKED_MS, HEARTBEAT_MS, SESSION_MS, TRANSACTION_MS, GivenUp, Job

FENCED = (ProducerFenced,)
PATIENCE_S = None


async def copy(job: Job) -> None:
    """Until the job is stopping. Raises what the library does when it cannot go on."""
    group: dict[str, Any] = {"group_protocol": "consumer"}
    if job.protocol == "classic":
        group = {
            "group_instance_id": job.name,
            "session_timeout_ms": SESSION_MS,
            "heartbeat_interval_ms": HEARTBEAT_MS,
        }
    async with (
        Consumer(
            job.source,
            bootstrap_servers=job.bootstrap,
            group_id=job.group,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            **group,
        ) as consumer,
        Producer(
            bootstrap_servers=job.bootstrap,
            transactional_id=job.name,
            transaction_timeout_ms=TRANSACTION_MS,
            max_block_ms=BLOCKED_MS,
        ) as producer,
    ):
        job.say("ready")
        while not job.stopping:
            await _copy_some(job, consumer, producer)


async def _copy_some(job: Job, consumer: Consumer, producer: Producer) -> None:
    taken = await consumer.getmany(timeout_ms=300, max_records=job.most())
    if not taken:
        return
    group = consumer.group_metadata()
    job.begin()
    committing = False
    try:
        async with producer.transaction():
            job.wait("before the records")
            count = 0
            for tp, records in taken.items():
                for record in records:
                    partition, value = job.copy(tp.partition, record.offset, record.value)
                    await producer.send(job.target, value, partition=partition)
                    count += 1
            job.wait("before the offsets")
            places = {tp: records[-1].offset + 1 for tp, records in taken.items()}
            await producer.send_offsets_to_transaction(places, group)
            job.end(count)
            committing = True
    except GivenUp:
        job.say("aborted")
    except AbortableTransactionError as error:
        job.say("unclear" if committing and not error.definite else "aborted", error=repr(error))
    else:
        job.say("committed")
        return
    await consumer.seek_to_committed()
