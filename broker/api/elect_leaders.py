"""ElectLeaders, v0-v2: the preferred replica in its place, or any live one where there is no other (KIP-183, KIP-460).

v1 election type (v0 has only preferred), top-level error.

Differences from Kafka: in an unclean election a replica that is only being added is chosen last; Kafka goes by the
order of replicas alone.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.forwarding import Refusal, ask_controller, by_topic, seconds
from ottla.controller import ElectLeaders, PartitionName, PartitionResult
from ottla.wire import Request

PREFERRED, UNCLEAN = 0, 1


async def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    election = getattr(body, "election_type", PREFERRED)
    partitions = (
        None
        if body.topic_partitions is None
        else tuple(
            PartitionName(topic=topic.topic, partition=index)
            for topic in body.topic_partitions
            for index in topic.partitions
        )
    )
    if election not in (PREFERRED, UNCLEAN):
        return _refused(Refusal(ErrorCode.invalid_request, f"Unknown election type {election}."), partitions)
    question = ElectLeaders(election="unclean" if election == UNCLEAN else "preferred", partitions=partitions)
    answer = await ask_controller(context, question, seconds(body.timeout))
    return _refused(answer, partitions) if isinstance(answer, Refusal) else _answer(ErrorCode.none, answer.results)


def _refused(refusal: Refusal, partitions: tuple[PartitionName, ...] | None) -> Answer:
    results = tuple(
        PartitionResult(topic=each.topic, partition=each.partition, error=refusal.error.value, message=refusal.message)
        for each in dict.fromkeys(partitions or ())
    )
    return _answer(refusal.error, results)


def _answer(error: ErrorCode, results: tuple[PartitionResult, ...]) -> Answer:
    return {
        "error_code": error,
        "replica_election_results": [
            {
                "topic": topic,
                "partition_result": [
                    {
                        "partition_id": row.partition,
                        "error_code": ErrorCode(row.error),
                        "error_message": row.message,
                    }
                    for row in rows
                ],
            }
            for topic, rows in by_topic(results).items()
        ],
    }
