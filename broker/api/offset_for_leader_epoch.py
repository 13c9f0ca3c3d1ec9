"""OffsetForLeaderEpoch, v2-v4: where a leader epoch ends (KIP-101, KIP-279, KIP-320).

v3 replica id · v4 flexible.

The answer is the largest epoch not above the one asked for and its end offset, (-1, -1) when there is none.

Differences from Kafka: an epoch above the leader's own is UNKNOWN_LEADER_EPOCH, so that the client looks for the leader
that it is of. Kafka answers (-1, -1), by which a leader that was replaced and does not know has consumers begin anew.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.leadership import led_partition
from ottla.wire import Request


def handle(context: BrokerContext, request: Request) -> Answer:
    return {
        "topics": [
            {
                "topic": topic.topic,
                "partitions": [
                    _end(context, topic.topic, row.partition, row.current_leader_epoch, row.leader_epoch)
                    for row in topic.partitions
                ],
            }
            for topic in request.body.topics
        ]
    }


def _end(context: BrokerContext, topic: str, index: int, current_epoch: int, epoch: int) -> dict[str, object]:
    partition = led_partition(context, topic, index, current_epoch)
    if isinstance(partition, ErrorCode):
        return {"partition": index, "error_code": partition, "leader_epoch": -1, "end_offset": -1}
    if epoch > partition.leader_epoch:
        error = ErrorCode.unknown_leader_epoch
        return {"partition": index, "error_code": error, "leader_epoch": -1, "end_offset": -1}
    assert partition.log is not None, "what leads has a log"
    known, end_offset = partition.log.end_offset_for_epoch(epoch)
    return {"partition": index, "error_code": ErrorCode.none, "leader_epoch": known, "end_offset": end_offset}
