"""AlterPartitionReassignments, v0-v1: other replicas for partitions, or an end to what is under way (KIP-455).

v1 allow_replication_factor_change (KIP-860).

Differences from Kafka: replicas that are being added do not raise the number of in-sync replicas that acks=all asks for
until they are all in sync. A second target keeps to the replicas that there were before the first: who was being added
for the first and has nothing yet is dropped at once, and a cancellation goes back to before both.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.forwarding import Refusal, ask_controller, by_topic, seconds
from ottla.controller import AlterPartitionReassignments, PartitionResult, Reassignment
from ottla.wire import Request


async def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    wanted = tuple(
        Reassignment(
            topic=topic.name,
            partition=partition.partition_index,
            replicas=None if partition.replicas is None else tuple(partition.replicas),
        )
        for topic in body.topics
        for partition in topic.partitions
    )
    allow = getattr(body, "allow_replication_factor_change", True)
    question = AlterPartitionReassignments(partitions=wanted, allow_replication_factor_change=allow)
    answer = await ask_controller(context, question, seconds(body.timeout))
    if isinstance(answer, Refusal):
        error, message = answer.error, answer.message
        results = tuple(
            PartitionResult(topic=each.topic, partition=each.partition, error=error.value, message=message)
            for each in wanted
        )
    else:
        error, message, results = ErrorCode.none, None, answer.partitions
    return {
        "allow_replication_factor_change": allow,
        "error_code": error,
        "error_message": message,
        "responses": [
            {
                "name": topic,
                "partitions": [
                    {
                        "partition_index": row.partition,
                        "error_code": ErrorCode(row.error),
                        "error_message": row.message,
                    }
                    for row in rows
                ],
            }
            for topic, rows in by_topic(results).items()
        ],
    }
